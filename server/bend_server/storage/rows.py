"""Words that all stores share: column lists, terms, and small conversions of rows."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from bend_server.core.model import ApprovalRow, CacheRow, EventRow, ResultRow, StartRow
from bend_server.ports.control import Letter, RequestRow

REQUEST_TTL_US = 7 * 86_400 * 1_000_000
# Statuses from here on are terminal; partial indexes name the same number.
TERMINAL_FROM = 4
INT64_MAX = (1 << 63) - 1
_RUN_ID = 14

START_COLUMNS = StartRow._fields
RESULT_COLUMNS = tuple("try" if name == "try_" else name for name in ResultRow._fields)
EVENT_COLUMNS = EventRow._fields
APPROVAL_COLUMNS = tuple("try" if name == "try_" else name for name in ApprovalRow._fields)
CACHE_COLUMNS = CacheRow._fields
REQUEST_COLUMNS = RequestRow._fields
LETTER_COLUMNS = Letter._fields


def labels_of(labels: bytes) -> list[tuple[str, str]]:
    """Return the pairs of a labels object; values are text."""
    if len(labels) <= 2:
        return []
    return [(key, str(value)) for key, value in orjson.loads(labels).items()]


def signed_run_ids(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows whose run ids fit a signed column: SQL has no unsigned 64-bit integer."""
    return [
        row if row[_RUN_ID] <= INT64_MAX else _with_run_id(row, row[_RUN_ID] - (1 << 64))
        for row in rows
    ]


def result_rows(rows: Iterable[Sequence[Any]]) -> list[ResultRow]:
    """Make result rows of their columns; the opposite of `signed_run_ids`.

    The tuples are made without `_make`, which would cost as much again: recovery reads millions.
    """
    new = tuple.__new__
    return [
        new(ResultRow, row if row[_RUN_ID] >= 0 else _with_run_id(row, row[_RUN_ID] + (1 << 64)))
        for row in rows
    ]


def _with_run_id(row: Sequence[Any], run_id: int) -> tuple[Any, ...]:
    return (*row[:_RUN_ID], run_id, *row[_RUN_ID + 1 :])
