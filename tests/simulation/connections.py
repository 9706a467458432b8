"""How a simulated process reaches the queue and SQL: through the twins, with faults on the way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from random import Random
from typing import Any, TypeVar

from bend_server.core.errors import DependencyDown
from bend_server.core.model import CacheRow
from bend_server.ports.control import ChildRow, Contender, StoredLetter
from bend_server.ports.queue import RESULTS, Consumer, Delivery, Handler, Responder, Subscription
from bend_server.ports.store import (
    Batch,
    Committed,
    KnownRequest,
    Lease,
    PartitionOwner,
    StoredExecution,
    StoredRevision,
)
from bend_server.queue.memory import MemoryBroker, MemoryQueue
from bend_server.storage.memory import MemoryDatabase
from bend_server.storage.memory_engine import MemoryEngineStore
from tests.simulation.processes import Process
from tests.simulation.weather import Climate

T = TypeVar("T")


class SimConsumer:
    """A consumer whose process may die with a message in its hands.

    Args:
        ack: plants a fault: every message is acked as soon as it is here.
    """

    def __init__(
        self, process: Process, consumer: Consumer, ack: Callable[[str], None] | None
    ) -> None:
        self._process = process
        self._consumer = consumer
        self._ack = ack

    def demand(self, messages: int) -> None:
        """See ports.queue.Consumer."""
        self._consumer.demand(messages)

    def unacked(self) -> dict[int, str]:
        """See ports.queue.Consumer."""
        return self._consumer.unacked()

    async def next(self) -> Delivery:
        """See ports.queue.Consumer."""
        delivery = await self._consumer.next()
        if self._ack is not None:
            self._ack(delivery.token)
        await self._process.checkpoint(f"with a message of {delivery.subject}")
        return delivery

    async def close(self) -> None:
        """See ports.queue.Consumer."""
        await self._consumer.close()


class SimQueue(MemoryQueue):
    """A client of the in-memory broker that dies with its process.

    Args:
        eager: plants a fault: results are acked before they are committed.
    """

    def __init__(self, broker: MemoryBroker, process: Process, *, eager: bool = False) -> None:
        super().__init__(broker, process.name)
        self._process = process
        self._eager = eager
        process.cuts.append(self.disconnect)

    def come_back(self) -> None:
        """Reconnect, unless the process has died."""
        if not self._process.dead:
            self.reconnect()

    async def publish(self, subject: str, data: bytes) -> int:
        """See ports.queue.Queue."""
        await self._process.checkpoint(f"before publishing to {subject}")
        sequence = await super().publish(subject, data)
        await self._process.checkpoint(f"after publishing to {subject}")
        return sequence

    async def consume(
        self, stream: str, subject: str, durable: str, ack_wait_s: float, inactive_s: float | None
    ) -> Consumer:
        """See ports.queue.Queue."""
        await self._process.checkpoint("before consuming")
        consumer = await super().consume(stream, subject, durable, ack_wait_s, inactive_s)
        eager = self._eager and stream == RESULTS
        return SimConsumer(self._process, consumer, super().ack if eager else None)

    def ack(self, token: str) -> None:
        """See ports.queue.Queue."""
        self._process.risk("before an ack")
        super().ack(token)

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """See ports.queue.Queue."""
        await self._process.checkpoint("before a request")
        return await super().request(subject, data, timeout_s)

    async def broadcast(self, subject: str, data: bytes) -> None:
        """See ports.queue.Queue."""
        await self._process.checkpoint("before a broadcast")
        await super().broadcast(subject, data)

    async def subscribe(self, subject: str, handler: Handler) -> Subscription:
        """See ports.queue.Queue."""
        await self._process.checkpoint("before subscribing")
        return await super().subscribe(subject, handler)

    async def serve(self, subject: str, responder: Responder) -> Subscription:
        """See ports.queue.Queue. The answer is made inside the process that serves."""
        await self._process.checkpoint("before serving")

        async def answer(data: bytes) -> bytes:
            return await self._process.inside(_plain(responder(data)))

        return await super().serve(subject, answer)


async def _plain(awaitable: Awaitable[T]) -> T:
    return await awaitable


CommitWatch = Callable[[Lease, Batch], None]


class SimStore(MemoryEngineStore):
    """An engine's store: slow, unreachable at times, and honest about what it does not know.

    A statement that was sent goes on in the database when its sender dies.

    Args:
        fenced: False plants a fault: commits are applied whoever owns the partitions.
        seen: called with every commit that was applied.
    """

    def __init__(
        self,
        database: MemoryDatabase,
        process: Process,
        chance: Random,
        climate: Climate,
        seen: CommitWatch,
        *,
        fenced: bool = True,
    ) -> None:
        super().__init__(database)
        self._process = process
        self._chance = chance
        self._climate = climate
        self._seen = seen
        self._fenced = fenced
        self._outside: dict[asyncio.Task[Any], None] = {}

    async def _travel(self, where: str) -> None:
        await self._process.checkpoint(where)
        chance, climate = self._chance, self._climate
        await asyncio.sleep(chance.uniform(0.0001, 0.003))
        if not climate.calm and chance.random() < climate.sql_refused:
            raise DependencyDown("SQL cannot be reached")

    async def commit(self, lease: Lease, partitions: frozenset[int], batch: Batch) -> Committed:
        """See ports.store.EngineStore."""
        await self._travel("before a commit")
        sent = asyncio.Task(self._apply_late(lease, partitions, batch))
        self._outside[sent] = None
        sent.add_done_callback(self._outside.pop)
        committed = await asyncio.shield(sent)
        await self._process.checkpoint("after a commit")
        if not self._climate.calm and self._chance.random() < self._climate.sql_unknown:
            raise DependencyDown("the connection to SQL broke")
        return committed

    async def _apply_late(
        self, lease: Lease, partitions: frozenset[int], batch: Batch
    ) -> Committed:
        chance, climate = self._chance, self._climate
        stalled = not climate.calm and chance.random() < climate.sql_stalled
        await asyncio.sleep(chance.uniform(5.0, 40.0) if stalled else chance.uniform(0.0, 0.005))
        if self._fenced:
            committed = await super().commit(lease, partitions, batch)
        else:
            committed = await self._commit_unfenced(lease, partitions, batch)
        self._seen(lease, batch)
        return committed

    async def _commit_unfenced(
        self, lease: Lease, partitions: frozenset[int], batch: Batch
    ) -> Committed:
        """Commit as a store would that forgot its fence."""
        database = self._db
        owners, leases = list(database.owners), dict(database.leases)
        for partition in partitions:
            database.owners[partition] = lease.id
        database.leases[lease.id] = lease._replace(expires_us=1 << 62)
        try:
            return await super().commit(lease, partitions, batch)
        finally:
            database.owners, database.leases = owners, leases

    async def acquire_lease(self, engine: str, slots: int, ttl_us: int) -> Lease:
        """See ports.store.EngineStore."""
        await self._travel("before taking a lease")
        return await super().acquire_lease(engine, slots, ttl_us)

    async def renew_lease(self, lease: Lease, ttl_us: int) -> Lease:
        """See ports.store.EngineStore."""
        await self._travel("before renewing its lease")
        return await super().renew_lease(lease, ttl_us)

    async def release_lease(self, lease: Lease) -> None:
        """See ports.store.EngineStore."""
        await self._travel("before releasing its lease")
        await super().release_lease(lease)

    async def leases(self) -> list[Lease]:
        """See ports.store.EngineStore."""
        await self._travel("before reading leases")
        return await super().leases()

    async def partitions(self) -> list[PartitionOwner]:
        """See ports.store.EngineStore."""
        await self._travel("before reading partitions")
        return await super().partitions()

    async def claim_partitions(self, lease: Lease, wanted: int) -> list[int]:
        """See ports.store.EngineStore."""
        await self._travel("before claiming partitions")
        claimed = await super().claim_partitions(lease, wanted)
        await self._process.checkpoint("after claiming partitions")
        return claimed

    async def give_partitions(self, lease: Lease, partitions: Sequence[int]) -> None:
        """See ports.store.EngineStore."""
        await self._travel("before giving partitions")
        await super().give_partitions(lease, partitions)

    async def load_unfinished(
        self, partitions: Sequence[int], page: int
    ) -> AsyncIterator[list[StoredExecution]]:
        """See ports.store.EngineStore."""
        await self._travel("before loading")
        async for loaded in super().load_unfinished(partitions, page):
            yield loaded
            await self._travel("between two pages")

    async def load_due(
        self, partitions: Sequence[int], wake_before_us: int, limit: int
    ) -> list[StoredExecution]:
        """See ports.store.EngineStore."""
        await self._travel("before loading what is due")
        return await super().load_due(partitions, wake_before_us, limit)

    async def load(self, execution: int) -> StoredExecution | None:
        """See ports.store.EngineStore."""
        await self._travel("before loading one")
        return await super().load(execution)

    async def statuses(self, executions: Sequence[int]) -> dict[int, int]:
        """See ports.store.EngineStore."""
        await self._travel("before reading statuses")
        return await super().statuses(executions)

    async def load_revision(
        self, namespace: str, workflow: str, revision: int | None
    ) -> StoredRevision | None:
        """See ports.store.EngineStore."""
        await self._travel("before loading a revision")
        return await super().load_revision(namespace, workflow, revision)

    async def find_request(self, namespace: str, request_id: str) -> KnownRequest | None:
        """See ports.store.EngineStore."""
        await self._travel("before looking up a request")
        return await super().find_request(namespace, request_id)

    async def overdue(
        self, partitions: Sequence[int], deadline_before_us: int, after: int, limit: int
    ) -> list[int]:
        """See ports.store.EngineStore."""
        await self._travel("before the sweep")
        return await super().overdue(partitions, deadline_before_us, after, limit)

    async def cached(
        self, wanted: Sequence[tuple[str, bytes]], now_us: int
    ) -> dict[tuple[str, bytes], CacheRow]:
        """See ports.control.ControlStore."""
        await self._travel("before reading the cache")
        return await super().cached(wanted, now_us)

    async def contenders(self, partitions: Sequence[int]) -> list[Contender]:
        """See ports.control.ControlStore."""
        await self._travel("before reading who has slots")
        return await super().contenders(partitions)

    async def queued(self, namespace: str, workflow: str, key: str, limit: int) -> list[Contender]:
        """See ports.control.ControlStore."""
        await self._travel("before reading a queue")
        return await super().queued(namespace, workflow, key, limit)

    async def queues(self, partitions: Sequence[int]) -> list[tuple[str, str, str, int]]:
        """See ports.control.ControlStore."""
        await self._travel("before reading all queues")
        return await super().queues(partitions)

    async def children(self, ids: Sequence[int]) -> list[ChildRow]:
        """See ports.control.ControlStore."""
        await self._travel("before reading children")
        return await super().children(ids)

    async def workflow_state(self, namespace: str, workflow: str) -> tuple[int, bool] | None:
        """See ports.store.EngineStore."""
        await self._travel("before reading a workflow")
        return await super().workflow_state(namespace, workflow)

    async def letters(self, partitions: Sequence[int], limit: int) -> list[StoredLetter]:
        """See ports.control.ControlStore."""
        await self._travel("before reading its mail")
        return await super().letters(partitions, limit)
