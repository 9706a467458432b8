"""The engine's store in memory: the twin of the SQL stores, deterministic, without threads.

Several engines of one simulation share a `MemoryDatabase`. Nothing here awaits, so every call is
one transaction; tests that want delays and losses wrap the store.
"""

from collections.abc import AsyncIterator, Container, Iterable, Sequence

from bend_server.core.errors import InvariantBroken, LeaseLost, LimitExceeded
from bend_server.core.ids import PARTITIONS
from bend_server.core.model import EventRow, ExecutionStatus, FinishRow, ResultRow, StartRow
from bend_server.ports.clock import Clock
from bend_server.ports.pools import PoolRow
from bend_server.ports.store import (
    Batch,
    Committed,
    ComponentRow,
    KnownRequest,
    Lease,
    PartitionOwner,
    StoredExecution,
    StoredRevision,
    WorkflowSummary,
)
from bend_server.storage.memory_control import (
    ControlTables,
    MemoryControl,
    check_reopens,
    forget_trees,
    reopen,
    write_extras,
)
from bend_server.storage.rows import REQUEST_TTL_US, TERMINAL_FROM, labels_of
from bend_server.storage.rules import distinct_starts


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


class MemoryEngineStore(MemoryControl):
    """`ports.store.EngineStore` over a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    async def acquire_lease(self, engine: str, slots: int, ttl_us: int) -> Lease:
        """Make a lease; expired ones are void from here on."""
        db = self._db
        now = db.clock.now_us()
        db.void(db.expired())
        used = {lease.slot for lease in db.leases.values()}
        slot = next((free for free in range(slots) if free not in used), None)
        if slot is None:
            raise LimitExceeded(f"all {slots} engine slots are taken", slots=slots)
        db.epoch = max(db.epoch + 1, now // 1_000_000)
        lease = Lease(db.epoch, engine, slot, db.epoch, now + ttl_us, 0)
        db.leases[lease.id] = lease
        return lease

    async def renew_lease(self, lease: Lease, ttl_us: int) -> Lease:
        """Extend a lease that nobody has taken."""
        known = self._db.leases.get(lease.id)
        if known is None or known.epoch != lease.epoch:
            raise LeaseLost("the lease is gone", lease=lease.id, epoch=lease.epoch)
        renewed = known._replace(expires_us=self._db.clock.now_us() + ttl_us)
        self._db.leases[lease.id] = renewed
        return renewed

    async def release_lease(self, lease: Lease) -> None:
        """Give up a lease and its partitions."""
        known = self._db.leases.get(lease.id)
        if known is not None and known.epoch == lease.epoch:
            self._db.void([lease.id])

    async def leases(self) -> list[Lease]:
        """Return the live leases by slot."""
        now = self._db.clock.now_us()
        live = (lease for lease in self._db.leases.values() if lease.expires_us > now)
        return sorted(live, key=lambda lease: lease.slot)

    async def partitions(self) -> list[PartitionOwner]:
        """Return all partitions with their owners."""
        db = self._db
        now = db.clock.now_us()
        owners = []
        for number, owner in enumerate(db.owners):
            lease = None if owner is None else db.leases.get(owner)
            if lease is None:
                owners.append(PartitionOwner(number, None, -1, False))
            else:
                live = lease.expires_us > now
                owners.append(PartitionOwner(number, lease.id, lease.slot, live))
        return owners

    async def claim_partitions(self, lease: Lease, wanted: int) -> list[int]:
        """Take partitions without a live owner."""
        db = self._db
        if not db.valid(lease):
            raise LeaseLost("the lease is not valid", lease=lease.id, epoch=lease.epoch)
        if wanted <= 0:
            return []
        db.void(db.expired())
        taken = [number for number, owner in enumerate(db.owners) if owner is None][:wanted]
        for number in taken:
            db.owners[number] = lease.id
        return taken

    async def give_partitions(self, lease: Lease, partitions: Sequence[int]) -> None:
        """Disown partitions."""
        db = self._db
        if not db.valid(lease):
            raise LeaseLost("the lease is not valid", lease=lease.id, epoch=lease.epoch)
        for number in partitions:
            if db.owners[number] == lease.id:
                db.owners[number] = None

    async def commit(self, lease: Lease, partitions: frozenset[int], batch: Batch) -> Committed:
        """Write one batch, or nothing."""
        db = self._db
        if not db.valid(lease) or any(db.owners[number] != lease.id for number in partitions):
            raise LeaseLost("the fence refused", lease=lease.id, epoch=lease.epoch)
        started = self._judge(batch)
        refused = {row.id for row in batch.starts if row.id not in started}
        check_reopens(db, batch.reopens)
        self._check(batch, started, refused)
        reopen(db, batch.reopens)
        for start in started.values():
            self._insert(start)
        self._apply(batch, refused)
        write_extras(db, batch, refused)
        return Committed(frozenset(started))

    def _judge(self, batch: Batch) -> dict[int, StartRow]:
        db = self._db
        started: dict[int, StartRow] = {}
        for start, current in distinct_starts(batch):
            workflow = db.workflows.get((start.namespace, start.workflow))
            if workflow is None or workflow.archived:
                continue
            if current and workflow.revision != start.revision:
                continue
            if (start.namespace, start.public_id) in db.public_ids or start.id in db.executions:
                continue
            if start.request_id is not None:
                known = db.requests.get((start.namespace, start.request_id))
                if known is not None and known[1] > start.started_us:
                    continue
            started[start.id] = start
        return started

    def _check(self, batch: Batch, judged: dict[int, StartRow], refused: set[int]) -> None:
        started: dict[int, StartRow | None] = dict(judged)
        results: set[tuple[int, int, int, int]] = set()
        for row in batch.results:
            key = (row.execution, row.task, row.item, row.try_)
            record = self._db.executions.get(row.execution)
            if key in results or (record is not None and key[1:] in record.results):
                raise InvariantBroken("a result is stored already", key=key)
            self._known(row.execution, started, refused)
            results.add(key)
        events: set[tuple[int, int]] = set()
        for event in batch.events:
            record = self._db.executions.get(event.execution)
            pair = (event.execution, event.seq)
            if pair in events or (record is not None and event.seq in record.events):
                raise InvariantBroken("an event is stored already", key=pair)
            self._known(event.execution, started, refused)
            events.add(pair)
        # What opens again in this batch may end in it, too.
        started |= {row.execution: None for row in batch.reopens}
        finished: set[int] = set()
        for finish in batch.finishes:
            self._open(finish.execution, started, refused)
            if finish.execution in finished:
                raise InvariantBroken("two ends of one run", execution=finish.execution)
            finished.add(finish.execution)
        for park in batch.parks:
            self._open(park.execution, started, refused)
        for change in batch.changes:
            self._open(change.execution, started, refused)

    def _known(self, execution: int, started: Container[int], refused: set[int]) -> None:
        judged = execution in started or execution in refused
        if not judged and execution not in self._db.executions:
            raise InvariantBroken("the execution is unknown", execution=execution)

    def _open(self, execution: int, started: Container[int], refused: set[int]) -> None:
        if execution in started or execution in refused:
            return
        record = self._db.executions.get(execution)
        if record is None or record.status >= TERMINAL_FROM:
            raise InvariantBroken("the execution is unknown or has ended", execution=execution)

    def _insert(self, start: StartRow) -> None:
        db = self._db
        db.executions[start.id] = Record(start)
        db.public_ids[start.namespace, start.public_id] = start.id
        if start.request_id is not None:
            known = KnownRequest(start.id, start.public_id, start.request_hash or b"")
            expires_us = start.started_us + REQUEST_TTL_US
            db.requests[start.namespace, start.request_id] = (known, expires_us)

    def _apply(self, batch: Batch, refused: set[int]) -> None:
        executions = self._db.executions
        for row in batch.results:
            if row.execution not in refused:
                executions[row.execution].results[row.task, row.item, row.try_] = row
        for event in batch.events:
            if event.execution not in refused:
                executions[event.execution].events[event.seq] = event
        for change in batch.changes:
            if change.execution not in refused:
                record = executions[change.execution]
                record.status, record.pause_reason = int(change.status), change.pause_reason
        for park in batch.parks:
            if park.execution not in refused:
                awake = park.wake_at_us == 0
                executions[park.execution].parked = None if awake else (park.wake_at_us,)
        for finish in batch.finishes:
            if finish.execution not in refused:
                record = executions[finish.execution]
                record.finish = finish
                record.status, record.run = int(finish.status), finish.run
                record.pause_reason = record.parked = None

    def _unfinished(self, partitions: Sequence[int]) -> list[Record]:
        wanted = set(partitions)
        return [
            record
            for _, record in sorted(self._db.executions.items())
            if record.status < TERMINAL_FROM and record.start.partition in wanted
        ]

    async def load_unfinished(
        self, partitions: Sequence[int], page: int
    ) -> AsyncIterator[list[StoredExecution]]:
        """Yield pages of what is neither terminal nor parked, by id."""
        records = [record for record in self._unfinished(partitions) if record.parked is None]
        for first in range(0, len(records), page):
            yield [record.stored() for record in records[first : first + page]]

    async def load_due(
        self, partitions: Sequence[int], wake_before_us: int, limit: int
    ) -> list[StoredExecution]:
        """Read parked executions that are due, the earliest first."""
        due = [
            (record.parked[0], record.start.id, record)
            for record in self._unfinished(partitions)
            if record.parked is not None
            and record.parked[0] is not None
            and record.parked[0] < wake_before_us
        ]
        return [record.stored() for _, _, record in sorted(due, key=lambda d: d[:2])[:limit]]

    async def load(self, execution: int) -> StoredExecution | None:
        """Read one execution."""
        record = self._db.executions.get(execution)
        return None if record is None else record.stored()

    async def statuses(self, executions: Sequence[int]) -> dict[int, int]:
        """Return the status of each known execution."""
        known = self._db.executions
        return {number: known[number].status for number in executions if number in known}

    async def load_revision(
        self, namespace: str, workflow: str, revision: int | None
    ) -> StoredRevision | None:
        """Read a revision's document."""
        if revision is None:
            known = self._db.workflows.get((namespace, workflow))
            if known is None:
                return None
            revision = known.revision
        return self._db.revisions.get((namespace, workflow, revision))

    async def workflow_state(self, namespace: str, workflow: str) -> tuple[int, bool] | None:
        """Return (current revision, archived)."""
        known = self._db.workflows.get((namespace, workflow))
        return None if known is None else (known.revision, known.archived)

    async def find_request(self, namespace: str, request_id: str) -> KnownRequest | None:
        """Return what a request id stands for."""
        known = self._db.requests.get((namespace, request_id))
        if known is None or known[1] <= self._db.clock.now_us():
            return None
        return known[0]

    async def find_public(self, namespace: str, public_id: str) -> int | None:
        """Return the internal id of a public id."""
        return self._db.public_ids.get((namespace, public_id))

    async def overdue(
        self, partitions: Sequence[int], deadline_before_us: int, after: int, limit: int
    ) -> list[int]:
        """Return unfinished executions past their deadline, but for paused ones."""
        return [
            record.start.id
            for record in self._unfinished(partitions)
            if record.start.id > after
            and record.start.deadline_us < deadline_before_us
            and record.status != ExecutionStatus.PAUSED
        ][:limit]

    async def forget_finished(self, before_us: int, limit: int) -> list[tuple[int, str]]:
        """Delete old trees; ids that callers chose stay taken."""
        return forget_trees(self._db, before_us, limit)

    async def forget_requests(self, before_us: int, limit: int) -> int:
        """Delete expired request ids."""
        old = [key for key, (_, expires) in self._db.requests.items() if expires < before_us]
        for key in old[:limit]:
            del self._db.requests[key]
        return len(old[:limit])


def label_matches(start: StartRow, wanted: tuple[str, str]) -> bool:
    """Tell whether a start carries a label."""
    return wanted in labels_of(start.labels)
