"""The rare rows of a group commit on PostgreSQL, in one transaction with its statement.

The statement of the ordinary rows carries the fence; it locks the lease's row until the end of the
transaction, so that everything written after it stands behind the same fence. New runs have to be
opened before it, so their statement has a fence of its own.
"""

from collections.abc import Iterable, Sequence

import asyncpg
from sqlalchemy import Table

from bend_server.core.errors import InvariantBroken
from bend_server.core.model import ApprovalEnd, Reopen
from bend_server.ports.store import Batch
from bend_server.storage.postgres_statement import fence_text, types_of
from bend_server.storage.rows import (
    APPROVAL_COLUMNS,
    CACHE_COLUMNS,
    LETTER_COLUMNS,
    REQUEST_COLUMNS,
)
from bend_server.storage.tables import approval, cache_entry, mailbox, request

_FENCE, _FENCE_PARAMETERS = fence_text()


def _arrays(types: Iterable[str], first: int = 1) -> str:
    return ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types, first))


def _insert(table: Table, columns: tuple[str, ...]) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    arrays = _arrays(types_of(columns, table))
    return f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays})"


def _replacing(columns: Sequence[str], keys: Sequence[str]) -> str:
    values = ", ".join(f'"{name}" = EXCLUDED."{name}"' for name in columns if name not in keys)
    return f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {values}"


_REOPEN = (
    f"WITH {_FENCE}, up AS (UPDATE execution e SET run = u.run, deadline_us = u.deadline_us, "
    "status = 2, pause_reason = NULL, parked = 0, wake_at_us = NULL, finish_seq = NULL, "
    "output = NULL, blob = NULL, error = NULL, finished_us = NULL "
    f"FROM fence, unnest({_arrays(('bigint', 'integer', 'bigint'), _FENCE_PARAMETERS + 1)}) "
    "AS u(execution, run, deadline_us) WHERE e.id = u.execution AND e.run <= u.run RETURNING e.id) "
    "SELECT EXISTS (SELECT FROM fence) AS fenced, (SELECT count(*) FROM up) AS changed"
)
_APPROVAL = _insert(approval, APPROVAL_COLUMNS)
_END_TYPES = ("bigint", "integer", "integer", "integer", "smallint", "text", "bigint", "text")
_APPROVAL_END = (
    "UPDATE approval a SET status = u.status, decided_by = u.decided_by, "
    f"decided_us = u.decided_us, comment = u.comment FROM unnest({_arrays(_END_TYPES)}) AS "
    f"u({', '.join(ApprovalEnd._fields)}) WHERE a.execution = u.execution AND a.task = u.task "
    'AND a.item = u.item AND a."try" = u.try_'
)
_CACHE = _insert(cache_entry, CACHE_COLUMNS) + _replacing(CACHE_COLUMNS, ("namespace", "key"))
_REQUEST = _insert(request, REQUEST_COLUMNS) + _replacing(
    REQUEST_COLUMNS, ("namespace", "request_id")
)
_LETTER = _insert(mailbox, LETTER_COLUMNS) + " ON CONFLICT (dedupe_key) DO NOTHING"
_READ = "DELETE FROM mailbox WHERE id = ANY($1::bigint[])"


def _columns(rows: Iterable[Sequence[object]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def reopen(
    connection: "asyncpg.Connection", fence: list[object], reopens: list[Reopen]
) -> bool:
    """Open new runs; False: the fence refused. Raises InvariantBroken."""
    row = await connection.fetchrow(_REOPEN, *fence, *_columns(reopens))
    if row["fenced"] and row["changed"] != len(reopens):
        raise InvariantBroken("an execution to open again is unknown or in a later run")
    return bool(row["fenced"])


async def write_extras(connection: "asyncpg.Connection", batch: Batch, refused: set[int]) -> None:
    """Write what is not a row of the ordinary kinds; in one order everywhere."""
    # One statement may touch a row only once: of equal keys the last one counts.
    caches = {(row.namespace, row.key): row for row in batch.caches}
    requests = {(row.namespace, row.request_id): row for row in batch.requests}
    letters = {row.dedupe_key: row for row in batch.letters}
    ends = {row[:4]: row for row in batch.approval_ends}
    steps: tuple[tuple[str, Sequence[Sequence[object]]], ...] = (
        (_APPROVAL, [row for row in batch.approvals if row.execution not in refused]),
        (_APPROVAL_END, list(ends.values())),
        (_CACHE, [caches[key] for key in sorted(caches)]),
        (_REQUEST, [requests[key] for key in sorted(requests)]),
        (_LETTER, [letters[key] for key in sorted(letters)]),
        (_READ, [(number,) for number in batch.read]),
    )
    for statement, rows in steps:
        if rows:
            await connection.execute(statement, *_columns(rows))
