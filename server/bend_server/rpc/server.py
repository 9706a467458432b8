"""The gRPC server of every role: mTLS, health, the gate before each RPC, a graceful stop."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import structlog
from grpc_health.v1 import _async as aio_health
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bend_server.rpc import permissions
from bend_server.rpc.identity import Authenticator
from bend_server.rpc.interception import Gate

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
METADATA_BYTES_MAX = 16 * 1024
STREAMS_MAX = 4096
START_TIMEOUT_S = 10.0

_log = structlog.get_logger(__name__)


class TlsFiles(NamedTuple):
    """Where the server's certificate, its key and the roots it believes are (PEM)."""

    certificate: Path
    key: Path
    roots: Path


class Service(NamedTuple):
    """A service to serve: its full name, and the generated function that adds its servicer."""

    name: str
    add: Callable[[Any], None]
    methods: Sequence[str]


def service(descriptor: Any, add: Callable[[Any, Any], None], servicer: object) -> Service:
    """Describe a service.

    Args:
        descriptor: its ServiceDescriptor: `pb2.DESCRIPTOR.services_by_name[…]`.
        add: the generated `add_…Servicer_to_server`.
        servicer: the implementation.
    """
    return Service(
        descriptor.full_name,
        lambda server: add(servicer, server),
        [f"/{descriptor.full_name}/{method.name}" for method in descriptor.methods],
    )


class UnruledMethods(Exception):
    """A service has RPCs that no permission rule names: it must not be served."""


class RpcServer:
    """A running server. `port` is the real one when 0 was asked for."""

    def __init__(
        self, server: grpc.aio.Server, health: aio_health.HealthServicer, port: int
    ) -> None:
        self._server = server
        self._health = health
        self._names: list[str] = []
        self.port = port

    async def set_serving(self, name: str, serving: bool) -> None:
        """Tell the health service whether a service (or "" for all of it) can do its work."""
        kind = health_pb2.HealthCheckResponse
        await self._health.set(name, kind.SERVING if serving else kind.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no new calls, let running ones end within `grace_s` seconds.

        Idempotent; returns when every call has ended or was cut.
        """
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


async def serve(
    services: Sequence[Service],
    *,
    address: str,
    port: int,
    tls: TlsFiles,
    authenticator: Authenticator,
    serving: bool = True,
) -> RpcServer:
    """Start a server that admits only holders of a certificate of our roots.

    New certificates are used from the next handshake on when the files have changed.

    Args:
        services: what it serves; the health service comes by itself.
        address: the interface's IP address.
        port: TCP port; 0: any free one.
        authenticator: says who calls and what they may.
        serving: the first health status of every service.

    Raises:
        UnruledMethods: an RPC has no permission rule.
        OSError: the port is taken, or a file cannot be read.
    """
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    health = aio_health.HealthServicer()
    served = [
        *services,
        service(
            health_pb2.DESCRIPTOR.services_by_name["Health"],
            health_pb2_grpc.add_HealthServicer_to_server,
            health,
        ),
    ]
    unruled = permissions.missing(method for entry in served for method in entry.methods)
    if unruled:
        raise UnruledMethods(f"no permission rule for {', '.join(unruled)}")
    server = grpc.aio.server(interceptors=(Gate(authenticator),), options=_options())
    for entry in served:
        entry.add(server)
    credentials = await asyncio.to_thread(_credentials, tls)
    try:
        real = server.add_secure_port(f"{address}:{port}", credentials)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}:{port}") from error
    if not real:
        raise OSError(f"cannot listen on {address}:{port}")
    async with asyncio.timeout(START_TIMEOUT_S):
        await server.start()
    running = RpcServer(server, health, real)
    for entry in services:
        await running.set_serving(entry.name, serving)
    await running.set_serving(health_name, True)
    await running.set_serving("", serving)
    _log.info("rpc_listening", address=address, port=real)
    return running


def _options() -> list[tuple[str, int]]:
    return [
        # Without this a taken port would be shared silently with its owner.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.max_concurrent_streams", STREAMS_MAX),
        # The gateway pings idle connections; the default would answer with GOAWAY.
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]


def _credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    stamp = _stamp(tls)
    first = _configuration(tls)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC at each handshake: None keeps what is in use."""
        nonlocal stamp
        try:
            now = _stamp(tls)
            if now == stamp:
                return None
            fresh = _configuration(tls)
        except OSError as error:
            _log.warning("certificate_unreadable", error=str(error))
            return None
        stamp = now
        _log.info("certificate_reloaded", path=str(tls.certificate))
        return fresh

    return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=True)


def _stamp(tls: TlsFiles) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns for path in tls)


def _configuration(tls: TlsFiles) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(tls.key.read_bytes(), tls.certificate.read_bytes())],
        root_certificates=tls.roots.read_bytes(),
    )
