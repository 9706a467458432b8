"""SQL as the kill tests read it: past all our own code, on either database."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from tests.kit.postgres import AWAY

CONNECT_S = 5.0
QUERY_S = 30.0
# What SQLite says of a file that is being recovered, or whose log is being folded back and removed.
BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL", "SQLITE_READONLY_")


class Away(Exception):
    """The database does not answer now: it was killed, or starts."""


class Ledger(Protocol):
    """Reads a database."""

    def rows(self, sql: str) -> list[Any]:
        """Return a query's rows, in order of its columns. Raises Away."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class SqliteLedger:
    """The file of a mesh, read only."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def rows(self, sql: str) -> list[Any]:
        """See Ledger."""
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{self._file}?mode=ro", timeout=QUERY_S, uri=True)
            ) as connection:
                return connection.execute(sql).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname.startswith(BUSY):
                raise Away from error
            raise

    def close(self) -> None:
        """See Ledger."""


class PostgresLedger:
    """A server, over one connection that is made again when it was lost."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("+asyncpg", "")
        self._loop = asyncio.new_event_loop()
        self._connection: Any = None

    def rows(self, sql: str) -> list[Any]:
        """See Ledger."""
        known = self._connection is not None
        try:
            found: list[Any] = self._loop.run_until_complete(self._fetch(sql))
        except asyncpg.PostgresSyntaxError:
            raise
        except AWAY as error:
            self._forget()
            if known:  # it may have been lost long ago, and the server be back
                return self.rows(sql)
            raise Away from error
        return found

    async def _fetch(self, sql: str) -> list[Any]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._url, timeout=CONNECT_S)
        return list(await self._connection.fetch(sql, timeout=QUERY_S))

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def close(self) -> None:
        """See Ledger."""
        self._forget()
        self._loop.close()
