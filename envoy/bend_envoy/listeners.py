"""The two doors: HTTPS for everybody, plain HTTP on loopback for curl on the same machine."""

from bend_envoy.replies import local_replies
from bend_envoy.routes import transcoder, virtual_host
from bend_envoy.settings import GatewaySettings
from bend_envoy.types import CORS_FILTER, TRANSCODER_FILTER, Json, named

CERTIFICATE = "gateway"
STREAMS_MAX = 10_000
STREAM_WINDOW_BYTES = 1024 * 1024
CONNECTION_WINDOW_BYTES = 8 * 1024 * 1024
HEADERS_KB_MAX = 60
# Names by which a program on this machine reaches the loopback door. Anything else in `Host` is
# a browser that was led here by somebody's DNS.
LOOPBACK_HOSTS = ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[::1]:*"]


def listeners(settings: GatewaySettings) -> list[Json]:
    """Return the listeners."""
    doors = [_https(settings)]
    if settings.http_port is not None:
        doors.append(_http(settings, settings.http_port))
    return doors


def certificate(settings: GatewaySettings) -> list[Json]:
    """Return where TLS contexts find the gateway's certificate: a file that is watched."""
    return [
        {
            "name": CERTIFICATE,
            "sds_config": {
                "resource_api_version": "V3",
                "path_config_source": {
                    "path": str(settings.secrets_file),
                    "watched_directory": {"path": str(settings.run_folder)},
                },
            },
        }
    ]


def _https(settings: GatewaySettings) -> Json:
    tls = named(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        # A client without a certificate may come in; the servers ask it for a token.
        require_client_certificate=False,
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificate_sds_secret_configs": certificate(settings),
            "validation_context": {"trusted_ca": {"filename": str(settings.ca_file)}},
        },
    )
    return {
        **_listener("https", settings.https_address, settings.https_port),
        "filter_chains": [
            {"transport_socket": tls, "filters": [_connections(settings, "https", ["*"])]}
        ],
    }


def _http(settings: GatewaySettings, port: int) -> Json:
    return {
        **_listener("http", "127.0.0.1", port),
        "filter_chains": [{"filters": [_connections(settings, "http", LOOPBACK_HOSTS)]}],
    }


def _listener(name: str, address: str, port: int) -> Json:
    return {
        "name": name,
        "address": {"socket_address": {"address": address, "port_value": port}},
        "per_connection_buffer_limit_bytes": STREAM_WINDOW_BYTES,
        # Two meshes on one machine must not share a port silently.
        "enable_reuse_port": False,
    }


def _connections(settings: GatewaySettings, listener: str, domains: list[str]) -> Json:
    return named(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=listener,
        server_name="bend",
        use_remote_address=True,
        forward_client_cert_details="SANITIZE",
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        max_request_headers_kb=HEADERS_KB_MAX,
        common_http_protocol_options={"idle_timeout": "3600s", "max_headers_count": 100},
        http2_protocol_options={
            "max_concurrent_streams": STREAMS_MAX,
            "initial_stream_window_size": STREAM_WINDOW_BYTES,
            "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
            "connection_keepalive": {"interval": "30s", "timeout": "10s"},
        },
        stream_idle_timeout="300s",
        request_headers_timeout="10s",
        early_header_mutation_extensions=[_identity(listener)],
        local_reply_config=local_replies(),
        http_filters=_filters(),
        route_config={
            "name": listener,
            "virtual_hosts": [virtual_host(settings, domains)],
            "response_headers_to_add": [
                {
                    "header": {"key": "x-content-type-options", "value": "nosniff"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ],
        },
    )


def _identity(listener: str) -> Json:
    """Strip what only the gateway may say, then say it: before anything else sees the request."""
    return named(
        "bend.identity",
        "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            {"remove_on_match": {"key_matcher": {"prefix": "x-bend-", "ignore_case": True}}},
            {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}},
            {
                "append": {
                    "header": {"key": "x-bend-peer", "value": "%DOWNSTREAM_PEER_URI_SAN%"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            },
            {
                "append": {
                    "header": {"key": "x-bend-listener", "value": listener},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            },
        ],
    )


def _filters() -> list[Json]:
    return [
        named(CORS_FILTER, "extensions.filters.http.cors.v3.Cors"),
        named("envoy.filters.http.grpc_web", "extensions.filters.http.grpc_web.v3.GrpcWeb"),
        # Off here and on by route, so that a path of nobody is the gateway's 404.
        {
            "name": TRANSCODER_FILTER,
            "disabled": True,
            "typed_config": transcoder(),
        },
        named("envoy.filters.http.router", "extensions.filters.http.router.v3.Router"),
    ]
