"""Renders the gateway's Envoy configuration."""
