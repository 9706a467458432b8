"""A PostgreSQL that says its farewell to idle connections and in between two steps of a query."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from bend.errors import ComponentError
from bend_executors.sql.connections import Connection
from bend_executors.sql.database import Database, Work
from tests.kit.farewells import Relay, relay
from tests.kit.postgres import PostgresServer

# The last page is full in the middle of the rows that were fetched together with the last one.
PAGES, ROWS_MAX = 17, 8550
pytestmark = pytest.mark.postgres


async def read(database: Database, sql: str) -> AsyncIterator[Any]:
    work = Work(sql, (), writing=False, returns=True, truncate=True, timeout_s=30.0)
    async with aclosing(database.run(work)) as found:
        async for one in found:
            yield one


async def rows(database: Database, sql: str) -> Any:
    return [one async for one in read(database, sql)][-1].value["rows"]


def relayed(server: PostgresServer, use: Callable[[Relay, Database], Awaitable[Any]]) -> Any:
    """Run `use` with a database behind a relay."""

    async def run() -> Any:
        async with relay(server.port) as way:
            url = f"postgresql+asyncpg://bend@127.0.0.1:{way.port}/postgres?sslmode=disable"
            database = Database(Connection("db", "postgresql", url=url, rows_max=ROWS_MAX))
            try:
                return await use(way, database)
            finally:
                await database.close()

    return asyncio.run(run())


@pytest.mark.parametrize("heard", [True, False])
def test_a_farewell_to_an_idle_connection_is_no_failure(
    postgres_server: PostgresServer, heard: bool
) -> None:
    async def use(way: Relay, database: Database) -> list[Any]:
        found = [await rows(database, "SELECT 0 AS a")]
        for number in (1, 2):
            await way.farewell(heard=heard)
            found.append(await rows(database, f"SELECT {number} AS a"))
        return found

    assert relayed(postgres_server, use) == [[{"a": 0}], [{"a": 1}], [{"a": 2}]]


@pytest.mark.parametrize("heard", [True, False])
def test_a_farewell_between_two_pages_is_a_lost_connection(
    postgres_server: PostgresServer, heard: bool
) -> None:
    """The driver calls it a fault of its own, InternalClientError, when it heard it between."""

    async def use(way: Relay, database: Database) -> tuple[ComponentError | None, Any]:
        error = None
        try:
            async for _ in read(database, "SELECT g FROM generate_series(1, 9000) AS g"):
                await way.farewell(heard=heard)
        except ComponentError as raised:
            error = raised
        return error, await rows(database, "SELECT 7 AS a")

    error, after = relayed(postgres_server, use)
    assert error is not None
    assert (error.reason, error.retryable) == ("SQL_CONNECTION", True)
    assert after == [{"a": 7}]


def test_a_farewell_after_the_last_row_takes_nothing_from_the_answer(
    postgres_server: PostgresServer,
) -> None:
    async def use(way: Relay, database: Database) -> list[Any]:
        found = []
        async for one in read(database, "SELECT g FROM generate_series(1, 9000) AS g"):
            found.append(one)
            if len(found) == PAGES:
                await way.farewell(heard=True)
        return found

    pages = relayed(postgres_server, use)
    assert len(pages) == PAGES + 2
    answer = pages[-1].value
    assert (answer["row_count"], answer["truncated"]) == (ROWS_MAX, True)
