"""A real Envoy in front of a real backend, and clients for both of its doors."""

import contextlib
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx

from bend_envoy import GatewaySettings, Upstream, arguments, render, render_secrets
from tests.kit.certificates import TestAuthority
from tests.kit.programs import free_port, running, wait_until

CALL_S = 30.0


class Gateway:
    """Ports and clients of one running gateway."""

    def __init__(self, settings: GatewaySettings, authority: TestAuthority) -> None:
        self.settings = settings
        self.authority = authority
        self.https = f"https://127.0.0.1:{settings.https_port}"
        self.http = f"http://127.0.0.1:{settings.http_port}"

    def client(self, stem: str | None = None, *, http2: bool = False) -> httpx.Client:
        """Return an HTTPS client with a certificate of the authority, or without one."""
        return httpx.Client(
            base_url=self.https, verify=self.context(stem), http2=http2, timeout=CALL_S
        )

    def context(self, stem: str | None) -> ssl.SSLContext:
        """Return a TLS context with a certificate of the authority, or without one."""
        context = ssl.create_default_context(cafile=str(self.authority.ca))
        if stem:
            folder = self.authority.folder
            context.load_cert_chain(folder / f"{stem}.pem", folder / f"{stem}.key")
        return context

    def plain(self) -> httpx.Client:
        """Return a client of the loopback door."""
        return httpx.Client(base_url=self.http, timeout=CALL_S)

    def live(self) -> bool:
        """Tell whether the gateway itself answers."""
        return self._ok("/healthz")

    def healthy(self) -> bool:
        """Tell whether the backend's readiness comes through."""
        return self._ok("/readyz")

    def _ok(self, path: str) -> bool:
        try:
            with self.plain() as client:
                return client.get(path).status_code == 200
        except httpx.TransportError:
            return False


def settings_for(
    authority: TestAuthority, folder: Path, port: int, spiffe_id: str, **more: object
) -> GatewaySettings:
    """Return settings of a gateway whose services are all one backend."""
    one = Upstream("server", (("127.0.0.1", port),), spiffe_id)
    fields: dict[str, object] = {
        "https_address": "127.0.0.1",
        "https_port": free_port(),
        "http_port": free_port(),
        "ca_file": authority.ca,
        "cert_file": authority.folder / "gateway.pem",
        "key_file": authority.folder / "gateway.key",
        "run_folder": folder,
        "admin_socket": folder / "admin.sock",
        "engine": one,
        "registry": one,
        "executor": one,
        **more,
    }
    return GatewaySettings(**fields)  # type: ignore[arg-type]


@contextlib.contextmanager
def gateway(
    authority: TestAuthority,
    port: int,
    spiffe_id: str = "spiffe://bend.local/engine",
    *,
    wait: bool = True,
    **more: object,
) -> Iterator[Gateway]:
    """Run a gateway in front of a port while the block lasts."""
    # Unix sockets have short names only: not below pytest's own folder.
    folder = Path(tempfile.mkdtemp(prefix="bend-"))
    settings = settings_for(authority, folder, port, spiffe_id, **more)
    settings.secrets_file.write_text(render_secrets(settings))
    config = folder / "envoy.json"
    config.write_text(render(settings))
    try:
        with running(arguments(config), folder / "envoy.log"):
            made = Gateway(settings, authority)
            wait_until(made.healthy if wait else made.live, what=f"gateway in {folder}")
            yield made
    finally:
        print((folder / "envoy.log").read_text())
        shutil.rmtree(folder)
