"""A TLS connection whose peer is one SPIFFE identity, offered to gRPC as a socket of this machine.

gRPC compares DNS names only, and in Python there is no other check; component certificates have
none (docs/adr/0011-push.md). So TLS is done here, and gRPC speaks HTTP/2 through it.
"""

import asyncio
import contextlib
import shutil
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

from bend_server.ports.links import LinkBroken
from bend_server.rpc.server import TlsFiles
from bend_server.tls import client_context

PIECE_BYTES = 64 * 1024
CONNECT_S = 5.0


class Tunnel:
    """Carries one connection of a gRPC channel; over when either end closes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._far = (reader, writer)
        # mkdtemp makes it for this user alone: whoever connects speaks as this executor.
        self._folder = Path(tempfile.mkdtemp(prefix="bend-push-"))
        self._server: asyncio.Server | None = None
        self._pumps: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, address: str, tls: TlsFiles, spiffe_id: str) -> "Tunnel":
        """Connect, and check who answers.

        Args:
            address: `host:port`.
            tls: what we present and whom we believe.
            spiffe_id: the only identity that is let in.

        Raises:
            LinkBroken: nobody answers, or somebody else.
        """
        host, _, port = address.rpartition(":")
        writer = None
        try:
            context = client_context(tls.roots, tls.certificate, tls.key)
            context.check_hostname = False
            context.set_alpn_protocols(["h2"])
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    host.strip("[]"), int(port), ssl=context, server_hostname=""
                )
            _notice_death(writer.get_extra_info("socket"))
            _require(writer.get_extra_info("peercert"), spiffe_id)
            tunnel = cls(reader, writer)
            tunnel._server = await asyncio.start_unix_server(
                tunnel._accept, str(tunnel._folder / "grpc")
            )
        except (OSError, TimeoutError, LinkBroken) as error:
            if writer is not None:
                writer.close()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise LinkBroken(f"{address}: {error.verify_message}") from error
            raise LinkBroken(f"{address}: {error or 'no answer in time'}") from error
        return tunnel

    @property
    def target(self) -> str:
        """What gRPC dials."""
        return f"unix:{self._folder / 'grpc'}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._pumps:
            writer.close()
            return
        # The connection that was checked is the only one: gRPC cannot make another unseen.
        self._unlisten()
        loop = asyncio.get_running_loop()
        self._pumps = [
            loop.create_task(self._pump(reader, self._far[1])),
            loop.create_task(self._pump(self._far[0], writer)),
        ]
        for pump in self._pumps:
            pump.add_done_callback(lambda _: writer.close())
            pump.add_done_callback(lambda _: self._far[1].close())

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(PIECE_BYTES):
                sink.write(piece)
                await sink.drain()

    def close(self) -> None:
        """End it. Idempotent."""
        self._unlisten()
        for pump in self._pumps:
            pump.cancel()
        self._far[1].close()

    def _unlisten(self) -> None:
        if self._server is not None:
            self._server.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _notice_death(connection: Any) -> None:
    """Let the kernel break a connection whose other end is gone without a word, in 15 to 20 s."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", 10),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 2),
        # Linux has it for what was sent and is not acknowledged, milliseconds.
        ("TCP_USER_TIMEOUT", 15_000),
    ):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _require(certificate: Any, spiffe_id: str) -> None:
    found = [name for kind, name in certificate.get("subjectAltName", ()) if kind == "URI"]
    if found != [spiffe_id]:
        raise LinkBroken(f"answered by {', '.join(found) or 'nobody known'}, not {spiffe_id}")
