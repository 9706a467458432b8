"""The services behind the gateway: mutual TLS, health checks, no hidden limits."""

from bend_envoy.listeners import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, certificate
from bend_envoy.settings import GatewaySettings, Upstream
from bend_envoy.types import Json, named, typed

# Envoy's default of 1,024 would stop long-lived streams; the servers bound themselves.
MANY = 1_000_000


def clusters(settings: GatewaySettings) -> list[Json]:
    """Return the clusters, each once even when services share a process."""
    unique = {upstream.name: upstream for upstream in settings.upstreams}
    return [_cluster(settings, upstream) for upstream in unique.values()]


def _cluster(settings: GatewaySettings, upstream: Upstream) -> Json:
    return {
        "name": upstream.name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {
            "cluster_name": upstream.name,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {
                            "endpoint": {
                                "address": {
                                    "socket_address": {"address": address, "port_value": port}
                                }
                            }
                        }
                        for address, port in upstream.endpoints
                    ]
                }
            ],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={
                    "http2_protocol_options": {
                        "initial_stream_window_size": STREAM_WINDOW_BYTES,
                        "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
                    }
                },
            )
        },
        # With all replicas unhealthy an honest UNAVAILABLE is better than a guess.
        "common_lb_config": {
            "healthy_panic_threshold": {"value": 0},
            # By default what health checks find within a second of another finding is held back
            # to its end: a replica that was started again would wait as long for its calls.
            "update_merge_window": "0s",
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "priority": "DEFAULT",
                    "max_connections": MANY,
                    "max_pending_requests": MANY,
                    "max_requests": MANY,
                    "max_retries": 1024,
                }
            ]
        },
        "health_checks": [_health(settings, upstream)],
        "transport_socket": _tls(settings, upstream),
    }


def _health(settings: GatewaySettings, upstream: Upstream) -> Json:
    return {
        "timeout": "2s",
        "interval": f"{settings.health_interval_s}s",
        # Applies until the first request: a gateway that has just started must look closely.
        "no_traffic_interval": "0.1s",
        "no_traffic_healthy_interval": f"{settings.health_interval_s}s",
        # A replica that starts is found within a fraction of a second.
        "unhealthy_interval": "0.1s",
        "unhealthy_edge_interval": "0.1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "grpc_health_check": {"service_name": upstream.health_service, "authority": "localhost"},
    }


def _tls(settings: GatewaySettings, upstream: Upstream) -> Json:
    return named(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context={
            # Not implied by HTTP/2, and gRPC servers refuse TLS without it.
            "alpn_protocols": ["h2"],
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_3",
                "tls_maximum_protocol_version": "TLSv1_3",
            },
            "tls_certificate_sds_secret_configs": certificate(settings),
            "validation_context": {
                "trusted_ca": {"filename": str(settings.ca_file)},
                "match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": {"exact": upstream.spiffe_id}}
                ],
            },
        },
    )
