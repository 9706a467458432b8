"""The whole configuration of one gateway process."""

import json

from bend_envoy.clusters import clusters
from bend_envoy.listeners import CERTIFICATE, listeners
from bend_envoy.settings import GatewaySettings
from bend_envoy.types import typed

CONNECTIONS_MAX = 50_000
OWNER_ONLY = 0o600


def render(settings: GatewaySettings) -> str:
    """Return Envoy's configuration as JSON. It holds no secret, only names of files."""
    return json.dumps(
        {
            "node": {"id": settings.node, "cluster": "bend-gateway"},
            "admin": {
                "address": {"pipe": {"path": str(settings.admin_socket), "mode": OWNER_ONLY}}
            },
            "overload_manager": {
                "resource_monitors": [
                    {
                        "name": "envoy.resource_monitors.global_downstream_max_connections",
                        "typed_config": typed(
                            "extensions.resource_monitors.downstream_connections.v3"
                            ".DownstreamConnectionsConfig",
                            max_active_downstream_connections=CONNECTIONS_MAX,
                        ),
                    }
                ]
            },
            "static_resources": {
                "listeners": listeners(settings),
                "clusters": clusters(settings),
            },
        },
        indent=1,
    )


def render_secrets(settings: GatewaySettings) -> str:
    """Return the file that names the certificate: content of `settings.secrets_file`.

    Envoy reads certificate and key again when either is replaced by a rename in its folder.
    """
    return json.dumps(
        {
            "resources": [
                typed(
                    "extensions.transport_sockets.tls.v3.Secret",
                    name=CERTIFICATE,
                    tls_certificate={
                        "certificate_chain": {"filename": str(settings.cert_file)},
                        "private_key": {"filename": str(settings.key_file)},
                        "watched_directory": {"path": str(settings.cert_file.parent)},
                    },
                )
            ]
        },
        indent=1,
    )
