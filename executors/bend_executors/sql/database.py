"""Runs checked statements on one database and stops them when nobody wants them any more."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import asyncpg
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bend import Final
from bend_executors.sql.connections import Connection
from bend_executors.sql.failures import LOST, failure
from bend_executors.sql.pages import Answer, Page, Rows
from bend_executors.sql.sessions import open_engine

log = logging.getLogger(__name__)

T = TypeVar("T")
# Some errors of connecting come without SQLAlchemy around them; TimeoutError is an OSError.
DRIVER_ERRORS = (asyncpg.PostgresError, *LOST, sqlite3.Error)

FETCH_ROWS = 200
INTERRUPT_EVERY_S = 0.02
# Reading the settings takes a snapshot, and from then on nothing can make the transaction writable.
LIMITS = (
    "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $2, true), "
    "pg_catalog.current_setting('transaction_read_only')"
)


class Work(NamedTuple):
    """One statement to run: SQL with the driver's marks, values, and how."""

    sql: str
    values: tuple[Any, ...]
    writing: bool
    returns: bool
    truncate: bool
    timeout_s: float


class Database:
    """The sessions of one named connection, opened when the first task needs them."""

    def __init__(self, settings: Connection) -> None:
        self._settings = settings
        self._engines: dict[bool, AsyncEngine] = {}

    async def run(self, work: Work) -> AsyncGenerator[Page | Final[Answer], None]:
        """Yield pages, then the answer; a writing statement is committed before it, else nothing.

        Raises ComponentError. When the caller is cancelled, the database stops the statement.
        """
        try:
            async for found in self._run(work):
                yield found
        except (SQLAlchemyError, *DRIVER_ERRORS, OSError) as error:
            raise failure(error, self._settings) from None

    async def close(self) -> None:
        """Close all sessions."""
        for engine in self._engines.values():
            await engine.dispose()
        self._engines.clear()

    def _engine(self, *, writing: bool) -> AsyncEngine:
        engine = self._engines.get(writing)
        if engine is None:
            engine = self._engines[writing] = open_engine(self._settings, writing=writing)
        return engine

    async def _run(self, work: Work) -> AsyncGenerator[Page | Final[Answer], None]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + work.timeout_s
        connection = self._engine(writing=work.writing).connect()
        async with asyncio.timeout_at(deadline):
            await connection.start()
        try:
            session = _Session(connection, self._settings, deadline)
            result = await session.execute(work)
            rows = Rows(
                list(result.keys()) if result.returns_rows else [],
                self._settings,
                truncate=work.truncate,
            )
            while result.returns_rows and not rows.full:
                batch = await session.fetch(result)
                if not batch:
                    break
                for row in batch:
                    page = rows.add(row)
                    # What a statement wrote is no news before its commit.
                    if page is not None and not work.writing:
                        yield page
                    if rows.full:
                        break
            changed = None
            if not result.returns_rows and result.rowcount >= 0:
                changed = result.rowcount
            await session.end(result, commit=work.writing)
        except asyncpg.InternalClientError:
            # Nobody knows what this connection is doing: it must not stay in the pool.
            await connection.invalidate()
            raise
        finally:
            await asyncio.shield(_give_back(connection))
        page = rows.last_page()
        if page is not None and not work.writing:
            yield page
        yield Final(rows.answer(changed))


async def _give_back(connection: AsyncConnection) -> None:
    """Close a connection; without a commit it rolls back.

    An end that goes wrong takes nothing from what was read or committed, and is no better reason
    than the failure before it: the connection leaves the pool, and that is all.
    """
    try:
        await connection.close()
    except (SQLAlchemyError, *DRIVER_ERRORS, OSError) as error:
        log.debug("sql: a session ended badly: %s", type(error).__name__)
        if not connection.closed:
            await connection.invalidate()
            await connection.close()


class _Session:
    """One connection while it runs one statement, until a deadline of the loop's clock."""

    def __init__(self, connection: AsyncConnection, settings: Connection, deadline: float) -> None:
        self._connection = connection
        self._settings = settings
        self._deadline = deadline

    async def execute(self, work: Work) -> CursorResult[Any]:
        """Start the statement; its rows are fetched later, in bounded numbers."""
        if self._settings.dialect == "postgresql":
            await self._connection.execution_options(postgresql_readonly=not work.writing)
            await self._within(self._limit)
        # A cursor of the server runs its statement when rows are fetched, so it is for rows only.
        await self._connection.execution_options(
            stream_results=work.returns, max_row_buffer=FETCH_ROWS
        )

        def start(connection: Any) -> CursorResult[Any]:
            found: CursorResult[Any] = connection.exec_driver_sql(work.sql, work.values)
            return found

        return await self._within(lambda: self._connection.run_sync(start))

    async def fetch(self, result: CursorResult[Any]) -> Any:
        """Return the next rows, none at the end."""
        return await self._within(
            lambda: self._connection.run_sync(lambda _: result.fetchmany(FETCH_ROWS))
        )

    async def end(self, result: CursorResult[Any], *, commit: bool) -> None:
        """Close the cursor and the transaction."""
        await self._within(lambda: self._connection.run_sync(lambda _: result.close()))
        if commit:
            await self._within(self._connection.commit)

    async def _limit(self) -> None:
        left_s = max(0.001, self._deadline - asyncio.get_running_loop().time())
        left = str(max(1, int(left_s * 1000)))
        await self._connection.exec_driver_sql(LIMITS, (left, left))

    async def _within(self, step: Callable[[], Awaitable[T]]) -> T:
        async with asyncio.timeout_at(self._deadline):
            if self._settings.dialect == "sqlite":
                return await self._interruptible(step)
            return await step()

    async def _interruptible(self, step: Callable[[], Awaitable[T]]) -> T:
        """Await a step of SQLite, whose thread would go on by itself after a cancellation."""
        raw = (await self._connection.get_raw_connection()).driver_connection
        task = asyncio.ensure_future(step())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                # Before its thread has begun with the statement, an interrupt has no effect.
                if raw is not None:
                    await raw.interrupt()
                await asyncio.wait([task], timeout=INTERRUPT_EVERY_S)
            if not task.cancelled():
                task.exception()
            raise
