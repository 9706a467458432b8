"""Every kind of store behind one face, for the contract suites."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bend_server.core.ids import PARTITIONS
from bend_server.ports.store import Batch, Committed, Lease
from bend_server.storage.memory import MemoryDatabase
from bend_server.storage.opening import open_store
from bend_server.storage.stores import Stores, memory_stores
from tests.kit.rows import T0_US

LEASE_US = 60_000_000
DOCUMENT = b"name: triage"


class ManualClock:
    """A clock that a test moves."""

    def __init__(self, now_us: int = T0_US) -> None:
        self.now = now_us

    def now_us(self) -> int:
        """Return what the test has set."""
        return self.now


class Backend:
    """Opens stores over one fresh database."""

    def __init__(self, kind: str, folder: Path, url: str | None = None) -> None:
        self.kind = kind
        self.clock = ManualClock()
        self.url = url or f"sqlite:///{folder / 'bend.db'}"
        self._memory = MemoryDatabase(self.clock)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Stores]:
        """Open the stores; may be called again inside, except on SQLite."""
        if self.kind == "memory":
            yield memory_stores(self._memory)
            return
        stores = await open_store(self.url, self.clock)
        try:
            yield stores
        finally:
            await stores.close()

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[tuple[Stores, Lease]]:
        """Open the stores with workflow `triage` and a lease over all partitions."""
        async with self.open() as stores:
            await put_workflow(stores)
            yield stores, await own_all(stores)


async def own_all(stores: Stores, engine: str = "engine-1") -> Lease:
    """Take a lease and every partition that is free."""
    lease = await stores.engine.acquire_lease(engine, 16, LEASE_US)
    await stores.engine.claim_partitions(lease, PARTITIONS)
    return lease


async def put_workflow(stores: Stores, document: bytes = DOCUMENT, name: str = "triage") -> int:
    """Store a revision; return its number."""
    summary, _ = await stores.workflows.put_revision(
        "default",
        name,
        document=document,
        digest=f"digest of {document!r}",
        description="sorts files",
        labels=b"{}",
        task_count=3,
        pins=b"{}",
        plan_format=1,
        now_us=T0_US,
        create_only=False,
    )
    return summary.revision


async def write(stores: Stores, lease: Lease, batch: Batch, *partitions: int) -> Committed:
    """Commit a batch that touches some partitions (3 when none is named)."""
    batch.starts_current.extend([True] * (len(batch.starts) - len(batch.starts_current)))
    return await stores.engine.commit(lease, frozenset(partitions or (3,)), batch)
