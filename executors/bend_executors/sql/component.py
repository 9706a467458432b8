"""The component: finds the connection, checks the query, binds the parameters, streams the rows."""

import asyncio
import importlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from bend import Context, Final, TerminalError, component
from bend_executors.sql.connections import Connection
from bend_executors.sql.pages import Answer, Page

if TYPE_CHECKING:
    from bend_executors.sql.database import Database
    from bend_executors.sql.guard import Statement

IDEMPOTENCY_KEY = "idempotency_key"
SHORT_QUERY_CHARS = 1000


class SqlComponent:
    """Holds the databases; SQLAlchemy, drivers and parser are loaded with the first task."""

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        self._connections = connections
        self._databases: dict[str, Database] = {}

    @component("sql", version="1.0.0")
    async def query(
        self,
        context: Context,
        connection: str,
        query: str,
        parameters: dict[str, Any] | None = None,
        mode: Literal["read", "write"] = "read",
        truncate: bool = False,
    ) -> AsyncGenerator[Page | Final[Answer], None]:
        """Run one SQL statement on a connection that the operator named.

        Values are bound: `WHERE id = :id` with `parameters: {id: 7}`; lists go into `IN (:ids)`.
        Mode `read` cannot write: the parser and the database's session both see to it. Mode
        `write` is one transaction, on writable connections only. The output is
        `{columns, rows, row_count, truncated}`, rows as objects; results of more than one page
        come as partial outputs, too. Over the connection's limits the task fails, or with
        `truncate: true` the rows before the limit are the output.
        """
        settings = self._allowed(connection, context.namespace, mode)
        # SQLAlchemy, the drivers and the parser cost 50 MB and half a second of a thread's time.
        if not self._databases:
            await asyncio.to_thread(_load)
        from bend_executors.sql.binding import bound
        from bend_executors.sql.database import Work

        statement = await checked(settings, mode, query)
        given = dict(parameters or {})
        if IDEMPOTENCY_KEY in statement.names:
            given.setdefault(IDEMPOTENCY_KEY, context.idempotency_key)
        sql, values = bound(settings.dialect, statement, given)
        work = Work(
            sql=sql,
            values=values,
            writing=mode == "write",
            returns=statement.returns,
            truncate=truncate,
            timeout_s=min(settings.statement_timeout_s, context.timeout_s),
        )
        async with aclosing(self._database(settings).run(work)) as found:
            async for one in found:
                yield one

    def _allowed(self, name: str, namespace: str, mode: str) -> Connection:
        settings = self._connections.get(name)
        if settings is None or not settings.open_to(namespace):
            # The same answer for both: a namespace learns nothing about another's connections.
            raise TerminalError(
                "SQL_CONNECTION_UNKNOWN", f"namespace {namespace} has no connection '{name}'"
            )
        if mode == "write" and not settings.writable:
            raise TerminalError("SQL_READ_ONLY", f"connection {name} is not writable")
        return settings

    def _database(self, settings: Connection) -> "Database":
        database = self._databases.get(settings.name)
        if database is None:
            from bend_executors.sql.database import Database

            database = self._databases[settings.name] = Database(settings)
        return database

    async def close(self) -> None:
        """Close all sessions."""
        for database in self._databases.values():
            await database.close()
        self._databases.clear()


def _load() -> None:
    for room in ("database", "guard"):
        importlib.import_module(f"bend_executors.sql.{room}")


async def checked(settings: Connection, mode: Literal["read", "write"], query: str) -> "Statement":
    """Return the checked statement. Raises TerminalError SQL_SYNTAX or SQL_REFUSED."""
    from bend_executors.sql import guard

    if len(query) <= SHORT_QUERY_CHARS:
        return guard.checked(settings.dialect, mode, query)
    # A long query takes the parser longer than other tasks should wait.
    return await asyncio.to_thread(guard.checked, settings.dialect, mode, query)
