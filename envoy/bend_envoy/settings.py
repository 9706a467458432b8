"""What the gateway needs to know. Everything else about it is decided in this package."""

from dataclasses import dataclass
from pathlib import Path

BODY_BYTES_MAX = 9 * 1024 * 1024
"""Largest REST request body: a document of 8 MiB, and room for its envelope."""
RESPONSE_BYTES_MAX = 64 * 1024 * 1024
"""Largest REST answer; the servers' own limit of a gRPC message."""


@dataclass(frozen=True)
class Upstream:
    """One service behind the gateway.

    Args:
        name: of the cluster, for logs.
        endpoints: (IP address, port) of each replica, at least one.
        spiffe_id: the only identity that its certificate may have.
        health_service: name that its gRPC health service is asked for; empty: the whole process.
    """

    name: str
    endpoints: tuple[tuple[str, int], ...]
    spiffe_id: str
    health_service: str = ""


@dataclass(frozen=True)
class GatewaySettings:
    """Settings of one gateway process. Paths are absolute; ports are real ones, never 0.

    Args:
        https_address: IP address of the HTTPS listener.
        https_port: its port.
        http_port: port of the plain-HTTP listener on 127.0.0.1; None: no such listener.
        ca_file: PEM of the certificate authority, for clients and servers alike.
        cert_file: PEM of the gateway's certificate: shown to clients, and to upstreams.
        key_file: PEM of its key.
        run_folder: where `secrets.json` lies (see `render_secrets`).
        admin_socket: unix socket of the admin interface; at most 100 bytes.
        engine, registry, executor: the services.
        cors_origins: origins of browsers that may call; empty: none, the usual case.
        node: name of this process in its own log.
        health_interval_s: seconds between health checks of a healthy replica.
    """

    https_address: str
    https_port: int
    http_port: int | None
    ca_file: Path
    cert_file: Path
    key_file: Path
    run_folder: Path
    admin_socket: Path
    engine: Upstream
    registry: Upstream
    executor: Upstream
    cors_origins: tuple[str, ...] = ()
    node: str = "gateway"
    health_interval_s: float = 2.0

    @property
    def secrets_file(self) -> Path:
        """Where Envoy reads the names of its certificate files."""
        return self.run_folder / "secrets.json"

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The services, each cluster once."""
        return (self.engine, self.registry, self.executor)
