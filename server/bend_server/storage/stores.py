"""The bundle of stores that a composition root hands to the rooms."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bend_server.ports.pools import PoolStore
from bend_server.ports.store import EngineStore, ReadStore, RegistryStore, WorkflowStore
from bend_server.storage.memory import MemoryDatabase
from bend_server.storage.memory_engine import MemoryEngineStore
from bend_server.storage.memory_pools import MemoryPoolStore
from bend_server.storage.memory_reads import (
    MemoryReadStore,
    MemoryRegistryStore,
    MemoryWorkflowStore,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """All stores over one database.

    `kind` is `sqlite`, `postgresql` or `memory`; `close` ends connections and threads, and lets
    go of the database file's lock.
    """

    kind: str
    engine: EngineStore
    reads: ReadStore
    workflows: WorkflowStore
    registry: RegistryStore
    pools: PoolStore
    close: Callable[[], Awaitable[None]]


def memory_stores(database: MemoryDatabase) -> Stores:
    """Bundle the in-memory twins over one shared database; for the simulation and tests."""

    async def close() -> None:
        """Nothing is held."""

    return Stores(
        kind="memory",
        engine=MemoryEngineStore(database),
        reads=MemoryReadStore(database),
        workflows=MemoryWorkflowStore(database),
        registry=MemoryRegistryStore(database),
        pools=MemoryPoolStore(database),
        close=close,
    )
