"""The rare rows of a group commit on SQLite: new runs, approvals, cache entries, letters."""

import sqlite3
from collections.abc import Iterable, Sequence

from bend_server.core.errors import InvariantBroken
from bend_server.core.model import Reopen
from bend_server.ports.store import Batch
from bend_server.storage.rows import (
    APPROVAL_COLUMNS,
    CACHE_COLUMNS,
    LETTER_COLUMNS,
    REQUEST_COLUMNS,
)


def insert(table: str, columns: Sequence[str]) -> str:
    """Return an insert with one parameter a column."""
    names = ", ".join(f'"{name}"' for name in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"


_REOPEN = (
    "UPDATE execution SET run = ?, deadline_us = ?, status = 2, pause_reason = NULL, parked = 0, "
    "wake_at_us = NULL, finish_seq = NULL, output = NULL, blob = NULL, error = NULL, "
    "finished_us = NULL WHERE id = ? AND run <= ?"
)
_APPROVAL = insert("approval", APPROVAL_COLUMNS)
_APPROVAL_END = (
    "UPDATE approval SET status = ?, decided_by = ?, decided_us = ?, comment = ? "
    'WHERE execution = ? AND task = ? AND item = ? AND "try" = ?'
)
_CACHE = insert("cache_entry", CACHE_COLUMNS).replace("INSERT", "INSERT OR REPLACE", 1)
REQUEST = insert("request", REQUEST_COLUMNS).replace("INSERT", "INSERT OR REPLACE", 1)
_LETTER = insert("mailbox", LETTER_COLUMNS) + " ON CONFLICT (dedupe_key) DO NOTHING"
_READ = "DELETE FROM mailbox WHERE id = ?"


def reopen(connection: sqlite3.Connection, reopens: list[Reopen]) -> None:
    """Open new runs; before everything else of the batch."""
    rows = [(row.run, row.deadline_us, row.execution, row.run) for row in reopens]
    if connection.executemany(_REOPEN, rows).rowcount != len(rows):
        raise InvariantBroken("an execution to open again is unknown or in a later run")


def write_extras(connection: sqlite3.Connection, batch: Batch, refused: set[int]) -> None:
    """Write what is not a row of the ordinary kinds."""
    steps: tuple[tuple[str, Iterable[Sequence[object]]], ...] = (
        (_APPROVAL, [row for row in batch.approvals if row.execution not in refused]),
        (_APPROVAL_END, [(*row[4:], *row[:4]) for row in batch.approval_ends]),
        (_CACHE, batch.caches),
        (REQUEST, batch.requests),
        (_LETTER, batch.letters),
        (_READ, [(number,) for number in batch.read]),
    )
    for statement, rows in steps:
        if rows:
            connection.executemany(statement, rows)
