"""What a database's error means for the task. Messages show neither URL nor password."""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import exc

from bend import RetryableError, TerminalError
from bend.errors import ComponentError
from bend_executors.sql.connections import Connection

# The driver's own errors that say that the connection is gone. A server that says farewell between
# two steps of a statement confuses the driver: InternalClientError belongs to no other family.
LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError)


class Meaning(NamedTuple):
    """A reason, and whether another attempt may help."""

    reason: str
    retryable: bool = False


CONNECTION = Meaning("SQL_CONNECTION", retryable=True)
TIMEOUT = Meaning("SQL_TIMEOUT", retryable=True)
LOCKED = Meaning("SQL_LOCKED", retryable=True)
OVERLOADED = Meaning("SQL_OVERLOADED", retryable=True)
READ_ONLY = Meaning("SQL_READ_ONLY")
REFUSED = Meaning("SQL_REFUSED")
CONSTRAINT = Meaning("SQL_CONSTRAINT")
DATA = Meaning("SQL_DATA")
SYNTAX = Meaning("SQL_SYNTAX")
PARAMETER = Meaning("SQL_PARAMETER")
TYPE = Meaning("SQL_TYPE")
FAILED = Meaning("SQL_FAILED")

# The longest beginning of a SQLSTATE that stands here decides.
POSTGRESQL: Mapping[str, Meaning] = {
    "08": CONNECTION,
    "3D": CONNECTION,
    "57P": CONNECTION,
    "57014": TIMEOUT,
    "25P03": TIMEOUT,
    "40001": Meaning("SQL_SERIALIZATION", retryable=True),
    "40P01": Meaning("SQL_DEADLOCK", retryable=True),
    "40": CONNECTION,
    "55P03": LOCKED,
    "53": OVERLOADED,
    "28": Meaning("SQL_AUTHENTICATION"),
    "42501": Meaning("SQL_PERMISSION"),
    "42": SYNTAX,
    "25006": READ_ONLY,
    "25": REFUSED,
    "23": CONSTRAINT,
    "44": CONSTRAINT,
    "22": DATA,
    "21": DATA,
}

SQLITE: Mapping[int, Meaning] = {
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_INTERRUPT: TIMEOUT,
    sqlite3.SQLITE_CANTOPEN: CONNECTION,
    sqlite3.SQLITE_FULL: OVERLOADED,
    sqlite3.SQLITE_NOMEM: OVERLOADED,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_AUTH: REFUSED,
    sqlite3.SQLITE_CONSTRAINT: CONSTRAINT,
    sqlite3.SQLITE_MISMATCH: DATA,
    sqlite3.SQLITE_TOOBIG: DATA,
    sqlite3.SQLITE_ERROR: SYNTAX,
}


def failure(error: BaseException, settings: Connection) -> ComponentError:
    """Return the task's failure for what SQLAlchemy, a driver or the system raised."""
    if isinstance(error, exc.TimeoutError):
        return made(OVERLOADED, f"connection {settings.name}: all {settings.pool} are in use")
    if isinstance(error, TimeoutError):
        return made(TIMEOUT, "the statement took too long and was stopped")
    cause = _cause(error)
    known = _driver(cause, settings)
    if known is not None:
        return known
    kind = type(cause).__name__
    if isinstance(cause, (OSError, *LOST)) or _disconnected(error):
        text = f"connection {settings.name}: the database does not answer ({kind})"
        return made(CONNECTION, text)
    return made(FAILED, f"connection {settings.name}: {kind}")


def _driver(cause: BaseException, settings: Connection) -> ComponentError | None:
    """Return the failure for what a database or its driver says in its own words."""
    if isinstance(cause, sqlite3.Error):
        return _sqlite(cause)
    if _first(cause).startswith("invalid input for query argument"):
        # The driver's: it never came to the server.
        return made(PARAMETER, _first(cause))
    if isinstance(cause, asyncpg.PostgresError) and cause.sqlstate:
        return _postgresql(cause, settings)
    if isinstance(cause, asyncpg.exceptions.UnsupportedClientFeatureError):
        return made(TYPE, f"{_first(cause)}: cast the column to text")
    return None


def made(meaning: Meaning, text: str, details: Any = None) -> ComponentError:
    """Return an error with a meaning's reason."""
    if meaning.retryable:
        return RetryableError(meaning.reason, text, details=details)
    return TerminalError(meaning.reason, text, details=details)


def _cause(error: BaseException) -> BaseException:
    """Return the driver's own error below SQLAlchemy's, and below that of its adapter."""
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        error = error.orig
    below: BaseException | None = error.__cause__
    if below is not None and isinstance(below, (asyncpg.PostgresError, *LOST)):
        return below
    return error


def _disconnected(error: BaseException) -> bool:
    return isinstance(error, exc.DBAPIError) and error.connection_invalidated


def _postgresql(error: "asyncpg.PostgresError", settings: Connection) -> ComponentError:
    state = str(error.sqlstate)
    meaning = meaning_of(state)
    details = {"sqlstate": state}
    fields: Sequence[str] = ("constraint_name", "schema_name", "table_name", "column_name")
    for field in fields:
        value = getattr(error, field, None)
        if value:
            details[field.removesuffix("_name")] = str(value)
    if meaning.reason in ("SQL_CONNECTION", "SQL_AUTHENTICATION"):
        # Such messages name users, hosts and databases, which are the operator's.
        text = f"connection {settings.name}: the database refused it ({state})"
        return made(meaning, text, details)
    return made(meaning, _first(error), details)


def meaning_of(state: str) -> Meaning:
    """Return what a SQLSTATE means."""
    for length in (5, 3, 2):
        found = POSTGRESQL.get(state[:length])
        if found is not None:
            return found
    return FAILED


def _sqlite(error: sqlite3.Error) -> ComponentError:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # The module's own: a value that it cannot bind, or a wrong count of them.
        return made(PARAMETER, _first(error))
    meaning = SQLITE.get(code & 0xFF, FAILED)
    if str(error) == "not authorized":
        # It may carry another code, when SQLite prepared the statement a second time.
        meaning = REFUSED
    details = {"sqlite": str(getattr(error, "sqlite_errorname", code))}
    if meaning is CONNECTION:
        return made(meaning, "the file cannot be opened", details)
    return made(meaning, _first(error), details)


def _first(error: BaseException) -> str:
    """Return the first line of a message, without what looks like a URL with a password."""
    text = str(error).partition("\n")[0] or type(error).__name__
    return re.sub(r"\w+://\S*@\S*", "(a URL)", text)[:1000]
