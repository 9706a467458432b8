"""The database's half of the guard: sessions that cannot write, whatever is run in them.

SQLAlchemy and the drivers are loaded here; nothing imports this before the first task.
"""

import logging
import sqlite3
import ssl
from typing import Any
from urllib.parse import quote

import aiosqlite
import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from bend import TerminalError
from bend_executors.sql import values
from bend_executors.sql.connections import Connection

log = logging.getLogger(__name__)

CONNECT_S = 10.0
POOL_WAIT_S = 10.0
RECYCLE_S = 1800
# Waiting for a lock cannot be interrupted, so it is short; SQL_LOCKED is tried again.
SQLITE_LOCK_S = 1.0
# SQLite's one limit holds for values and for the text of a query.
QUERY_SPACE_BYTES = 1024 * 1024

# What SQLite asks the authorizer about while it prepares a statement.
_READING = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE))
_WRITING = frozenset(
    (
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_SAVEPOINT,
    )
)
_FILE_FUNCTIONS = frozenset(("load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"))


def open_engine(settings: Connection, *, writing: bool) -> AsyncEngine:
    """Make a pool of sessions; without `writing` each of them refuses to write by itself.

    No connection is made yet. Raises TerminalError SQL_CONFIGURATION.
    """
    if settings.dialect == "sqlite":
        return _sqlite_engine(settings, writing=writing)
    return _postgresql_engine(settings, writing=writing)


def _pool(settings: Connection) -> dict[str, Any]:
    return {
        "poolclass": AsyncAdaptedQueuePool,
        "pool_size": settings.pool,
        "max_overflow": 0,
        "pool_timeout": POOL_WAIT_S,
        "pool_pre_ping": True,
        "pool_recycle": RECYCLE_S,
        # Errors of SQLAlchemy would show the values of parameters.
        "hide_parameters": True,
    }


def _postgresql_engine(settings: Connection, *, writing: bool) -> AsyncEngine:
    url, arguments = _postgresql_place(settings)
    read_only = "off" if writing else "on"
    arguments["timeout"] = CONNECT_S
    arguments["server_settings"] = {
        "application_name": f"bend-sql {settings.name}"[:63],
        "default_transaction_read_only": read_only,
        # The parser reads texts and times as these settings have them.
        "standard_conforming_strings": "on",
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "iso_8601",
        "TimeZone": "UTC",
        # A client that vanished in a transaction must not hold its locks.
        "idle_in_transaction_session_timeout": str(int(settings.statement_timeout_s * 2000)),
    }
    engine = create_async_engine(url, connect_args=arguments, **_pool(settings))

    @event.listens_for(engine.sync_engine, "connect")
    def connected(adapted: Any, _record: Any) -> None:
        adapted.run_async(_set_codecs)
        if adapted.run_async(_is_superuser):
            log.warning(
                "sql: connection %s has a role that is a superuser: a read-only session does not "
                "keep such a role from the server's files and programs",
                settings.name,
            )

    return engine


def _postgresql_place(settings: Connection) -> tuple[URL, dict[str, Any]]:
    try:
        url = make_url(settings.url)
    except (ArgumentError, ValueError):
        # The library's message shows the URL.
        raise TerminalError(
            "SQL_CONFIGURATION", f"connection {settings.name}: the URL cannot be read"
        ) from None
    arguments: dict[str, Any] = {}
    mode = url.query.get("sslmode")
    if mode is not None:
        # asyncpg's name for what everybody else calls sslmode.
        url = url.difference_update_query(["sslmode"])
        arguments["ssl"] = mode
    if settings.ca_file:
        arguments["ssl"] = ssl.create_default_context(cafile=settings.ca_file)
    return url, arguments


async def _set_codecs(connection: "asyncpg.Connection") -> None:
    """Let types without a word in JSON travel as PostgreSQL's text."""
    for name in values.TEXT_TYPES:
        await _text_codec(connection, name, values.parameter_text, str)
    for name in values.TIME_STAMPS:
        await _text_codec(connection, name, values.parameter_text, values.time_stamp)
    for name in values.JSON_TYPES:
        await _text_codec(connection, name, values.parameter_json, values.json_value)
    await connection.set_type_codec(
        "bytea",
        schema="pg_catalog",
        encoder=values.parameter_bytes,
        decoder=values.base64_text,
        format="binary",
    )


async def _is_superuser(connection: "asyncpg.Connection") -> bool:
    return bool(connection.get_settings().is_superuser == "on")


async def _text_codec(connection: Any, name: str, encoder: Any, decoder: Any) -> None:
    await connection.set_type_codec(
        name, schema="pg_catalog", encoder=encoder, decoder=decoder, format="text"
    )


def _sqlite_engine(settings: Connection, *, writing: bool) -> AsyncEngine:
    class Guarded(sqlite3.Connection):
        """Set up where it is opened: in the thread that is the only one to use it."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            # A single value beyond the limit would be in memory before it is counted.
            self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, settings.bytes_max + QUERY_SPACE_BYTES)
            self.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            if not writing:
                self.execute("PRAGMA query_only = ON").close()
            self.execute("PRAGMA foreign_keys = ON").close()
            self.set_authorizer(_authorizer(writing=writing))

    async def connect() -> aiosqlite.Connection:
        mode = "rw" if writing else "ro"
        place = f"file:{quote(str(settings.file))}?mode={mode}"
        opening = aiosqlite.connect(place, uri=True, timeout=SQLITE_LOCK_S, factory=Guarded)
        # The process may end while a connection is open.
        opening._thread.daemon = True  # noqa: SLF001 - SQLAlchemy does the same for its own
        return await opening

    return create_async_engine("sqlite+aiosqlite://", async_creator=connect, **_pool(settings))


def _authorizer(*, writing: bool) -> Any:
    """Return SQLite's last word on each thing that a statement would do."""
    allowed = _READING | _WRITING if writing else _READING

    def decide(
        action: int, first: str | None, second: str | None, _database: str | None, _by: str | None
    ) -> int:
        if action in allowed:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _FILE_FUNCTIONS:
            return sqlite3.SQLITE_OK
        # SQLAlchemy asks for it once, when an engine connects for the first time.
        if action == sqlite3.SQLITE_PRAGMA and first == "read_uncommitted" and second is None:
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_DENY

    return decide
