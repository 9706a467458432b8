"""Open the stores that a URL names: the one factory for composition roots."""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from bend_server.ports.clock import Clock
from bend_server.storage.faults import OpenError
from bend_server.storage.sql_catalog import SqlRegistryStore, SqlWorkflowStore
from bend_server.storage.sql_pools import SqlPoolStore
from bend_server.storage.sql_reads import SqlReadStore
from bend_server.storage.sqlite import SqliteDatabase
from bend_server.storage.sqlite_commit import SqliteEngineStore
from bend_server.storage.stores import Stores


async def open_store(url: str, clock: Clock) -> Stores:
    """Open a database, migrate it, and return its stores.

    Args:
        url: `sqlite:///relative/file`, `sqlite:////absolute/file` or
            `postgresql+asyncpg://user@host/name`.
        clock: this machine's clock, without any offset: leases tell the database's offset to it.

    Raises:
        OpenError: the URL is wrong, the file belongs to another process (DatabaseTaken) or to a
            newer release (SchemaTooNew).
        DependencyDown: the database cannot be reached.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise OpenError("the database URL cannot be read") from error
    name = parsed.get_backend_name()
    if name == "sqlite" and parsed.database and parsed.database != ":memory:":
        return await _open_sqlite(Path(parsed.database), clock)
    if parsed.drivername == "postgresql+asyncpg":
        return await _open_postgres(parsed, clock)
    raise OpenError(
        "the database URL must be sqlite:///FILE or postgresql+asyncpg://USER@HOST/NAME, not "
        + parsed.render_as_string(hide_password=True)
    )


async def _open_sqlite(path: Path, clock: Clock) -> Stores:
    database = SqliteDatabase(path, clock)
    try:
        await database.prepare()
    except BaseException:
        await database.close()
        raise
    return Stores(
        kind="sqlite",
        engine=SqliteEngineStore(database, clock),
        reads=SqlReadStore(database),
        workflows=SqlWorkflowStore(database),
        registry=SqlRegistryStore(database),
        pools=SqlPoolStore(database),
        close=database.close,
    )


async def _open_postgres(url: URL, clock: Clock) -> Stores:
    # With them come SQLAlchemy's asyncio layer and the driver: SQLite starts without.
    from bend_server.storage.postgres import PostgresDatabase
    from bend_server.storage.postgres_commit import PostgresEngineStore

    database = PostgresDatabase(url)
    try:
        await database.prepare()
    except BaseException:
        await database.close()
        raise
    return Stores(
        kind="postgresql",
        engine=PostgresEngineStore(database, clock),
        reads=SqlReadStore(database),
        workflows=SqlWorkflowStore(database),
        registry=SqlRegistryStore(database),
        pools=SqlPoolStore(database),
        close=database.close,
    )
