"""Many rows in few steps of SQLite's machine.

The driver lets go of the interpreter's lock for each step and has to win it back from the event
loop afterwards. `executemany` steps once a row, and under load the lock can cost more than the row.
One statement with many rows is one step.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain

_SIZES = (128, 64, 32, 16, 8, 4, 2, 1)
"""Rows of one statement; few sizes, so that the driver keeps each statement prepared."""


class Rows:
    """A statement over rows of one width.

    Args:
        before: the statement up to its VALUES.
        width: how many values a row has.
        after: the rest of the statement.
    """

    def __init__(self, before: str, width: int, after: str = "") -> None:
        one = f"({', '.join('?' * width)})"
        self._statements = [
            (size, f"{before} VALUES {', '.join([one] * size)}{after}") for size in _SIZES
        ]

    def write(self, connection: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> int:
        """Run it over all rows, in order; return how many rows it changed."""
        changed = place = 0
        for size, statement in self._statements:
            while place + size <= len(rows):
                values = tuple(chain.from_iterable(rows[place : place + size]))
                changed += connection.execute(statement, values).rowcount
                place += size
        return changed


def insertion(table: str, columns: Sequence[str], after: str = "") -> Rows:
    """Return an insert of whole rows."""
    names = ", ".join(f'"{name}"' for name in columns)
    return Rows(f"INSERT INTO {table} ({names})", len(columns), after)
