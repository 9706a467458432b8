"""Which service takes which path, and for how long.

A REST request is routed twice: once by its own path, which only turns the transcoder on, and once
more by the path of the RPC that it became. Time limits, retries and the cluster are those of the
second route, so they are the same for REST and gRPC.
"""

import re
from importlib.resources import files

from bend_envoy.settings import BODY_BYTES_MAX, RESPONSE_BYTES_MAX, GatewaySettings
from bend_envoy.types import CORS_FILTER, TRANSCODER_FILTER, Json, typed

# A little above the servers' own limits (30 s, and 1 h of waiting), so that they answer first,
# with an error that says what happened.
USUAL_S = 35
WAIT_S = 3660
ENGINE = "bend.v1.EngineService"
REGISTRY = "bend.v1.RegistryService"
EXECUTOR = "bend.v1.ExecutorService"
OPERATIONS = "bend.v1.OperationsService"
TRANSCODED = (ENGINE, REGISTRY, EXECUTOR, OPERATIONS)
STREAMS = ("WatchExecution", "WatchExecutions")
WAITS = ("RunWorkflow", "WaitExecution")
REST_PATHS: tuple[Json, ...] = (
    {"prefix": "/v1/"},
    {"path": "/readyz"},
    {"path": "/openapi.json"},
)


def routes(settings: GatewaySettings) -> list[Json]:
    """Return all routes; the first match wins."""
    engine, registry = settings.engine.name, settings.registry.name
    return [
        _foreign_page(settings),
        _health(),
        *(
            {
                "match": match,
                "route": {"cluster": engine, **_usual()},
                "typed_per_filter_config": {TRANSCODER_FILTER: transcoder()},
            }
            for match in REST_PATHS
        ),
        *(_rpc(f"/{ENGINE}/{name}", engine, _unbounded()) for name in STREAMS),
        *(_rpc(f"/{ENGINE}/{name}", engine, _waiting()) for name in WAITS),
        _service(ENGINE, engine, _usual()),
        _service(OPERATIONS, engine, _usual()),
        _service(REGISTRY, registry, _usual()),
        _rpc(f"/{EXECUTOR}/Connect", settings.executor.name, _unbounded()),
        _service(EXECUTOR, settings.executor.name, _usual()),
        {"match": {"prefix": "/"}, "direct_response": _answer(404, "no such path")},
    ]


def virtual_host(settings: GatewaySettings, domains: list[str]) -> Json:
    """Return the virtual host that serves these domains."""
    host: Json = {"name": "bend", "domains": domains, "routes": routes(settings)}
    if settings.cors_origins:
        host["typed_per_filter_config"] = {
            CORS_FILTER: typed(
                "extensions.filters.http.cors.v3.CorsPolicy",
                allow_origin_string_match=[{"exact": origin} for origin in settings.cors_origins],
                allow_methods="GET, POST, PUT, DELETE, OPTIONS",
                allow_headers="authorization, content-type, last-event-id, bend-namespace, "
                "x-grpc-web, x-user-agent, grpc-timeout, traceparent",
                expose_headers="grpc-status, grpc-message, grpc-status-details-bin, x-request-id",
                max_age="600",
            )
        }
    return host


def transcoder() -> Json:
    """Return the transcoder's configuration: REST by the annotations of the protos."""
    return typed(
        "extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=str(files("bend_envoy") / "bend.binpb"),
        services=list(TRANSCODED),
        convert_grpc_status=True,
        max_request_body_size=BODY_BYTES_MAX,
        max_response_body_size=RESPONSE_BYTES_MAX,
        print_options={"preserve_proto_field_names": True, "always_print_primitive_fields": True},
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
    )


def _foreign_page(settings: GatewaySettings) -> Json:
    """Refuse a page of another origin, even in a browser that holds a client certificate.

    Programs send no Origin. A page served by this gateway names the gateway itself.
    """
    own = [
        f"{scheme}://{host}:{port}"
        for scheme, port in (("https", settings.https_port), ("http", settings.http_port))
        for host in ("localhost", "127.0.0.1", settings.https_address)
    ]
    known = "|".join(re.escape(origin) for origin in dict.fromkeys((*own, *settings.cors_origins)))
    return {
        "match": {
            "prefix": "/",
            "headers": [
                {"name": "origin", "present_match": True},
                {
                    "name": "origin",
                    "string_match": {"safe_regex": {"regex": known}},
                    "invert_match": True,
                },
            ],
        },
        "direct_response": _answer(403, "pages of this origin may not call"),
    }


def _answer(status: int, text: str) -> Json:
    return {"status": status, "body": {"inline_string": text}}


def _health() -> Json:
    return {
        "match": {"path": "/healthz"},
        "direct_response": _answer(200, '{"status":"ok"}'),
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def _rpc(path: str, cluster: str, limits: Json) -> Json:
    return {"match": {"path": path}, "route": {"cluster": cluster, **limits}}


def _service(name: str, cluster: str, limits: Json) -> Json:
    return {"match": {"prefix": f"/{name}/"}, "route": {"cluster": cluster, **limits}}


def _usual() -> Json:
    return {"timeout": f"{USUAL_S}s", "retry_policy": _retries()}


def _waiting() -> Json:
    return {"timeout": f"{WAIT_S}s", "idle_timeout": "0s", "retry_policy": _retries()}


def _unbounded() -> Json:
    return {"timeout": "0s", "idle_timeout": "0s", "retry_policy": _retries()}


def _retries() -> Json:
    """Return retries of calls that surely never reached a server: safe for every RPC.

    Calls that may have been served are retried by the outermost caller alone.
    """
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": 3,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
        "retry_host_predicate": [
            {
                "name": "previous_hosts",
                "typed_config": typed(
                    "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                ),
            }
        ],
        "host_selection_retry_max_attempts": 3,
    }
