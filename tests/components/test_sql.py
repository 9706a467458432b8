"""The sql component on SQLite files, and what it says for itself."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bend import RetryableError, TerminalError
from bend.errors import ComponentError, ConfigurationError
from bend_executors import configuration
from bend_executors.sql import SqlComponent, service
from bend_executors.sql.connections import Connection, read_connections
from bend_executors.sql.database import Database, Work
from tests.components.calls import Call, call, documented

ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS m FROM n"
)
SCHEMA = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total REAL, status TEXT, seal BLOB);
INSERT INTO orders VALUES (1, 'Ada', 12.5, 'new', x'0102'), (2, 'Bo', 80, 'paid', NULL);
CREATE TABLE notes (key TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE big (n INTEGER);
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1199)
INSERT INTO big SELECT i FROM n;
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database with two orders."""
    path = tmp_path / "orders 50%?.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(SCHEMA)
    connection.close()
    return path


def settings(file: Path, **more: Any) -> Connection:
    return Connection("reports", "sqlite", file=file, **more)


def run(one: Connection, query: str, *, sink: Call | None = None, **more: Any) -> Call:
    """Run one query on a fresh component."""
    about = {key: more.pop(key) for key in ("namespace", "timeout_s") if key in more}

    async def once() -> Call:
        component = SqlComponent({"reports": one})
        try:
            values = {"connection": "reports", "query": query} | more
            return await call(component.query, values, sink=sink, **about)
        finally:
            await component.close()

    return asyncio.run(once())


def failed(one: Connection, query: str, **more: Any) -> ComponentError:
    """Return the error of a query."""
    with pytest.raises((TerminalError, RetryableError)) as caught:
        run(one, query, **more)
    return caught.value


def test_the_examples_of_the_document_run(file: Path) -> None:
    async def all_of_them() -> list[Any]:
        component = SqlComponent({"reports": settings(file, writable=True)})
        tasks = documented("sql")
        try:
            reserved = ("id", "type", "timeout")
            return [
                (
                    await call(
                        component.query, {k: v for k, v in task.items() if k not in reserved}
                    )
                ).output
                for task in tasks
            ]
        finally:
            await component.close()

    recent, mark, note = asyncio.run(all_of_them())
    assert recent["rows"] == [{"id": 2, "customer": "Bo", "total": 80.0}]
    assert mark == {
        "columns": ["id", "status"],
        "rows": [{"id": 2, "status": "shipped"}],
        "row_count": 1,
        "truncated": False,
    }
    assert (note["rows"], note["row_count"]) == ([], 1)


def test_values_of_sqlite_as_json(file: Path) -> None:
    got = run(settings(file), "SELECT id, seal, NULL AS none, 9e999 AS much FROM orders LIMIT 1")
    assert got.output["rows"] == [{"id": 1, "seal": "AQI=", "none": None, "much": "Infinity"}]
    assert got.partials == []


def test_many_rows_come_in_pages_that_together_are_the_output(file: Path) -> None:
    got = run(settings(file), "SELECT n FROM big ORDER BY n")
    assert [page["first"] for page in got.partials] == [0, 500, 1000]
    assert [row for page in got.partials for row in page["rows"]] == got.output["rows"]
    assert got.output["row_count"] == 1200


def test_a_limit_of_rows_and_one_of_bytes_end_a_query(file: Path) -> None:
    few = settings(file, rows_max=10)
    assert failed(few, "SELECT n FROM big").reason == "SQL_TOO_MANY_ROWS"
    assert run(few, "SELECT n FROM big LIMIT 10").output["truncated"] is False
    cut = run(few, "SELECT n FROM big ORDER BY n", truncate=True).output
    assert (cut["row_count"], cut["truncated"], cut["rows"][-1]) == (10, True, {"n": 9})
    small = settings(file, bytes_max=1000)
    assert failed(small, "SELECT n FROM big").reason == "SQL_TOO_MANY_BYTES"
    assert failed(small, "SELECT zeroblob(9000000) AS z").reason == "SQL_DATA"


def test_over_a_limit_nothing_is_written(file: Path) -> None:
    few = settings(file, rows_max=1, writable=True)
    error = failed(few, "UPDATE orders SET status = 'x' RETURNING id", mode="write")
    assert error.reason == "SQL_TOO_MANY_ROWS"
    assert run(few, "SELECT count(*) AS n FROM orders WHERE status = 'x'").output["rows"][0] == {
        "n": 0
    }


@pytest.mark.parametrize("returns", [True, False])
@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM orders",
        "WITH x AS (SELECT 1) INSERT INTO notes SELECT 'a', 'b'",
        "CREATE TABLE x (a)",
        "DROP TABLE orders",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = WAL",
        "SELECT * FROM pragma_journal_mode",
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'other.db'",
        "SELECT load_extension('x')",
        "BEGIN IMMEDIATE",
        "CREATE TEMP TABLE x (a)",
    ],
)
def test_the_session_refuses_by_itself(file: Path, query: str, returns: bool) -> None:
    """Past the parser: each query goes to the session as it is."""
    before = file.read_bytes()

    async def unchecked() -> None:
        database = Database(settings(file, writable=True))
        work = Work(query, (), writing=False, returns=returns, truncate=False, timeout_s=5.0)
        try:
            async for _ in database.run(work):
                pass
        finally:
            await database.close()

    with pytest.raises(TerminalError) as caught:
        asyncio.run(unchecked())
    assert caught.value.reason in {"SQL_REFUSED", "SQL_READ_ONLY", "SQL_SYNTAX"}
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELECT nothing FROM orders", "SQL_SYNTAX"),
        ("SELECT FROM WHERE", "SQL_SYNTAX"),
        ("SELECT 1 AS a, 2 AS a", "SQL_COLUMNS"),
        ("INSERT INTO orders (id) VALUES (1)", "SQL_CONSTRAINT"),
        ("INSERT INTO notes VALUES ('k', NULL)", "SQL_CONSTRAINT"),
        ("INSERT INTO orders (id) VALUES ('no number')", "SQL_DATA"),
    ],
)
def test_reasons_of_what_stays_wrong(file: Path, query: str, reason: str) -> None:
    error = failed(settings(file, writable=True), query, mode="write")
    assert (error.reason, error.retryable) == (reason, False)


def test_a_parameter_that_sqlite_cannot_hold(file: Path) -> None:
    for value in ({"a": 1}, [1], 2**63):
        error = failed(settings(file), "SELECT :x AS x", parameters={"x": value})
        assert error.reason == "SQL_PARAMETER"


def test_an_injection_is_only_a_value(file: Path) -> None:
    query = "SELECT id FROM orders WHERE customer = :name"
    got = run(settings(file), query, parameters={"name": "Ada' OR '1'='1"})
    assert got.output["row_count"] == 0


def test_a_locked_file_and_a_missing_one_are_tried_again(file: Path, tmp_path: Path) -> None:
    error = failed(settings(tmp_path / "none.db"), "SELECT 1")
    assert (error.reason, error.retryable) == ("SQL_CONNECTION", True)
    assert str(tmp_path) not in str(error)
    assert not (tmp_path / "none.db").exists()
    holder = sqlite3.connect(file)
    try:
        holder.execute("BEGIN IMMEDIATE")
        error = failed(settings(file, writable=True), "DELETE FROM notes", mode="write")
    finally:
        holder.close()
    assert (error.reason, error.retryable) == ("SQL_LOCKED", True)


def test_an_endless_query_ends_with_its_time_and_the_next_one_runs(file: Path) -> None:
    async def both() -> tuple[ComponentError, Any]:
        component = SqlComponent({"reports": settings(file, pool=1)})
        with pytest.raises(RetryableError) as caught:
            await call(component.query, {"connection": "reports", "query": ENDLESS}, timeout_s=0.2)
        got = await call(component.query, {"connection": "reports", "query": "SELECT 1 AS a"})
        await component.close()
        return caught.value, got.output["rows"]

    error, rows = asyncio.run(both())
    assert (error.reason, rows) == ("SQL_TIMEOUT", [{"a": 1}])


def test_a_cancelled_task_stops_its_query(file: Path) -> None:
    async def cancel() -> Any:
        component = SqlComponent({"reports": settings(file, pool=1)})
        slow = asyncio.create_task(
            call(component.query, {"connection": "reports", "query": ENDLESS})
        )
        done, _ = await asyncio.wait([slow], timeout=0.3)
        assert not done
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        # The pool has one connection: it is free only when the query has ended.
        got = await call(component.query, {"connection": "reports", "query": "SELECT 1 AS a"})
        await component.close()
        return got.output["rows"]

    assert asyncio.run(cancel()) == [{"a": 1}]


def test_who_may_use_a_connection(file: Path) -> None:
    one = settings(file, namespaces=frozenset(("sales",)))
    assert failed(one, "SELECT 1").reason == "SQL_CONNECTION_UNKNOWN"
    assert run(one, "SELECT 1 AS a", namespace="sales").output["row_count"] == 1
    other = failed(one, "SELECT 1", connection="payroll", namespace="sales")
    assert other.reason == "SQL_CONNECTION_UNKNOWN"
    assert failed(one, "DELETE FROM notes", mode="write", namespace="sales").reason == (
        "SQL_READ_ONLY"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "'url' is missing"),
        ("{url: 'mysql://u:hunter2@h/d'}", r"a\.url: postgresql://… or sqlite:///FILE is wanted"),
        ("{url: 'sqlite://'}", r"a\.url: sqlite:///FILE is wanted"),
        ("{url: 'sqlite:///:memory:'}", r"a\.url: sqlite:///FILE is wanted"),
        ("{url: 'sqlite:///x.db', pool: 0}", r"a\.pool: 1 to 64"),
        ("{url: 'sqlite:///x.db', namespaces: []}", r"a\.namespaces: a list of names"),
        ("{url: 'sqlite:///x.db', statement_timeout: 0}", r"a\.statement_timeout: seconds"),
        ("{url: 'postgresql://h/d', ca: missing.pem}", r"a\.ca: missing\.pem is no file"),
        ("{url: 'sqlite:///x.db', writeable: true}", "unknown key 'writeable'"),
    ],
)
def test_mistakes_of_the_operator_name_their_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "components.yaml").write_text(f"sql: {{connections: {{a: {text}}}}}\n")
    environment = {"BEND_HOME": str(tmp_path)}
    section = configuration.load(environment).section("sql")
    with pytest.raises(ConfigurationError, match=message) as caught:
        service(environment, section)
    assert "hunter2" not in str(caught.value)


def test_the_operator_s_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "components.yaml").write_text(
        "sql: {connections: {a: {url: {secret: A}, writable: true, rows_max: 5, pool: 2,"
        " statement_timeout: 1.5}, b: {url: 'sqlite:///b.db'}}}\n"
    )
    environment = {"BEND_HOME": str(tmp_path), "BEND_SECRET_A": "postgres://u:hunter2@h/d"}
    found = read_connections(environment, configuration.load(environment).section("sql"))
    assert found["b"].file == tmp_path / "b.db"
    assert found["a"].url == "postgresql+asyncpg://u:hunter2@h/d"
    assert (found["a"].rows_max, found["a"].pool, found["a"].writable) == (5, 2, True)
    assert "hunter2" not in repr(found["a"])


def test_starting_loads_no_heavy_library() -> None:
    program = (
        "import sys; from bend_executors.__main__ import services; services({});"
        "print([name for name in ('sqlalchemy', 'sqlglot', 'asyncpg', 'aiosqlite',"
        " 'confluent_kafka') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
