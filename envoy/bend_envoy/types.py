"""Names of Envoy's typed configurations, and how they are written in JSON."""

from typing import Any

Json = dict[str, Any]

_PREFIX = "type.googleapis.com/envoy."
TRANSCODER_FILTER = "envoy.filters.http.grpc_json_transcoder"
CORS_FILTER = "envoy.filters.http.cors"


def typed(kind: str, /, **fields: Any) -> Json:
    """Return a typed configuration; `kind` is its name without `envoy.`."""
    return {"@type": _PREFIX + kind, **fields}


def named(name: str, kind: str, /, **fields: Any) -> Json:
    """Return a named extension with its typed configuration."""
    return {"name": name, "typed_config": typed(kind, **fields)}
