"""Random queries: what the parser takes for reading changes nothing, even where all is allowed."""

import random
import sqlite3
from contextlib import closing

from bend import TerminalError
from bend_executors.sql.binding import bound
from bend_executors.sql.guard import checked

SEED = 20261126
QUERIES = 4_000
FRAGMENTS = [
    "SELECT", "*", "FROM t", "a", "1", ",", "(", ")", "WITH x AS (", "SELECT a FROM t",
    "DELETE FROM t", "INSERT INTO t VALUES (9)", "UPDATE t SET a = 9", "REPLACE INTO t VALUES (9)",
    "RETURNING a", "DROP TABLE t", "CREATE TABLE u (b)", "PRAGMA user_version = 7", "VACUUM",
    "ATTACH ':memory:' AS m", ";", "--", "/*", "*/", "'", "\"", "`", "[", "]", "\n", "x'00'", "E'",
    "\\", "\\'", "''", ":p", "::", "AS", "WHERE a = :p", "UNION ALL SELECT 2", "VALUES (1)", "$$",
    "ORDER BY 1", "LIMIT 1", "EXPLAIN", "BEGIN", "COMMIT", "IN (:p)", "AND", "-", "/", "+",
]  # fmt: skip


def database() -> sqlite3.Connection:
    """A database in memory without any guard."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)")
    return connection


def image(connection: sqlite3.Connection) -> bytes:
    return connection.serialize()


def test_what_is_taken_for_reading_writes_nothing_even_unguarded() -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    taken = ran = 0
    with closing(database()) as connection:
        before = image(connection)
        for _ in range(QUERIES):
            words = chance.choices(FRAGMENTS, k=chance.randint(1, 7))
            query = chance.choice(("", "SELECT a FROM t ", "SELECT ")) + " ".join(words)
            try:
                text, values = bound("sqlite", checked("sqlite", "read", query), {"p": 1})
            except TerminalError:
                try:
                    text, values = bound("sqlite", checked("sqlite", "read", query), {})
                except TerminalError:
                    continue
            taken += 1
            try:
                connection.execute(text, values).fetchall()
                ran += 1
            except sqlite3.Error:
                pass
            assert image(connection) == before, query
            assert not connection.in_transaction, query
    assert taken > 100
    assert ran > 50
