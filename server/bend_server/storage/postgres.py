"""PostgreSQL: a pool for reads and rare writes, one connection of its own for the group commit."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import URL, Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from bend_server.core.errors import DependencyDown, DomainError
from bend_server.storage.database import READ_S, WRITE_S
from bend_server.storage.faults import down, judged, translated
from bend_server.storage.schema import migrate

T = TypeVar("T")

POOL_SIZE = 8
CONNECT_S = 10.0
MIGRATION_S = 600.0
# Advisory lock numbers are shared by all users of a database: any fixed number of ours will do.
_MIGRATION_LOCK = 0x62656E64
# A process that stops in the middle of a transaction must not hold locks for ever: the server
# ends such a session. Commits are single statements and cannot be caught so.
_SETTINGS = {
    "application_name": "bend",
    "idle_in_transaction_session_timeout": "10000",
    "lock_timeout": "10000",
    "statement_timeout": "60000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "jit": "off",
}
# The group commit joins its arrays with primary keys only. A plan made while the tables were
# empty would scan them whole until the next analyze.
_COMMIT_SETTINGS = (
    "SET plan_cache_mode = force_generic_plan; SET enable_hashjoin = off; "
    "SET enable_mergejoin = off; SET enable_seqscan = off"
)
_TIME = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


class PostgresDatabase:
    """`storage.database.Database` over a server."""

    kind = "postgresql"

    def __init__(self, url: URL) -> None:
        self._engine = create_async_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=CONNECT_S,
            connect_args={"server_settings": _SETTINGS, "timeout": CONNECT_S},
        )
        # A read sees one snapshot, however many queries it makes.
        self._reads = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        # A single query is a snapshot by itself: one round trip instead of three.
        self._queries = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._held: AsyncConnection | None = None
        self._committer: Any = None

    async def prepare(self) -> None:
        """Migrate; servers that start together take turns."""

        def run(connection: Connection) -> None:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            migrate(connection)

        await self.write(run, timeout_s=MIGRATION_S)

    def time_us(self, connection: Connection) -> int:
        """Return the server's clock."""
        return int(connection.execute(_TIME).scalar_one())

    async def write(self, work: Callable[[Connection], T], timeout_s: float = WRITE_S) -> T:
        """Run a function in one transaction."""
        with _translated():
            async with asyncio.timeout(timeout_s), self._engine.begin() as connection:
                return await _run(connection, work)

    async def read(self, work: Callable[[Connection], T], timeout_s: float = READ_S) -> T:
        """Run a function on one snapshot."""
        with _translated():
            async with asyncio.timeout(timeout_s), self._reads.connect() as connection:
                return await _run(connection, work)

    async def query(self, work: Callable[[Connection], T], timeout_s: float = READ_S) -> T:
        """Run a function that makes a single query."""
        with _translated():
            async with asyncio.timeout(timeout_s), self._queries.connect() as connection:
                return await _run(connection, work)

    async def statement(self, sql: str, values: list[object], timeout_s: float) -> Any:
        """Run one writing statement on the connection kept for it; return its row.

        The caller lets one statement run at a time. The driver is used as it is: SQLAlchemy's
        layers would cost a fifth of the group commit. Raises as `transaction` does.
        """

        async def run(committer: Any) -> Any:
            return await committer.fetchrow(sql, *values)

        return await self._commit(run, timeout_s)

    async def transaction(self, work: Callable[[Any], Awaitable[T]], timeout_s: float) -> T:
        """Run several statements on the connection kept for commits, in one transaction.

        A domain error of `work` undoes what it wrote, and passes.

        Raises:
            DependencyDown: the connection was lost; the outcome is unknown.
            asyncpg.PostgresError: the server refused the statement; nothing was written.
            DomainError: the driver refused a value; nothing was written.
        """

        async def run(committer: Any) -> T:
            async with committer.transaction():
                return await work(committer)

        return await self._commit(run, timeout_s)

    async def _commit(self, work: Callable[[Any], Awaitable[T]], timeout_s: float) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                if self._committer is None or self._committer.is_closed():
                    await self._reconnect()
                return await work(self._committer)
        except DomainError:
            raise
        except asyncpg.PostgresError as error:
            if isinstance(judged(error), DependencyDown) and error.sqlstate[:2] != "40":
                await self._drop()
                raise down(error) from error
            raise
        except (asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
            fault: DomainError = judged(error)
            if isinstance(fault, DependencyDown):
                await self._drop()
            raise fault from error
        except asyncpg.InternalClientError as error:
            await self._drop()
            raise down(error) from error
        except BaseException:
            # Cancelled in the middle: nobody knows what this connection is doing.
            await self._drop()
            raise

    async def _reconnect(self) -> None:
        await self._drop()
        held = await self._engine.connect()
        self._held = held
        raw = await held.get_raw_connection()
        committer: Any = raw.driver_connection
        await committer.execute(_COMMIT_SETTINGS)
        self._committer = committer

    async def _drop(self) -> None:
        held, self._held, self._committer = self._held, None, None
        if held is not None:
            await held.invalidate()
            await held.close()

    async def close(self) -> None:
        """End all connections."""
        await self._drop()
        await self._engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        with translated():
            yield
    except asyncpg.InternalClientError as error:
        raise down(error) from error


async def _run(connection: AsyncConnection, work: Callable[[Connection], T]) -> T:
    try:
        return await connection.run_sync(work)
    except asyncpg.InternalClientError:
        # The server's farewell came while the connection was idle. The driver is confused by it
        # and SQLAlchemy does not know this error, so the connection would stay in the pool.
        await connection.invalidate()
        raise
