"""The registry: components and their contracts in SQL, live instances in memory."""

import structlog
from google.protobuf.message import DecodeError

from bend.internal.v1 import control_pb2
from bend_server.core.errors import NotFound
from bend_server.ports.clock import Clock
from bend_server.ports.queue import ASK_ANNOUNCE, Queue, Subscription
from bend_server.ports.store import ComponentRow, RegistryStore
from bend_server.registry.contracts import Contract, contract_row
from bend_server.registry.instances import Instances, LiveInstance

ANNOUNCE = "registry.announce"

_log = structlog.get_logger(__name__)


class Registry:
    """Knows components, their versions, and who serves them now.

    Args:
        store: where contracts rest.
        queue: brings the executors' announcements.
        clock: tells how old an announcement is.
    """

    def __init__(self, store: RegistryStore, queue: Queue, clock: Clock) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._live = Instances()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Listen to announcements, and ask for them: executors repeat them only every 3 s."""
        self._subscription = await self._queue.subscribe(ANNOUNCE, self._heard)
        await self._queue.broadcast(ASK_ANNOUNCE, b"")

    async def stop(self) -> None:
        """Stop listening. Idempotent."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.close()

    async def _heard(self, data: bytes) -> None:
        try:
            message = control_pb2.InstanceAnnouncement.FromString(data)
        except DecodeError:
            _log.warning("announcement_unreadable", size_bytes=len(data))
            return
        self._live.apply(message, self._clock.now_us())

    async def register(self, namespace: str, contract: Contract) -> tuple[ComponentRow, bool]:
        """Store a version; return what is stored now and whether this call stored it.

        Idempotent.

        Raises:
            InvalidInput: a schema is no JSON Schema.
            WrongState: CONTRACT_MISMATCH, the version is there with another contract.
        """
        row = contract_row(namespace, contract, self._clock.now_us())
        stored, created = await self._store.put_version(row)
        if created:
            _log.info("component_registered", component=row.name, version=row.version)
        return stored, created

    async def component(
        self, namespace: str, name: str, version: str = ""
    ) -> tuple[list[ComponentRow], ComponentRow]:
        """Return all versions, newest first, and the one asked for (or the newest).

        Raises:
            NotFound: COMPONENT_NOT_FOUND.
        """
        versions = await self._store.component_versions(namespace, name)
        for row in versions:
            if not version or row.version == version:
                return versions, row
        what = f"{name}@{version}" if version else name
        raise NotFound(f"no component {what!r}", reason="COMPONENT_NOT_FOUND", component=what)

    async def components(
        self, namespace: str, *, query: str, after: str | None, limit: int
    ) -> list[tuple[ComponentRow, int]]:
        """List (newest version, number of versions) by name, strictly after one."""
        return await self._store.components(namespace, query=query, after=after, limit=limit)

    def instances(self, namespace: str, name: str) -> list[LiveInstance]:
        """Return who serves a component now."""
        return self._live.of(namespace, name, self._clock.now_us())

    def instance_counts(self, namespace: str) -> dict[str, int]:
        """Return component → number of live instances."""
        return self._live.counts(namespace, self._clock.now_us())


__all__ = ["ANNOUNCE", "Contract", "LiveInstance", "Registry"]
