"""The text of the group commit's statement, composed of the parts that a batch has.

Every variant is a text of its own, prepared once per connection; parameters are arrays, so the
number of rows does not change the text.
"""

from functools import cache
from typing import NamedTuple

from sqlalchemy import Table

from bend_server.storage.rows import (
    EVENT_COLUMNS,
    REQUEST_TTL_US,
    RESULT_COLUMNS,
    START_COLUMNS,
    TERMINAL_FROM,
)
from bend_server.storage.tables import execution, execution_event, task_result

TAIL_COLUMNS = (
    "status",
    "run",
    "pause_reason",
    "parked",
    "wake_at_us",
    "finish_seq",
    "output",
    "blob",
    "error",
    "finished_us",
)
FINISH_COLUMNS = ("run", "finish_seq", "status", "output", "blob", "error", "finished_us")
FENCE_PARAMETERS = 5
LABEL_COLUMNS = ("namespace", "key", "value", "execution")
_TYPES = {
    "BIGINT": "bigint",
    "INTEGER": "integer",
    "SMALLINT": "smallint",
    "TEXT": "text",
    "BLOB": "bytea",
}


class Variant(NamedTuple):
    """Which parts a batch has.

    `requests`: some starts have a request id. `checked`: look up names and ids before inserting
    them. `tailed`: some starts change or end in the same batch. `early`: some rows belong to
    starts of the batch. `mixed`: updates are of all kinds, else they are ends only.
    """

    starts: bool = False
    requests: bool = False
    checked: bool = False
    labels: bool = False
    tailed: bool = False
    early: bool = False
    results: bool = False
    events: bool = False
    finishes: bool = False
    mixed: bool = False


def types_of(columns: tuple[str, ...], table: Table) -> tuple[str, ...]:
    """Return the server's types of a table's columns."""
    return tuple(_TYPES[table.c[name].type.compile()] for name in columns)


class _Text:
    """Collects the CTEs and numbers the parameters."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.checks: list[str] = []
        self._parameters = 0

    def parameter(self, kind: str) -> str:
        self._parameters += 1
        return f"${self._parameters}::{kind}"

    def rows(self, alias: str, columns: tuple[str, ...], types: tuple[str, ...]) -> str:
        """Return `unnest(...) AS alias(columns)`."""
        arrays = ", ".join(self.parameter(f"{kind}[]") for kind in types)
        return f"unnest({arrays}) AS {alias}({_names(columns)})"


def _names(columns: tuple[str, ...], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{name}"' for name in columns)


@cache
def statement(variant: Variant) -> str:
    """Return the statement of a variant.

    Parameters, in order: lease id, epoch, hand-overs, partitions, their number, then one array per
    column of each part: starts with the current flag (and tails), labels, results, events, ends.
    """
    text = _Text()
    _fence(text)
    if variant.starts:
        _starts(text, variant)
    if variant.results:
        _append(text, task_result, RESULT_COLUMNS, early=variant.early)
    if variant.events:
        _append(text, execution_event, EVENT_COLUMNS, early=variant.early)
    if variant.mixed:
        _changes(text)
    elif variant.finishes:
        _finishes(text)
    started = "ARRAY(SELECT id FROM ex)" if variant.starts else "'{}'::bigint[]"
    held = " AND ".join(text.checks) or "true"
    return (
        f"WITH {', '.join(text.parts)} "
        f"SELECT EXISTS (SELECT FROM fence) AS fenced, {started} AS started, "
        f"1 / CASE WHEN NOT EXISTS (SELECT FROM fence) OR ({held}) THEN 1 ELSE 0 END AS held"
    )


def _fence(text: _Text) -> None:
    lease, epoch, gives = (text.parameter(kind) for kind in ("bigint", "bigint", "integer"))
    partitions, count = text.parameter("smallint[]"), text.parameter("bigint")
    text.parts.append(
        f"lease AS (SELECT id FROM engine_lease WHERE id = {lease} AND epoch = {epoch} "
        f"AND gives = {gives} "
        "AND expires_us > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FOR SHARE)"
    )
    text.parts.append(
        "fence AS MATERIALIZED (SELECT 1 FROM lease WHERE (SELECT count(*) FROM partition p "
        f"WHERE p.lease = {lease} AND p.partition = ANY({partitions})) = {count})"
    )


def fence_text() -> tuple[str, int]:
    """Return the CTEs of the fence alone, and how many parameters they take."""
    text = _Text()
    _fence(text)
    return ", ".join(text.parts), FENCE_PARAMETERS


def _starts(text: _Text, variant: Variant) -> None:
    tails = tuple(f"tail_{name}" for name in TAIL_COLUMNS) if variant.tailed else ()
    columns = (*START_COLUMNS, "is_current", *tails)
    types = (*types_of(START_COLUMNS, execution), "boolean")
    if variant.tailed:
        types += types_of(TAIL_COLUMNS, execution)
    text.parts.append(
        f"candidate AS MATERIALIZED (SELECT s.* FROM fence, {text.rows('s', columns, types)} "
        "JOIN workflow w ON w.namespace = s.namespace AND w.name = s.workflow "
        "WHERE w.archived = 0 AND (NOT s.is_current OR w.revision = s.revision)"
        f"{_absent(variant)} ORDER BY s.namespace, s.request_id, s.id)"
    )
    allowed = "true"
    if variant.requests:
        _requests(text)
        allowed = "(c.request_id IS NULL OR c.id IN (SELECT execution FROM req))"
    source = {name: f'c."{name}"' for name in START_COLUMNS}
    source |= {"first_run": "c.run", "first_status": "c.status"}
    if variant.tailed:
        source |= {name: f'c."tail_{name}"' for name in TAIL_COLUMNS}
    text.parts.append(
        f"ex AS (INSERT INTO execution ({_names(tuple(source))}) "
        f"SELECT {', '.join(source.values())} FROM candidate c WHERE {allowed} "
        "ON CONFLICT DO NOTHING RETURNING id)"
    )
    if variant.labels:
        rows = text.rows("u", LABEL_COLUMNS, ("text", "text", "text", "bigint"))
        text.parts.append(
            f"lab AS (INSERT INTO label ({_names(LABEL_COLUMNS)}) "
            f"SELECT {_names(LABEL_COLUMNS, 'u.')} FROM fence, {rows} "
            f"WHERE {_begun('u.execution')})"
        )


def _absent(variant: Variant) -> str:
    """Return the conditions that nothing stands in a start's way, as far as it is committed."""
    conditions = ""
    if variant.requests:
        conditions += (
            " AND NOT EXISTS (SELECT FROM request r WHERE r.namespace = s.namespace "
            "AND r.request_id = s.request_id AND r.expires_us > s.started_us)"
        )
    if variant.checked:
        conditions += (
            " AND NOT EXISTS (SELECT FROM execution e WHERE e.namespace = s.namespace "
            "AND e.public_id = s.public_id)"
            " AND NOT EXISTS (SELECT FROM execution e WHERE e.id = s.id)"
            " AND NOT EXISTS (SELECT FROM tombstone t WHERE t.namespace = s.namespace "
            "AND t.public_id = s.public_id)"
        )
    return conditions


def _requests(text: _Text) -> None:
    # In one order everywhere, so that two engines with the same ids do not wait for each other.
    text.parts.append(
        "req AS (INSERT INTO request AS r "
        "(namespace, request_id, hash, execution, public_id, expires_us) "
        "SELECT namespace, request_id, coalesce(request_hash, ''::bytea), id, public_id, "
        f"started_us + {REQUEST_TTL_US} FROM candidate WHERE request_id IS NOT NULL "
        "ORDER BY namespace, request_id "
        "ON CONFLICT (namespace, request_id) DO UPDATE SET hash = EXCLUDED.hash, "
        "execution = EXCLUDED.execution, public_id = EXCLUDED.public_id, "
        "expires_us = EXCLUDED.expires_us "
        f"WHERE r.expires_us <= EXCLUDED.expires_us - {REQUEST_TTL_US} RETURNING execution)"
    )
    text.checks.append(
        "(SELECT count(*) FROM req) = "
        "(SELECT count(*) FROM req WHERE execution IN (SELECT id FROM ex))"
    )


def _begun(column: str) -> str:
    # CASE keeps the planner from turning this into a nested loop over both.
    return f"CASE WHEN {column} IN (SELECT id FROM ex) THEN true ELSE false END"


def _append(text: _Text, table: Table, columns: tuple[str, ...], *, early: bool) -> None:
    rows = text.rows("u", columns, types_of(columns, table))
    only = ""
    if early:
        # The first parameter of the starts is their ids.
        ids = f"${FENCE_PARAMETERS + 1}::bigint[]"
        only = (
            f" WHERE CASE WHEN u.execution IN (SELECT unnest({ids})) "
            "THEN u.execution IN (SELECT id FROM ex) ELSE true END"
        )
    text.parts.append(
        f"{table.name}_rows AS (INSERT INTO {table.name} ({_names(columns)}) "
        f"SELECT {_names(columns, 'u.')} FROM fence, {rows}{only})"
    )


def _finishes(text: _Text) -> None:
    rows = text.rows(
        "u", ("execution", *FINISH_COLUMNS), ("bigint", *types_of(FINISH_COLUMNS, execution))
    )
    values = ", ".join(f'"{name}" = u."{name}"' for name in FINISH_COLUMNS)
    _update(text, f"{values}, parked = 0, wake_at_us = NULL, pause_reason = NULL", rows)


def _changes(text: _Text) -> None:
    """Update what is given: a status, a parking, an end, or several of them at once."""
    rows = text.rows(
        "u",
        ("execution", "has_status", "has_park", "has_end", *TAIL_COLUMNS),
        ("bigint", "boolean", "boolean", "boolean", *types_of(TAIL_COLUMNS, execution)),
    )
    groups = {
        "has_status": ("status", "pause_reason"),
        "has_park": ("parked", "wake_at_us"),
        "has_end": ("run", "finish_seq", "output", "blob", "error", "finished_us"),
    }
    values = ", ".join(
        f'"{name}" = CASE WHEN u.{flag} THEN u."{name}" ELSE e."{name}" END'
        for flag, names in groups.items()
        for name in names
    )
    _update(text, values, rows)


def _update(text: _Text, values: str, rows: str) -> None:
    expected = text.parameter("bigint")
    text.parts.append(
        f"fin AS (UPDATE execution e SET {values} FROM fence, {rows} "
        f"WHERE e.id = u.execution AND e.status < {TERMINAL_FROM} RETURNING e.id)"
    )
    text.checks.append(f"(SELECT count(*) FROM fin) = {expected}")
