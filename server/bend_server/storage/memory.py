"""The tables in memory: what the twins of the SQL stores share.

Several engines of one simulation share a `MemoryDatabase`.
"""

from collections.abc import Iterable

from bend_server.core.ids import PARTITIONS
from bend_server.core.model import CacheRow, EventRow, FinishRow, ResultRow, StartRow
from bend_server.ports.clock import Clock
from bend_server.ports.control import ApprovalSummary, BulkRow, Letter
from bend_server.ports.pools import PoolRow
from bend_server.ports.store import (
    ComponentRow,
    KnownRequest,
    Lease,
    StoredExecution,
    StoredRevision,
    WorkflowSummary,
)


class ControlTables:
    """The tables of control flow."""

    def __init__(self) -> None:
        self.approvals: dict[tuple[int, int, int, int], ApprovalSummary] = {}
        self.caches: dict[tuple[str, bytes], CacheRow] = {}
        self.bulks: dict[int, BulkRow] = {}
        self.letters: dict[int, Letter] = {}
        self.letters_made = 0


class Record:
    """One execution with its rows."""

    __slots__ = ("events", "finish", "parked", "pause_reason", "results", "run", "start", "status")

    def __init__(self, start: StartRow) -> None:
        self.start = start
        self.status = int(start.status)
        self.run = start.run
        self.pause_reason: str | None = None
        self.parked: tuple[int | None] | None = None
        self.results: dict[tuple[int, int, int], ResultRow] = {}
        self.events: dict[int, EventRow] = {}
        self.finish: FinishRow | None = None

    def stored(self) -> StoredExecution:
        """Return the execution as recovery reads it."""
        return StoredExecution(
            start=self.start,
            status=self.status,
            run=self.run,
            pause_reason=self.pause_reason,
            results=sorted(self.results.values(), key=lambda row: row.seq),
            events=[self.events[seq] for seq in sorted(self.events)],
            finish=self.finish,
        )


class MemoryDatabase:
    """What several in-memory stores share: the tables."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.executions: dict[int, Record] = {}
        self.public_ids: dict[tuple[str, str], int] = {}
        self.requests: dict[tuple[str, str], tuple[KnownRequest, int]] = {}
        self.leases: dict[int, Lease] = {}
        self.owners: list[int | None] = [None] * PARTITIONS
        self.epoch = 0
        self.workflows: dict[tuple[str, str], WorkflowSummary] = {}
        self.revisions: dict[tuple[str, str, int], StoredRevision] = {}
        self.components: dict[tuple[str, str], dict[str, ComponentRow]] = {}
        self.weights: dict[tuple[str, str], dict[str, int]] = {}
        self.pools: dict[tuple[str, str], PoolRow] = {}
        self.control = ControlTables()

    def valid(self, lease: Lease) -> bool:
        """Tell whether a lease holds now."""
        known = self.leases.get(lease.id)
        return (
            known is not None
            and known.epoch == lease.epoch
            and known.expires_us > self.clock.now_us()
        )

    def void(self, leases: Iterable[int]) -> None:
        """Remove leases; their partitions have no owner then."""
        for gone in list(leases):
            self.leases.pop(gone, None)
            self.owners = [None if owner == gone else owner for owner in self.owners]

    def expired(self) -> list[int]:
        """Return the leases that ran out."""
        now = self.clock.now_us()
        return [lease.id for lease in self.leases.values() if lease.expires_us <= now]
