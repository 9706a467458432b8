"""What every role has: a place, settings, a certificate, time, and what it connects to."""

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

import structlog

from bend_server.config import Settings
from bend_server.core.errors import DependencyDown
from bend_server.rpc.identity import Authenticator
from bend_server.rpc.server import RpcServer, Service, TlsFiles, serve
from bend_server.telemetry.clock import SystemChance, SystemClock
from bend_server.tls import client_context

if TYPE_CHECKING:
    from bend_server.blobs.objects import ObjectBlobs
    from bend_server.queue.jetstream import NatsQueue
    from bend_server.storage.stores import Stores

TRUST_DOMAIN = "bend.local"
NATS_S = 20.0
DATABASE_S = 20.0
DATABASE_PAUSE_S = 0.1
CALLS_GRACE_S = 3.0

_log = structlog.get_logger(__name__)


class Place(NamedTuple):
    """Where this process listens, and whom it talks to."""

    host: str
    port: int
    nats: str
    registry: str
    registry_role: str
    replica: str


class Process:
    """A process of one role; the adapters are imported by those who connect to them."""

    def __init__(self, role: str, settings: Settings, place: Place) -> None:
        self.role = role
        self.settings = settings
        self.place = place
        # The server is the engine to the others: on SQLite it owns the database.
        self.identity = "engine" if role == "server" else role
        certs = settings.certs
        self.tls = TlsFiles(
            settings.cert_file or certs / f"{self.identity}.pem",
            settings.key_file or certs / f"{self.identity}.key",
            settings.ca_file or certs / "ca.pem",
        )
        self.clock = SystemClock()
        self.chance = SystemChance()
        self.replica = f"{place.replica}/" if place.replica else ""
        self.name = f"{self.replica}{socket.gethostname()}:{place.port}:{os.getpid()}"

    async def queue(self, stack: AsyncExitStack) -> "NatsQueue":
        """Connect to NATS; closed with the stack. Engines make the streams, executors use them."""
        from bend_server.queue.jetstream import NatsQueue, StreamOptions

        connected = await NatsQueue.connect(
            self.place.nats,
            client_context(self.tls.roots, self.tls.certificate, self.tls.key),
            self.name,
            streams=StreamOptions() if self.identity == "engine" else None,
            jetstream=self.role != "registry",
            inbox_prefix=f"_INBOX_{self.identity}",
            timeout_s=NATS_S,
        )
        stack.push_async_callback(connected.close)
        return connected

    async def blobs(self) -> "ObjectBlobs":
        """Return the blob store."""
        from bend_server.blobs.objects import ObjectBlobs

        return await asyncio.to_thread(ObjectBlobs, self.settings.blobs)

    async def stores(self, stack: AsyncExitStack) -> "Stores":
        """Open the database; closed with the stack.

        One that is away, or still reads its log after a crash, is waited for as NATS is: ending
        here would cost the whole start of this process again, after a growing pause.
        """
        from bend_server.storage.opening import open_store

        loop = asyncio.get_running_loop()
        deadline = loop.time() + DATABASE_S
        told = False
        while True:
            try:
                opened = await open_store(self.settings.database, self.clock)
            except DependencyDown as error:
                if loop.time() >= deadline:
                    raise
                if not told:
                    told = True
                    _log.warning("database_awaited", error=str(error))
                await asyncio.sleep(DATABASE_PAUSE_S)
            else:
                stack.push_async_callback(opened.close)
                return opened

    async def serve(self, services: list[Service], stack: AsyncExitStack) -> RpcServer:
        """Listen, not yet serving; stopped with the stack."""
        running = await serve(
            services,
            address=self.place.host,
            port=self.place.port,
            tls=self.tls,
            authenticator=Authenticator(
                trust_domain=TRUST_DOMAIN, token_file=self.settings.token_file
            ),
            serving=False,
        )
        stack.push_async_callback(running.stop, CALLS_GRACE_S)
        return running
