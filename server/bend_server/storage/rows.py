"""Words that all stores share: column lists, terms, and small conversions of rows."""

import orjson

from bend_server.core.model import EventRow, ResultRow, StartRow

REQUEST_TTL_US = 7 * 86_400 * 1_000_000
# Statuses from here on are terminal; partial indexes name the same number.
TERMINAL_FROM = 4
INT64_MAX = (1 << 63) - 1

START_COLUMNS = StartRow._fields
RESULT_COLUMNS = tuple("try" if name == "try_" else name for name in ResultRow._fields)
EVENT_COLUMNS = EventRow._fields


def labels_of(labels: bytes) -> list[tuple[str, str]]:
    """Return the pairs of a labels object; values are text."""
    if len(labels) <= 2:
        return []
    return [(key, str(value)) for key, value in orjson.loads(labels).items()]


def signed_run_ids(rows: list[ResultRow]) -> list[ResultRow]:
    """Return rows whose run ids fit a signed column: SQL has no unsigned 64-bit integer."""
    return [
        row if row.run_id <= INT64_MAX else row._replace(run_id=row.run_id - (1 << 64))
        for row in rows
    ]


def result_row(values: tuple[object, ...]) -> ResultRow:
    """Make a result row of its columns."""
    row = ResultRow._make(values)
    return row if row.run_id >= 0 else row._replace(run_id=row.run_id + (1 << 64))
