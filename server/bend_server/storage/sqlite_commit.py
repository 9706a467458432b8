"""The group commit on SQLite: a few statements in the one writer's transaction.

The statements go to the driver's connection, which SQLAlchemy keeps: its layers would cost as much
as a small commit.
"""

import sqlite3

import orjson

from bend_server.core.errors import InvariantBroken
from bend_server.core.ids import public_id
from bend_server.core.model import FinishRow, StartRow
from bend_server.ports.clock import Clock
from bend_server.ports.store import Batch, Committed, Lease
from bend_server.storage import leases
from bend_server.storage.rows import (
    EVENT_COLUMNS,
    REQUEST_TTL_US,
    RESULT_COLUMNS,
    START_COLUMNS,
    TERMINAL_FROM,
    labels_of,
    signed_run_ids,
)
from bend_server.storage.rules import distinct_starts
from bend_server.storage.sql_engine import SqlEngineStore
from bend_server.storage.sqlite import SqliteDatabase
from bend_server.storage.sqlite_extras import REQUEST, insert, reopen, write_extras
from bend_server.storage.sqlite_rows import Rows, insertion

# Parameters have no numbers: newer releases of Python take those for names.
_START = insertion(
    "execution", (*START_COLUMNS, "first_run", "first_status"), " ON CONFLICT DO NOTHING"
)
_RESULT = insertion("task_result", RESULT_COLUMNS)
_EVENT = insertion("execution_event", EVENT_COLUMNS)
_LABEL = insert("label", ("namespace", "key", "value", "execution"))
# The columns stand as in FinishRow; SQLite names those of VALUES so. Not WITH, which could name
# them: the driver counts rows only of what begins with UPDATE.
_FINISH = Rows(
    "UPDATE execution SET run = ended.column2, finish_seq = ended.column3, "
    "status = ended.column4, output = ended.column5, blob = ended.column6, "
    "error = ended.column7, finished_us = ended.column8, "
    "parked = 0, wake_at_us = NULL, pause_reason = NULL FROM (",
    len(FinishRow._fields),
    f") AS ended WHERE execution.id = ended.column1 AND execution.status < {TERMINAL_FROM}",
)
_CHANGE = (
    f"UPDATE execution SET status = ?, pause_reason = ? WHERE id = ? AND status < {TERMINAL_FROM}"
)
_PARK = (
    "UPDATE execution SET wake_at_us = nullif(?, 0), parked = coalesce(?, 1) <> 0 "
    f"WHERE id = ? AND status < {TERMINAL_FROM}"
)
_OWNED = (
    'SELECT json_group_array(p."partition") FROM engine_lease l '
    'LEFT JOIN "partition" p ON p.lease = l.id WHERE l.id = ? AND l.epoch = ?'
)
_WORKFLOW = "SELECT revision, archived FROM workflow WHERE namespace = ? AND name = ?"
_REQUESTS = (
    "SELECT request_id, expires_us FROM request "
    "WHERE namespace = ? AND request_id IN (SELECT value FROM json_each(?))"
)
_NAMES = (
    "SELECT public_id FROM execution "
    "WHERE namespace = ? AND public_id IN (SELECT value FROM json_each(?)) "
    "UNION ALL SELECT public_id FROM tombstone "
    "WHERE namespace = ? AND public_id IN (SELECT value FROM json_each(?))"
)
_NOT_OPEN = "an execution to change is unknown or has ended"


class _IdTaken(Exception):
    """An id that the engine made exists: find out which, one start at a time."""


class SqliteEngineStore(SqlEngineStore):
    """`ports.store.EngineStore` on SQLite."""

    def __init__(self, database: SqliteDatabase, clock: Clock) -> None:
        super().__init__(database, clock)
        self._file = database

    async def commit(self, lease: Lease, partitions: frozenset[int], batch: Batch) -> Committed:
        """Write one batch, or nothing."""
        try:
            return await self._file.write_driver(
                lambda connection: commit(connection, lease, partitions, batch)
            )
        except _IdTaken:
            return await self._file.write_driver(
                lambda connection: commit(connection, lease, partitions, batch, one_by_one=True)
            )


def commit(
    connection: sqlite3.Connection,
    lease: Lease,
    partitions: frozenset[int],
    batch: Batch,
    *,
    one_by_one: bool = False,
) -> Committed:
    """Write one batch inside the connection's transaction."""
    _fence(connection, lease, partitions)
    started: list[StartRow] = []
    refused: set[int] = set()
    if batch.reopens:
        reopen(connection, batch.reopens)
    if batch.starts:
        started, refused = _start(connection, batch, one_by_one=one_by_one)
    results, events, finishes = batch.results, batch.events, batch.finishes
    parks, changes = batch.parks, batch.changes
    if refused:
        if len({row.execution for row in finishes}) < len(finishes):
            # Found by the statement when its start is accepted; a fault of the caller either way.
            raise InvariantBroken("two ends of one run in one batch")
        results = [row for row in results if row.execution not in refused]
        events = [row for row in events if row.execution not in refused]
        finishes = [row for row in finishes if row.execution not in refused]
        parks = [row for row in parks if row.execution not in refused]
        changes = [row for row in changes if row.execution not in refused]
    if results:
        _RESULT.write(connection, signed_run_ids(results))
    if events:
        _EVENT.write(connection, events)
    for statement, rows in (
        (_CHANGE, [(*row[1:], row.execution) for row in changes]),
        (_PARK, [(row.wake_at_us, row.wake_at_us, row.execution) for row in parks]),
    ):
        if rows:
            changed = connection.executemany(statement, rows)
            if changed.rowcount != len(rows):
                raise InvariantBroken(_NOT_OPEN)
    if finishes and _FINISH.write(connection, finishes) != len(finishes):
        raise InvariantBroken(_NOT_OPEN)
    if batch.extras():
        write_extras(connection, batch, refused)
    return Committed(frozenset([row.id for row in started]))


def _fence(connection: sqlite3.Connection, lease: Lease, partitions: frozenset[int]) -> None:
    """Refuse to go on unless the lease is the current one and owns all the partitions.

    Expiry does not matter here: the process that holds the file's lock is alone.
    """
    (owned,) = connection.execute(_OWNED, (lease.id, lease.epoch)).fetchone()
    # A lease that is gone has no row; one without partitions has a row without a number.
    numbers = orjson.loads(owned)
    if not numbers or not partitions.issubset(numbers):
        raise leases.lost(lease)


def _start(
    connection: sqlite3.Connection, batch: Batch, *, one_by_one: bool
) -> tuple[list[StartRow], set[int]]:
    """Write the starts that nothing forbids; return them, and the ids of the others.

    The writer is alone, so what it looks up here still holds when it inserts.
    """
    allowed = _without_taken_names(
        connection, _without_known_requests(connection, _allowed(connection, batch))
    )
    if one_by_one:
        allowed = [row for row in allowed if _START.write(connection, [_first(row)])]
    elif _START.write(connection, [_first(row) for row in allowed]) != len(allowed):
        raise _IdTaken
    requests = [
        (
            row.namespace,
            row.request_id,
            row.request_hash or b"",
            row.id,
            row.public_id,
            row.started_us + REQUEST_TTL_US,
        )
        for row in allowed
        if row.request_id is not None
    ]
    if requests:
        connection.executemany(REQUEST, requests)
    pairs = [
        (row.namespace, key, value, row.id)
        for row in allowed
        if len(row.labels) > 2
        for key, value in labels_of(row.labels)
    ]
    if pairs:
        connection.executemany(_LABEL, pairs)
    kept = {row.id for row in allowed}
    return allowed, {row.id for row in batch.starts if row.id not in kept}


def _first(row: StartRow) -> tuple[object, ...]:
    """Return the values of a start; its run and status are the first ones too."""
    return (*row, row.run, row.status)


def _allowed(connection: sqlite3.Connection, batch: Batch) -> list[StartRow]:
    """Return the starts whose workflow takes them."""
    states: dict[tuple[str, str], tuple[int, int] | None] = {}
    allowed = []
    for row, current in distinct_starts(batch):
        key = (row.namespace, row.workflow)
        if key not in states:
            found = connection.execute(_WORKFLOW, key).fetchone()
            states[key] = None if found is None else (found[0], found[1])
        state = states[key]
        if state is None or state[1] or (current and state[0] != row.revision):
            continue
        allowed.append(row)
    return allowed


def _without_known_requests(
    connection: sqlite3.Connection, starts: list[StartRow]
) -> list[StartRow]:
    """Leave out starts whose request id stands for another one."""
    named = [(row.namespace, row.request_id) for row in starts if row.request_id is not None]
    if not named:
        return starts
    until = {
        (namespace, name): int(expires_us)
        for namespace, names in _by_namespace(named)
        for name, expires_us in connection.execute(_REQUESTS, (namespace, names))
    }
    # An expired id is free again, even while its row has not been swept.
    return [
        row
        for row in starts
        if row.request_id is None or until.get((row.namespace, row.request_id), 0) <= row.started_us
    ]


def _without_taken_names(connection: sqlite3.Connection, starts: list[StartRow]) -> list[StartRow]:
    """Leave out starts whose chosen public id is taken."""
    chosen = [
        (row.namespace, row.public_id)
        for row in starts
        if row.public_id != public_id(row.workflow, row.id)
    ]
    if not chosen:
        return starts
    taken = {
        (namespace, str(name))
        for namespace, names in _by_namespace(chosen)
        for (name,) in connection.execute(_NAMES, (namespace, names) * 2)
    }
    return [row for row in starts if (row.namespace, row.public_id) not in taken]


def _by_namespace(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each namespace with its names as a JSON list."""
    names: dict[str, list[str]] = {}
    for namespace, name in pairs:
        names.setdefault(namespace, []).append(name)
    return [(namespace, orjson.dumps(listed).decode()) for namespace, listed in names.items()]
