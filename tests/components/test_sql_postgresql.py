"""The sql component on a real PostgreSQL: values, limits, reasons, sessions that cannot write."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from bend import RetryableError, TerminalError
from bend.errors import ComponentError
from bend_executors.sql import SqlComponent
from bend_executors.sql.connections import Connection
from bend_executors.sql.database import Database, Work, _Session
from bend_executors.sql.failures import meaning_of
from tests.components.calls import Call, call
from tests.kit.postgres import PostgresServer

pytestmark = pytest.mark.postgres

SCHEMA = """
CREATE TABLE orders (id int PRIMARY KEY, customer text NOT NULL, total numeric CHECK (total > 0));
INSERT INTO orders VALUES (1, 'Ada', 19.90), (2, 'Bo', 80);
CREATE SEQUENCE counter;
CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN DELETE FROM orders; RETURN 1; END $$;
CREATE FUNCTION switches_off() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    SET LOCAL transaction_read_only = off;
    DELETE FROM orders;
    RETURN 1;
END $$;
"""


@pytest.fixture(scope="module")
def url(postgres_server: PostgresServer) -> str:
    """A database with two orders; tests leave it as it is."""
    made = postgres_server.fresh_database()

    async def fill() -> None:
        connection = await asyncpg.connect(plain(made))
        await connection.execute(SCHEMA)
        await connection.close()

    asyncio.run(fill())
    return made


def plain(url: str) -> str:
    return url.replace("+asyncpg", "")


def with_component(
    url: str, use: Callable[[Callable[..., Awaitable[Call]]], Awaitable[Any]], **more: Any
) -> Any:
    """Run `use(query)` with a writable connection `db`; `query(text, **input)` calls it."""

    async def run() -> Any:
        settings = Connection("db", "postgresql", url=url, **({"writable": True} | more))
        component = SqlComponent({"db": settings})

        def query(text: str, timeout_s: float = 30.0, **values: Any) -> Awaitable[Call]:
            given = {"connection": "db", "query": text} | values
            return call(component.query, given, timeout_s=timeout_s)

        try:
            return await use(query)
        finally:
            await component.close()

    return asyncio.run(run())


def output(url: str, text: str, **values: Any) -> Any:
    async def use(query: Callable[..., Awaitable[Call]]) -> Any:
        return (await query(text, **values)).output

    return with_component(url, use)


def failed(url: str, text: str, **values: Any) -> ComponentError:
    with pytest.raises((TerminalError, RetryableError)) as caught:
        output(url, text, **values)
    return caught.value


def test_values_keep_their_digits_and_their_times(url: str) -> None:
    text = """
    SELECT 1.10::numeric AS dec, 'NaN'::float8 AS nan, 2::bigint ^ 0 AS one,
        9007199254740993 AS big,
        timestamptz '2026-01-31 10:00:00.5+02' AS at, timestamp '2026-01-31 10:00' AS local,
        date 'infinity' AS never, interval '1 day 2 hours' AS wait, '\\x0102'::bytea AS seal,
        '6f9619ff-8b86-d011-b42d-00c04fc964ff'::uuid AS id, '{"a": [1, null]}'::jsonb AS j,
        ARRAY[1.5, NULL]::numeric[] AS list, ARRAY['2026-01-31'::date] AS days,
        int4range(1, 5) AS span, inet '10.0.0.1' AS ip, true AS yes, NULL AS none
    """
    assert output(url, text)["rows"] == [
        {
            "dec": "1.10",
            "nan": "NaN",
            "one": 1.0,
            "big": 9007199254740993,
            "at": "2026-01-31T08:00:00.5Z",
            "local": "2026-01-31T10:00:00",
            "never": "infinity",
            "wait": "P1DT2H",
            "seal": "AQI=",
            "id": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
            "j": {"a": [1, None]},
            "list": ["1.5", None],
            "days": ["2026-01-31"],
            "span": "[1,5)",
            "ip": "10.0.0.1",
            "yes": True,
            "none": None,
        }
    ]


def test_parameters_go_in_as_they_come_out(url: str) -> None:
    text = """
    SELECT CAST(:n AS numeric) AS n, CAST(:at AS timestamptz) AS at, CAST(:day AS date) AS day,
        CAST(:b AS bytea) AS b, CAST(:j AS jsonb) AS j, CAST(:l AS int[]) AS l,
        CAST(:t AS text) AS t
    """
    given = {
        "n": "0.10",
        "at": "2026-01-31T08:00:00.5Z",
        "day": "2026-01-31",
        "b": "AQI=",
        "j": {"a": "text"},
        "l": [1, 2],
        "t": "x' OR '1'='1",
    }
    assert output(url, text, parameters=given)["rows"] == [given]


def test_lists_in_in_and_in_any(url: str) -> None:
    query = "SELECT id FROM orders WHERE id IN (:ids) ORDER BY id"
    assert output(url, query, parameters={"ids": [1, 2, 3]})["row_count"] == 2
    query = "SELECT id FROM orders WHERE id = ANY(:ids)"
    assert output(url, query, parameters={"ids": []})["row_count"] == 0


def test_many_rows_are_streamed_from_a_cursor(url: str) -> None:
    async def use(query: Callable[..., Awaitable[Call]]) -> Call:
        return await query("SELECT g AS n, repeat('x', 300) AS t FROM generate_series(0, 1999) g")

    got = with_component(url, use)
    assert len(got.partials) == 4
    assert [row["n"] for page in got.partials for row in page["rows"]] == list(range(2000))
    assert got.output["rows"] == [row for page in got.partials for row in page["rows"]]


def test_a_result_without_end_is_cut_without_reading_it(url: str) -> None:
    query = "SELECT a.i FROM generate_series(1, 100000) a(i), generate_series(1, 100000) b"
    got = output(url, query, truncate=True)
    assert (got["row_count"], got["truncated"]) == (10_000, True)
    assert failed(url, query).reason == "SQL_TOO_MANY_ROWS"


@pytest.mark.parametrize("returns", [True, False])
@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM orders",
        "WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone",
        "SELECT writes()",
        "SELECT switches_off()",
        "SELECT nextval('counter')",
        "SELECT 1; DELETE FROM orders",
        "SET TRANSACTION READ WRITE",
        "SET LOCAL transaction_read_only = off",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "DO $$ BEGIN SET LOCAL transaction_read_only = off; DELETE FROM orders; END $$",
        "DO $$ BEGIN COMMIT; DELETE FROM orders; END $$",
        "BEGIN READ WRITE",
        "CREATE TABLE x (a int)",
        "COPY orders FROM PROGRAM 'echo 7,x,1'",
        "SELECT * INTO copied FROM orders",
        "SELECT id FROM orders FOR UPDATE",
        "TRUNCATE orders",
        "EXPLAIN ANALYZE DELETE FROM orders",
    ],
)
def test_the_session_refuses_by_itself(url: str, query: str, returns: bool) -> None:
    """Past the parser, as a superuser: each query goes to the session as it is."""

    async def unchecked() -> Any:
        settings = Connection("db", "postgresql", url=url, writable=True)
        database = Database(settings)
        work = Work(query, (), writing=False, returns=returns, truncate=False, timeout_s=5.0)
        try:
            with pytest.raises(TerminalError) as caught:
                async for _ in database.run(work):
                    pass
        finally:
            await database.close()
        return caught.value.reason

    assert asyncio.run(unchecked()) in {
        "SQL_READ_ONLY",
        "SQL_REFUSED",
        "SQL_SYNTAX",
        "SQL_FAILED",
    }
    assert output(url, "SELECT count(*) AS n FROM orders")["rows"] == [{"n": 2}]


def test_settings_that_a_query_changed_do_not_outlive_it(url: str) -> None:
    async def unchecked() -> list[Any]:
        settings = Connection("db", "postgresql", url=url, pool=1)
        database = Database(settings)
        found = []
        for query in (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            "SET statement_timeout = 0",
            "COMMIT",
            "SHOW default_transaction_read_only",
            "SHOW statement_timeout",
            "SHOW transaction_read_only",
        ):
            shows = query.startswith("SHOW")
            work = Work(query, (), writing=False, returns=shows, truncate=False, timeout_s=5.0)
            async for one in database.run(work):
                found += [*one.value["rows"][0].values()] if shows else []  # type: ignore[union-attr]
        await database.close()
        return found

    read_only, limit, transaction = asyncio.run(unchecked())
    assert (read_only, transaction) == ("on", "on")
    assert limit.endswith("ms")
    assert limit != "0"


def test_a_function_that_writes_fails_in_mode_read(url: str) -> None:
    assert failed(url, "SELECT writes()").reason == "SQL_READ_ONLY"


def test_writing_is_one_transaction(url: str) -> None:
    insert = "INSERT INTO orders VALUES (:id, :name, :total) RETURNING id, total"
    values = {"id": 7, "name": "Cy", "total": "5.00"}
    got = output(url, insert, mode="write", parameters=values)
    assert got["rows"] == [{"id": 7, "total": "5.00"}]
    gone = output(url, "DELETE FROM orders WHERE id = 7", mode="write")
    assert (gone["row_count"], gone["columns"]) == (1, [])
    error = failed(url, "DELETE FROM orders RETURNING id, id", mode="write")
    assert error.reason == "SQL_COLUMNS"
    assert output(url, "SELECT count(*) AS n FROM orders")["rows"] == [{"n": 2}]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("INSERT INTO orders VALUES (1, 'x', 1)", "SQL_CONSTRAINT"),
        ("INSERT INTO orders VALUES (9, NULL, 1)", "SQL_CONSTRAINT"),
        ("INSERT INTO orders VALUES (9, 'x', -1)", "SQL_CONSTRAINT"),
        ("SELECT nothing FROM orders", "SQL_SYNTAX"),
        ("SELECT * FROM nowhere", "SQL_SYNTAX"),
        ("SELECT 1 / 0", "SQL_DATA"),
        ("SELECT daterange('2026-01-01', '2026-02-01') AS r", "SQL_TYPE"),
    ],
)
def test_reasons_of_what_stays_wrong(url: str, query: str, reason: str) -> None:
    error = failed(url, query, mode="write")
    assert (error.reason, error.retryable) == (reason, False)


def test_a_parameter_of_the_wrong_type_is_named_so(url: str) -> None:
    query = "SELECT id FROM orders WHERE id = :id"
    assert failed(url, query, parameters={"id": "one"}).reason == "SQL_PARAMETER"
    query = "SELECT id FROM orders WHERE total > :total"
    assert failed(url, query, parameters={"total": "much"}).reason == "SQL_DATA"


@pytest.mark.parametrize(
    ("state", "reason", "retryable"),
    [
        ("40001", "SQL_SERIALIZATION", True),
        ("40P01", "SQL_DEADLOCK", True),
        ("55P03", "SQL_LOCKED", True),
        ("53300", "SQL_OVERLOADED", True),
        ("57P01", "SQL_CONNECTION", True),
        ("08006", "SQL_CONNECTION", True),
        ("42501", "SQL_PERMISSION", False),
        ("28P01", "SQL_AUTHENTICATION", False),
        ("XX000", "SQL_FAILED", False),
    ],
)
def test_what_a_sqlstate_means(state: str, reason: str, retryable: bool) -> None:
    assert meaning_of(state) == (reason, retryable)


def test_a_driver_that_is_confused_costs_its_connection(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server's farewell in the middle of an answer: the pool's only connection is made anew."""

    async def confused(_session: object) -> None:
        raise asyncpg.InternalClientError("got result for unknown protocol state 3")

    async def use(query: Callable[..., Awaitable[Call]]) -> tuple[ComponentError, int, int]:
        def pid(found: Call) -> int:
            return int(found.output["rows"][0]["pid"])

        first = pid(await query("SELECT pg_backend_pid() AS pid"))
        with monkeypatch.context() as once:
            once.setattr(_Session, "_limit", confused)
            with pytest.raises(RetryableError) as caught:
                await query("SELECT 1 AS a")
        return caught.value, first, pid(await query("SELECT pg_backend_pid() AS pid"))

    error, first, second = with_component(url, use, pool=1)
    assert error.reason == "SQL_CONNECTION"
    assert first != second


def test_a_deadlock_is_tried_again(url: str) -> None:
    """Two transactions lock the same rows in opposite orders."""

    async def use(query: Callable[..., Awaitable[Call]]) -> ComponentError:
        # The server asks each side once, a second after it began to wait. When this machine is so
        # busy that the other side is not there by then, that one is chosen: once more.
        for _ in range(5):
            found = await crossed_with(query)
            if isinstance(found, RetryableError):
                break
        assert isinstance(found, RetryableError), found
        return found

    async def crossed_with(query: Callable[..., Awaitable[Call]]) -> object:
        other = await asyncpg.connect(plain(url))
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SET LOCAL deadlock_timeout = '10s'")
        await other.execute("UPDATE orders SET customer = 'x' WHERE id = 2")
        # The CTE makes the order certain: row 1 first, then row 2, which the other one holds.
        text = """
        WITH a AS (UPDATE orders SET customer = 'y' WHERE id = 1 RETURNING id)
        UPDATE orders SET customer = 'y' FROM a WHERE orders.id = a.id + 1
        """
        task = asyncio.ensure_future(query(text, mode="write"))
        await waiting(other)
        crossed = asyncio.ensure_future(
            other.execute("UPDATE orders SET customer = 'x' WHERE id = 1")
        )
        ended, _ = await asyncio.gather(task, crossed, return_exceptions=True)
        await transaction.rollback()
        await other.execute("UPDATE orders SET customer = 'Ada' WHERE id = 1")
        await other.execute("UPDATE orders SET customer = 'Bo' WHERE id = 2")
        await other.close()
        return ended

    assert with_component(url, use).reason == "SQL_DEADLOCK"


async def waiting(connection: Any) -> None:
    """Return when a session of the component waits for a lock."""
    asked = (
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE NOT granted AND application_name = 'bend-sql db'"
    )
    await eventually(lambda: connection.fetchval(asked), 1)


async def eventually(ask: Callable[[], Awaitable[Any]], wanted: Any, within_s: float = 60) -> None:
    """Return when the answer is the wanted one."""
    deadline = time.monotonic() + within_s
    while (found := await ask()) != wanted:
        assert time.monotonic() < deadline, f"{found!r} is not {wanted!r} within {within_s} s"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["cancelled", "timeout"])
def test_a_statement_that_nobody_wants_stops_in_the_server(url: str, how: str) -> None:
    async def use(query: Callable[..., Awaitable[Call]]) -> Any:
        watcher = await asyncpg.connect(plain(url))
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
            "AND application_name = 'bend-sql db' AND query LIKE '%generate_series(1, 1000000000%'"
        )

        def running() -> Awaitable[Any]:
            found: Awaitable[Any] = watcher.fetchval(asked)
            return found

        text = "SELECT count(*) AS n FROM generate_series(1, 1000000000) g"
        for timeout_s in (60.0,) if how == "cancelled" else (1.0, 5.0, 30.0):
            task = asyncio.ensure_future(query(text, timeout_s=timeout_s))

            async def begun_or_over(task: "asyncio.Future[Call]" = task) -> bool:
                return task.done() or await running() == 1

            await eventually(begun_or_over, True)
            if not task.done():
                break  # else a busy machine had not begun it in its time: once more, with more
        if how == "cancelled":
            task.cancel()
        with pytest.raises((asyncio.CancelledError, RetryableError)) as caught:
            await task
        await eventually(running, 0)
        # The pool still works.
        assert (await query("SELECT 1 AS a")).output["row_count"] == 1
        await watcher.close()
        return caught.value

    error = with_component(url, use, pool=1)
    assert isinstance(error, asyncio.CancelledError) or error.reason == "SQL_TIMEOUT"


def test_a_killed_session_is_replaced_and_a_full_pool_says_so(url: str) -> None:
    async def use(query: Callable[..., Awaitable[Call]]) -> list[str]:
        watcher = await asyncpg.connect(plain(url))
        found = []
        slow = asyncio.ensure_future(query("SELECT pg_sleep(20)"))
        asked = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE query LIKE '%pg_sleep(20)%' AND pid <> pg_backend_pid()"
        )
        await eventually(lambda: watcher.fetchval(asked), 1)
        with pytest.raises(RetryableError) as caught:
            await query("SELECT 1", timeout_s=0.2)
        found.append(caught.value.reason)
        await watcher.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'bend-sql db'"
        )
        with pytest.raises(RetryableError) as caught:
            await slow
        found.append(caught.value.reason)
        assert (await query("SELECT 1 AS a")).output["row_count"] == 1
        await watcher.close()
        return found

    assert with_component(url, use, pool=1) == ["SQL_TIMEOUT", "SQL_CONNECTION"]


def test_sslmode_of_the_url_is_heard(url: str) -> None:
    assert output(f"{url}?sslmode=disable", "SELECT 1 AS a")["row_count"] == 1
    error = failed(f"{url}?sslmode=require", "SELECT 1 AS a")
    assert (error.reason, error.retryable) == ("SQL_CONNECTION", True)


def test_no_message_has_the_url(url: str) -> None:
    place = url.rpartition("@")[2].rpartition("/")[0]
    for wrong in (
        "postgresql+asyncpg://u5er:hunter2@127.0.0.1:1/private",
        f"postgresql+asyncpg://u5er:hunter2@{place}/private",
        "postgresql+asyncpg://u5er:hunter2@no-such-host.invalid/private",
        "postgresql+asyncpg://u5er:hunter2@127.0.0.1:port/private",
    ):
        error = failed(wrong, "SELECT 1")
        said = f"{error} {error.details}"
        assert not any(word in said for word in ("hunter2", "u5er", "private", "127.0.0.1"))
        assert error.reason in {"SQL_CONNECTION", "SQL_AUTHENTICATION", "SQL_CONFIGURATION"}
