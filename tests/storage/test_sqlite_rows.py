"""Many rows in few statements: all of them, in order, and really few."""

import sqlite3

import pytest

from bend_server.storage.sqlite_rows import Rows, insertion


def table() -> sqlite3.Connection:
    """Return a connection to a small table."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute('CREATE TABLE facts (id INTEGER PRIMARY KEY, "try" INTEGER, output BLOB)')
    return connection


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 64, 127, 128, 129, 255, 256, 300, 1000])
def test_every_row_arrives_in_order(count: int) -> None:
    connection = table()
    rows = [(number, number * 2, b"%d" % number) for number in range(count)]
    assert insertion("facts", ("id", "try", "output")).write(connection, rows) == count
    assert connection.execute("SELECT * FROM facts ORDER BY rowid").fetchall() == rows


def test_a_batch_takes_few_statements() -> None:
    connection = table()
    said: list[str] = []
    connection.set_trace_callback(said.append)
    rows = [(number, 0, None) for number in range(255)]
    insertion("facts", ("id", "try", "output")).write(connection, rows)
    assert len(said) == 8


def test_only_changed_rows_count() -> None:
    connection = table()
    facts = insertion("facts", ("id", "try", "output"), " ON CONFLICT DO NOTHING")
    assert facts.write(connection, [(1, 0, None), (2, 0, None)]) == 2
    assert facts.write(connection, [(2, 5, None), (3, 5, None), (4, 5, None)]) == 2
    assert connection.execute('SELECT "try" FROM facts WHERE id = 2').fetchone() == (0,)
    update = Rows(
        'UPDATE facts SET "try" = new.column2 FROM (', 2, ") AS new WHERE facts.id = new.column1"
    )
    assert update.write(connection, [(1, 10), (9, 10), (3, 30), (3, 31)]) == 2
    assert connection.execute('SELECT "try" FROM facts WHERE id = 1').fetchone() == (10,)
