"""Control flow in memory: the twins of `sql_control`, `sql_control_reads` and the rare rows."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bend_server.core import limits
from bend_server.core.errors import InvariantBroken
from bend_server.core.failures import TASK_FAILED
from bend_server.core.ids import public_id
from bend_server.core.model import (
    ApprovalEnd,
    CacheRow,
    EventKind,
    ExecutionStatus,
    Reopen,
    StartRow,
)
from bend_server.ports.control import (
    BULK_RUNNING,
    ApprovalSummary,
    BulkRow,
    ChildRow,
    Contender,
    ExecutionFilter,
    Letter,
    StoredLetter,
)
from bend_server.ports.store import Batch, KnownRequest
from bend_server.storage.rows import TERMINAL_FROM, labels_of
from bend_server.storage.sql_control_reads import may_decide

if TYPE_CHECKING:
    from bend_server.storage.memory import MemoryDatabase, Record

_PENDING = 1


class ControlTables:
    """The tables of control flow."""

    def __init__(self) -> None:
        self.approvals: dict[tuple[int, int, int, int], ApprovalSummary] = {}
        self.caches: dict[tuple[str, bytes], CacheRow] = {}
        self.bulks: dict[int, BulkRow] = {}
        self.letters: dict[int, Letter] = {}
        self.letters_made = 0


def check_reopens(database: "MemoryDatabase", reopens: list[Reopen]) -> None:
    """Refuse new runs that contradict what is stored."""
    for row in reopens:
        record = database.executions.get(row.execution)
        if record is None or record.run > row.run:
            raise InvariantBroken("an execution to open again is unknown or in a later run")


def reopen(database: "MemoryDatabase", reopens: list[Reopen]) -> None:
    """Open new runs."""
    for row in reopens:
        record = database.executions[row.execution]
        record.run, record.status, record.finish = row.run, 2, None
        record.pause_reason = record.parked = None
        record.start = record.start._replace(deadline_us=row.deadline_us)


def write_extras(database: "MemoryDatabase", batch: Batch, refused: set[int]) -> None:
    """Write what is not a row of the ordinary kinds."""
    tables = database.control
    for approval in batch.approvals:
        if approval.execution not in refused:
            tables.approvals[approval[:4]] = ApprovalSummary(*approval, 1, "", None, "")
    for end in batch.approval_ends:
        _end(tables, end)
    for cache in batch.caches:
        tables.caches[cache.namespace, cache.key] = cache
    for request in batch.requests:
        known = KnownRequest(request.execution, request.public_id, request.hash)
        database.requests[request.namespace, request.request_id] = (known, request.expires_us)
    kept = {letter.dedupe_key for letter in tables.letters.values()}
    for letter in batch.letters:
        if letter.dedupe_key not in kept:
            tables.letters_made += 1
            tables.letters[tables.letters_made] = letter
            kept.add(letter.dedupe_key)
    for number in batch.read:
        tables.letters.pop(number, None)


def _end(tables: ControlTables, end: ApprovalEnd) -> None:
    known = tables.approvals.get(end[:4])
    if known is not None:
        tables.approvals[end[:4]] = known._replace(
            status=end.status,
            decided_by=end.decided_by,
            decided_us=end.decided_us,
            comment=end.comment,
        )


class MemoryControl:
    """`ports.control.ControlStore` over a `MemoryDatabase`."""

    _db: "MemoryDatabase"

    async def cached(
        self, wanted: Sequence[tuple[str, bytes]], now_us: int
    ) -> dict[tuple[str, bytes], CacheRow]:
        """Return entries that have not expired."""
        known = self._db.control.caches
        return {
            key: known[key] for key in wanted if key in known and known[key].expires_us > now_us
        }

    async def forget_cached(self, before_us: int, limit: int) -> list[CacheRow]:
        """Delete expired entries."""
        known = self._db.control.caches
        old = sorted(
            (row for row in known.values() if row.expires_us < before_us),
            key=lambda row: row.expires_us,
        )
        for row in old[:limit]:
            del known[row.namespace, row.key]
        return old[:limit]

    async def contenders(self, partitions: Sequence[int]) -> list[Contender]:
        """Return who holds slots of concurrency keys."""
        return [
            _contender(record) for record in self._keyed(partitions) if record.status > _PENDING
        ]

    async def queued(self, namespace: str, workflow: str, key: str, limit: int) -> list[Contender]:
        """Return who waits for a slot of one key."""
        found = [
            _contender(record)
            for record in self._keyed(range(64))
            if record.status == _PENDING
            and (record.start.namespace, record.start.workflow) == (namespace, workflow)
            and record.start.concurrency_key == key
        ]
        return sorted(found, key=lambda one: (one.priority, one.execution))[:limit]

    async def queues(self, partitions: Sequence[int]) -> list[tuple[str, str, str, int]]:
        """Return all keys with a queue, and its length."""
        counts = Counter(
            (record.start.namespace, record.start.workflow, record.start.concurrency_key or "")
            for record in self._keyed(partitions)
            if record.status == _PENDING
        )
        return [(*names, counts[names]) for names in sorted(counts)]

    def _keyed(self, partitions: Sequence[int]) -> list["Record"]:
        return [
            record
            for record in self._unended(partitions)
            if record.start.concurrency_key is not None
        ]

    def _unended(self, partitions: Sequence[int]) -> list["Record"]:
        return [
            record
            for _, record in sorted(self._db.executions.items())
            if record.status < TERMINAL_FROM and record.start.partition in partitions
        ]

    async def unadmitted(self, partitions: Sequence[int], limit: int) -> list[int]:
        """Return PENDING executions without a concurrency key."""
        found = [
            (record.start.priority, record.start.id)
            for record in self._unended(partitions)
            if record.status == _PENDING
            and record.parked is not None
            and record.start.concurrency_key is None
        ]
        return [number for _, number in sorted(found)[:limit]]

    async def unadmitted_count(self, partitions: Sequence[int]) -> int:
        """Return how many PENDING executions without a concurrency key there are."""
        return len(await self.unadmitted(partitions, 1 << 62))

    async def children(self, ids: Sequence[int]) -> list[ChildRow]:
        """Return executions as children."""
        known = self._db.executions
        return [
            _child(known[number])
            for number in ids
            if number in known and known[number].start.parent is not None
        ]

    async def tree_size(self, root: int) -> int:
        """Return how many executions have this root."""
        return sum(record.start.root == root for record in self._db.executions.values())

    async def put_bulk(self, row: BulkRow) -> tuple[BulkRow, bool]:
        """Store a job, or find the one with its request id."""
        bulks = self._db.control.bulks
        if row.request_id is not None:
            for known in bulks.values():
                if (known.namespace, known.request_id) == (row.namespace, row.request_id):
                    return known, False
        bulks[row.id] = row
        return row, True

    async def open_bulks(self, partitions: Sequence[int], limit: int) -> list[BulkRow]:
        """Return jobs that are not done."""
        found = [
            row
            for _, row in sorted(self._db.control.bulks.items())
            if row.state == BULK_RUNNING and row.partition in partitions
        ]
        return found[:limit]

    async def advance_bulk(self, row: BulkRow, cursor: bytes) -> bool:
        """Store a job's progress if nobody else did."""
        known = self._db.control.bulks.get(row.id)
        if known is None or known.cursor != cursor or known.state != BULK_RUNNING:
            return False
        self._db.control.bulks[row.id] = row
        return True

    async def matching(
        self, namespace: str, wanted: ExecutionFilter, after: int, limit: int
    ) -> list[tuple[int, str]]:
        """Return executions that a filter names, by id."""
        found = [
            (number, record.start.public_id)
            for number, record in sorted(self._db.executions.items())
            if number > after
            and record.start.namespace == namespace
            and _matches(record.start, record.status, wanted)
        ]
        return found[:limit]

    async def unretryable(self, executions: Sequence[int]) -> set[int]:
        """Return those of some executions that refuse a retry, as far as their rows tell."""
        known = ((one, self._db.executions[one]) for one in executions)
        return {one for one, record in known if _refuses_retry(record)}

    async def find_approval(
        self, execution: int, task: int, item: int, try_: int
    ) -> ApprovalSummary | None:
        """Read one approval."""
        return self._db.control.approvals.get((execution, task, item, try_))

    async def has_letter(self, dedupe_key: str) -> bool:
        """Return whether a letter waits for its receiver."""
        kept = self._db.control.letters.values()
        return any(letter.dedupe_key == dedupe_key for letter in kept)

    async def letters(self, partitions: Sequence[int], limit: int) -> list[StoredLetter]:
        """Return letters, by id."""
        found = [
            StoredLetter(number, letter.partition, letter.kind, letter.body)
            for number, letter in sorted(self._db.control.letters.items())
            if letter.partition in partitions
        ]
        return found[:limit]


def _refuses_retry(record: "Record") -> bool:
    paused = record.status == ExecutionStatus.PAUSED and record.pause_reason != TASK_FAILED
    full = record.finish is not None and record.finish.seq >= limits.HISTORY_ROWS_MAX
    compensated = any(event.kind == EventKind.COMPENSATING for event in record.events.values())
    return record.start.parent is not None or paused or full or compensated


def _contender(record: "Record") -> Contender:
    start = record.start
    return Contender(
        start.id,
        start.namespace,
        start.workflow,
        start.concurrency_key or "",
        record.status,
        start.priority,
    )


def _child(record: "Record") -> ChildRow:
    start, finish = record.start, record.finish
    return ChildRow(
        start.id,
        start.parent or 0,
        start.parent_task or 0,
        record.status,
        record.run,
        None if finish is None else finish.output,
        None if finish is None else finish.blob,
        None if finish is None else finish.error,
        None if finish is None else finish.finished_us,
    )


def _matches(start: StartRow, status: int, wanted: ExecutionFilter) -> bool:
    after_us, before_us = wanted.started_after_us, wanted.started_before_us
    return (
        (not wanted.workflow or start.workflow == wanted.workflow)
        and (not wanted.statuses or status in wanted.statuses)
        and (wanted.label is None or wanted.label in labels_of(start.labels))
        and (after_us is None or start.started_us >= after_us)
        and (before_us is None or start.started_us < before_us)
    )


class MemoryControlReads:
    """`ports.control.ControlReads` over a `MemoryDatabase`."""

    _db: "MemoryDatabase"

    async def approvals(
        self,
        namespace: str,
        *,
        execution: int | None,
        status: int,
        assignee: str | None,
        after: tuple[int, int, int, int] | None,
        limit: int,
    ) -> list[ApprovalSummary]:
        """List oldest first."""
        found = [
            (_place(row), row)
            for row in self._db.control.approvals.values()
            if row.namespace == namespace
            and row.status == status
            and (execution is None or row.execution == execution)
            and (after is None or _place(row) > after)
            and may_decide(row, assignee)
        ]
        return [row for _, row in sorted(found)[:limit]]

    async def approval(
        self, namespace: str, execution: int, task: int, item: int, try_: int
    ) -> ApprovalSummary | None:
        """Read one approval."""
        row = self._db.control.approvals.get((execution, task, item, try_))
        return row if row is not None and row.namespace == namespace else None

    async def bulk(self, namespace: str, bulk_id: int) -> BulkRow | None:
        """Read one bulk job."""
        row = self._db.control.bulks.get(bulk_id)
        return row if row is not None and row.namespace == namespace else None


def _place(row: ApprovalSummary) -> tuple[int, int, int, int]:
    return row.created_us, row.execution, row.task, row.item


def forget_trees(database: "MemoryDatabase", before_us: int, limit: int) -> list[tuple[int, str]]:
    """Delete old trees, as `retention.forget` does."""
    executions = database.executions
    busy = {record.start.root for record in executions.values() if record.status < TERMINAL_FROM}
    roots = sorted(
        (record.finish.finished_us, number)
        for number, record in executions.items()
        if record.finish is not None
        and record.finish.finished_us < before_us
        and record.start.root is None
        and number not in busy
    )[:limit]
    old = {number for _, number in roots}
    found = sorted(
        (record.start.root or 0, number)
        for number, record in executions.items()
        if record.start.root in old
    )[:limit]
    ids = [number for _, number in found]
    if len(ids) < limit:
        ids += [number for _, number in roots]
    gone = []
    for number in ids:
        start = executions.pop(number).start
        if start.public_id == public_id(start.workflow, number):
            del database.public_ids[start.namespace, start.public_id]
        gone.append((number, start.namespace))
    approvals = database.control.approvals
    for key in [key for key in approvals if key[0] in set(ids)]:
        del approvals[key]
    return gone
