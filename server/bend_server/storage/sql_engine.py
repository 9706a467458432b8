"""The engine's reads, leases and retention, in SQL that both databases run.

Only the group commit differs: `sqlite_commit` and `postgres_commit`.
"""

from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, select, text

from bend_server.core.model import EventRow, ExecutionStatus, FinishRow, ResultRow, StartRow
from bend_server.ports.clock import Clock
from bend_server.ports.store import (
    KnownRequest,
    Lease,
    PartitionOwner,
    StoredExecution,
    StoredRevision,
)
from bend_server.storage import leases
from bend_server.storage.database import Database, among, listed
from bend_server.storage.retention import forget
from bend_server.storage.rows import (
    START_COLUMNS,
    TERMINAL_FROM,
    result_rows,
)
from bend_server.storage.sql_control import SqlControl
from bend_server.storage.sql_reads import EVENTS, RESULTS, find_revision, find_workflow
from bend_server.storage.tables import (
    execution,
    execution_event,
    request,
    task_result,
    tombstone,
)

_FIRST = {"run": "first_run", "status": "first_status"}
_LATER = ("status", "run", "pause_reason")
_FINISH = ("finish_seq", "output", "blob", "error", "finished_us")
_EXECUTIONS = select(
    *(execution.c[_FIRST.get(name, name)].label(f"s_{name}") for name in START_COLUMNS),
    *(execution.c[name] for name in _LATER),
    *(execution.c[name] for name in _FINISH),
)
_STARTS = len(START_COLUMNS)
# The partial indexes name the same literal conditions.
_UNFINISHED = text("execution.status < 4")
_NOT_PARKED = execution.c.parked == 0
_PARKED = text("execution.parked = 1")


def _stored(
    row: Sequence[Any], results: dict[int, list[ResultRow]], events: dict[int, list[EventRow]]
) -> StoredExecution:
    new = tuple.__new__
    number = row[0]
    status, run, pause_reason, *end = row[_STARTS:]
    finish = None
    if status >= TERMINAL_FROM:
        finish = FinishRow(number, run, end[0], status, *end[1:])
    return new(
        StoredExecution,
        (
            new(StartRow, row[:_STARTS]),
            status,
            run,
            pause_reason,
            results.get(number) or [],
            events.get(number) or [],
            finish,
        ),
    )


_KINDS = ("sqlite", "postgresql")
_RESULTS_OF = {
    kind: RESULTS.where(among(task_result.c.execution, kind)).order_by(task_result.c.seq)
    for kind in _KINDS
}
_EVENTS_OF = {
    kind: EVENTS.where(among(execution_event.c.execution, kind)).order_by(execution_event.c.seq)
    for kind in _KINDS
}
_ONE = _EXECUTIONS.where(execution.c.id == bindparam("number"))
_PAGE = {
    kind: _EXECUTIONS.where(
        among(execution.c.id, kind), execution.c.status < TERMINAL_FROM, _NOT_PARKED
    ).order_by(execution.c.id)
    for kind in _KINDS
}
_STATUSES = {
    kind: select(execution.c.id, execution.c.status).where(among(execution.c.id, kind))
    for kind in _KINDS
}


def load_many(
    connection: Connection, wanted: Select[Any], values: dict[str, object], kind: str
) -> list[StoredExecution]:
    """Read executions with all their rows; three queries, whatever their number."""
    found = _fetch(connection, wanted, values)
    ids = [row[0] for row in found]
    if not ids:
        return []
    values = listed(ids, kind)
    results: dict[int, list[ResultRow]] = {number: [] for number in ids}
    for result in result_rows(_fetch(connection, _RESULTS_OF[kind], values)):
        results[result[0]].append(result)
    events: dict[int, list[EventRow]] = {}
    for row in _fetch(connection, _EVENTS_OF[kind], values):
        events.setdefault(row[0], []).append(EventRow._make(row))
    return [_stored(row, results, events) for row in found]


def _fetch(connection: Connection, query: Select[Any], values: dict[str, object]) -> list[Any]:
    """Return the driver's own rows: nothing here needs conversion, and recovery reads many."""
    result = connection.execute(query, values)
    cursor = result.cursor
    rows = [] if cursor is None else list(cursor.fetchall())
    result.close()
    return rows


def _pages(ids: "array[int]", page: int) -> Iterator[list[int]]:
    for first in range(0, len(ids), page):
        yield ids[first : first + page].tolist()


class SqlEngineStore(SqlControl):
    """All of `ports.store.EngineStore` but the commit."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._db = database
        self._clock = clock
        # Hand-overs of partitions by lease, as the commit's fence expects them.
        self._gives: dict[int, int] = {}

    async def acquire_lease(self, engine: str, slots: int, ttl_us: int) -> Lease:
        """Make a lease."""

        def acquire(connection: Connection) -> Lease:
            now_us, offset_us = self._times(connection)
            alone = self._db.kind == "sqlite"
            lease = leases.acquire(connection, engine, slots, ttl_us, now_us, alone=alone)
            return lease._replace(offset_us=offset_us)

        return await self._db.write(acquire)

    async def renew_lease(self, lease: Lease, ttl_us: int) -> Lease:
        """Extend a lease."""

        def renew(connection: Connection) -> Lease:
            now_us, offset_us = self._times(connection)
            renewed = leases.renew(connection, lease, ttl_us, now_us)
            return renewed._replace(offset_us=offset_us)

        return await self._db.write(renew, timeout_s=10.0)

    def _times(self, connection: Connection) -> tuple[int, int]:
        before_us = self._clock.now_us()
        now_us = self._db.time_us(connection)
        return now_us, now_us - (before_us + self._clock.now_us()) // 2

    async def release_lease(self, lease: Lease) -> None:
        """Give up a lease."""
        await self._db.write(lambda connection: leases.release(connection, lease))
        self._gives.pop(lease.id, None)

    async def leases(self) -> list[Lease]:
        """Return the live leases by slot."""
        return await self._db.read(
            lambda connection: leases.live(connection, self._db.time_us(connection))
        )

    async def partitions(self) -> list[PartitionOwner]:
        """Return all partitions with their owners."""
        return await self._db.read(
            lambda connection: leases.owners(connection, self._db.time_us(connection))
        )

    async def claim_partitions(self, lease: Lease, wanted: int) -> list[int]:
        """Take partitions without a live owner."""
        return await self._db.write(
            lambda connection: leases.claim(connection, lease, wanted, self._db.time_us(connection))
        )

    async def give_partitions(self, lease: Lease, partitions: Sequence[int]) -> None:
        """Disown partitions."""
        self._gives[lease.id] = await self._db.write(
            lambda connection: leases.give(
                connection, lease, partitions, self._db.time_us(connection)
            )
        )

    async def load_unfinished(
        self, partitions: Sequence[int], page: int
    ) -> AsyncIterator[list[StoredExecution]]:
        """Yield pages of what is neither terminal nor parked, by id."""
        wanted = select(execution.c.id).where(self._mine(partitions), _UNFINISHED, _NOT_PARKED)

        def identify(connection: Connection) -> "array[int]":
            return array("q", sorted(connection.execute(wanted).scalars()))

        for ids in _pages(await self._db.read(identify, timeout_s=300.0), page):
            loaded = await self._load_page(ids)
            if loaded:
                yield loaded

    async def _load_page(self, ids: list[int]) -> list[StoredExecution]:
        kind = self._db.kind
        return await self._db.read(
            lambda connection: load_many(connection, _PAGE[kind], listed(ids, kind), kind)
        )

    def _mine(self, partitions: Sequence[int]) -> ColumnElement[bool]:
        return execution.c.partition.in_(sorted(partitions))

    async def load_due(
        self, partitions: Sequence[int], wake_before_us: int, limit: int
    ) -> list[StoredExecution]:
        """Read parked executions that are due, the earliest first."""
        query = (
            _EXECUTIONS.where(
                self._mine(partitions), _PARKED, execution.c.wake_at_us < wake_before_us
            )
            .order_by(execution.c.wake_at_us, execution.c.id)
            .limit(limit)
        )
        return await self._db.read(
            lambda connection: load_many(connection, query, {}, self._db.kind)
        )

    async def load(self, execution_id: int) -> StoredExecution | None:
        """Read one execution."""
        values: dict[str, object] = {"number": execution_id}
        found = await self._db.read(
            lambda connection: load_many(connection, _ONE, values, self._db.kind)
        )
        return found[0] if found else None

    async def statuses(self, executions: Sequence[int]) -> dict[int, int]:
        """Return the status of each known execution."""
        query, values = _STATUSES[self._db.kind], listed(executions, self._db.kind)
        found = await self._db.query(lambda connection: connection.execute(query, values).all())
        return {row.id: row.status for row in found}

    async def load_revision(
        self, namespace: str, workflow: str, revision: int | None
    ) -> StoredRevision | None:
        """Read a revision's document."""
        return await self._db.query(
            lambda connection: find_revision(connection, namespace, workflow, revision)
        )

    async def workflow_state(self, namespace: str, workflow: str) -> tuple[int, bool] | None:
        """Return (current revision, archived)."""
        found = await self._db.query(
            lambda connection: find_workflow(connection, namespace, workflow)
        )
        return None if found is None else (found.revision, found.archived)

    async def find_request(self, namespace: str, request_id: str) -> KnownRequest | None:
        """Return what a request id stands for."""
        columns = request.c
        query = select(columns.execution, columns.public_id, columns.hash).where(
            columns.namespace == namespace,
            columns.request_id == request_id,
            columns.expires_us > self._clock.now_us(),
        )
        found = await self._db.query(lambda connection: connection.execute(query).first())
        return None if found is None else KnownRequest._make(found)

    async def find_public(self, namespace: str, public_id: str) -> int | None:
        """Return the internal id of a public id, of a deleted execution's chosen id too."""
        query = select(execution.c.id).where(
            execution.c.namespace == namespace, execution.c.public_id == public_id
        )
        buried = select(tombstone.c.execution).where(
            tombstone.c.namespace == namespace, tombstone.c.public_id == public_id
        )

        def find(connection: Connection) -> int | None:
            found = connection.execute(query).scalar()
            return connection.execute(buried).scalar() if found is None else int(found)

        return await self._db.read(find)

    async def overdue(
        self, partitions: Sequence[int], deadline_before_us: int, after: int, limit: int
    ) -> list[int]:
        """Return unfinished executions past their deadline, parked ones too, by id.

        Not paused ones: their deadline stands still.
        """
        query = (
            select(execution.c.id)
            .where(
                self._mine(partitions),
                _UNFINISHED,
                execution.c.id > after,
                execution.c.deadline_us < deadline_before_us,
                execution.c.status != int(ExecutionStatus.PAUSED),
            )
            .order_by(execution.c.id)
            .limit(limit)
        )
        return await self._db.query(lambda connection: list(connection.execute(query).scalars()))

    async def forget_finished(self, before_us: int, limit: int) -> list[tuple[int, str]]:
        """Delete old trees; ids that callers chose stay taken."""
        kind = self._db.kind
        return await self._db.write(lambda connection: forget(connection, before_us, limit, kind))

    async def forget_requests(self, before_us: int, limit: int) -> int:
        """Delete expired request ids."""
        old = select(request.c.namespace, request.c.request_id).where(
            request.c.expires_us < before_us
        )

        def delete_old(connection: Connection) -> int:
            found = connection.execute(old.order_by(request.c.expires_us).limit(limit)).all()
            for namespace, request_id in found:
                connection.execute(
                    delete(request).where(
                        request.c.namespace == namespace,
                        request.c.request_id == request_id,
                        request.c.expires_us < before_us,
                    )
                )
            return len(found)

        return await self._db.write(delete_old)
