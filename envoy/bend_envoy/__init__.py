"""The gateway: renders Envoy's JSON configuration from settings (map: envoy/README.md)."""

from bend_envoy.config import render, render_secrets
from bend_envoy.program import arguments
from bend_envoy.settings import GatewaySettings, Upstream

__all__ = ["GatewaySettings", "Upstream", "arguments", "render", "render_secrets"]
