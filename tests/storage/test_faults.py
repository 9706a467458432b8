"""Which faults of a driver are a row's, and which are the database's.

A row's fault quarantines its execution. If a full disk or a missing table counted as one, every
execution of a healthy engine would be quarantined, one after the other.
"""

import sqlite3
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import create_engine, exc, text

from bend_server.core.errors import DependencyDown, DomainError, InvariantBroken, LeaseLost
from bend_server.storage.faults import judged, translated

OF_A_ROW = [
    sqlite3.IntegrityError("UNIQUE constraint failed"),
    sqlite3.DataError("string or blob too big"),
    sqlite3.ProgrammingError("type 'X' is not supported"),
    sqlite3.InterfaceError("Error binding parameter 1"),
    OverflowError("Python int too large to convert to SQLite INTEGER"),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    asyncpg.UniqueViolationError("duplicate key"),
    asyncpg.CharacterNotInRepertoireError("invalid byte sequence"),
    asyncpg.ProgramLimitExceededError("index row size exceeds maximum"),
    asyncpg.DataError("invalid input for query argument $1"),
]
OF_THE_DATABASE = [
    sqlite3.OperationalError("database or disk is full"),
    sqlite3.OperationalError("database is locked"),
    sqlite3.DatabaseError("database disk image is malformed"),
    ConnectionRefusedError(),
    TimeoutError(),
    exc.TimeoutError("QueuePool limit reached"),
    asyncpg.ConnectionDoesNotExistError("connection was closed"),
    asyncpg.InterfaceError("connection is closed"),
    asyncpg.AdminShutdownError("terminating connection"),
    asyncpg.CannotConnectNowError("the database system is starting up"),
    asyncpg.UndefinedTableError("relation does not exist"),
    asyncpg.InsufficientPrivilegeError("permission denied"),
    asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
    asyncpg.DiskFullError("could not extend file"),
]


def name(error: Exception) -> str:
    """Name a case."""
    return f"{type(error).__module__}.{type(error).__name__}-{error}"


@pytest.mark.parametrize("error", OF_A_ROW, ids=name)
def test_a_rows_fault(error: Exception) -> None:
    assert isinstance(judged(error), InvariantBroken)


@pytest.mark.parametrize("error", OF_THE_DATABASE, ids=name)
def test_the_databases_fault(error: Exception) -> None:
    assert isinstance(judged(error), DependencyDown)


def test_our_own_errors_pass() -> None:
    lost = LeaseLost("gone")
    with pytest.raises(LeaseLost) as caught, translated():
        raise lost
    assert caught.value is lost


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("INSERT INTO one VALUES (1)", InvariantBroken),
        ("INSERT INTO none VALUES (1)", DependencyDown),
        ("this is no SQL", DependencyDown),
    ],
)
def test_through_sqlalchemy(tmp_path: Path, statement: str, expected: type[DomainError]) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'one.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE one (number INTEGER PRIMARY KEY)"))
        connection.execute(text("INSERT INTO one VALUES (1)"))
    with pytest.raises(expected), translated(), engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
