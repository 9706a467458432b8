"""Faults of drivers as domain errors, and what can be wrong when a database is opened."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
from sqlalchemy import exc

from bend_server.core.errors import DependencyDown, DomainError, InvariantBroken


class OpenError(Exception):
    """The database cannot be used; the text tells the operator why and what to do."""


class DatabaseTaken(OpenError):
    """Another process owns the SQLite file."""


class SchemaTooNew(OpenError):
    """A newer release has migrated this database."""


# SQLSTATE classes in which the database refused the data: cardinality, data, integrity, limits. A
# missing table or privilege (42) is no fault of a row: no execution may be blamed for it.
_REFUSED = ("21", "22", "23", "54")
_REFUSED_BY_DRIVER = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
)


def refused(error: BaseException) -> DomainError:
    """Return the error of a row that the database does not take: nothing was written."""
    kind = type(getattr(error, "orig", None) or error).__name__
    return InvariantBroken(f"the database refused the rows: {kind}", database_error=kind)


def down(error: BaseException) -> DependencyDown:
    """Return the error of a database that is not there; the outcome of a write is unknown."""
    origin = getattr(error, "orig", None) or error
    kind = type(origin).__name__
    # SQLite's own words ("database or disk is full") hold no data, and say what to do.
    said = str(origin) if isinstance(origin, sqlite3.OperationalError) else kind
    return DependencyDown(f"the database cannot be reached: {said}", database_error=kind)


def judged(error: Exception) -> DomainError:
    """Return the domain error of a driver's fault."""
    if isinstance(error, DomainError):
        return error
    origin = getattr(error, "orig", None) or error
    state = getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None)
    if state is not None:
        return refused(error) if str(state).startswith(_REFUSED) else down(error)
    lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
    return down(error) if lost or not _about_data(error, origin) else refused(error)


def _about_data(error: Exception, origin: BaseException) -> bool:
    """Tell whether a driver found fault with a value rather than with the connection."""
    if isinstance(error, exc.DBAPIError):
        if isinstance(origin, sqlite3.Error):
            return isinstance(origin, _REFUSED_BY_DRIVER)
        return isinstance(error, exc.IntegrityError | exc.DataError)
    if isinstance(error, sqlite3.Error):
        # A damaged file is a plain DatabaseError, a full disk an OperationalError.
        return isinstance(error, _REFUSED_BY_DRIVER)
    return isinstance(error, exc.StatementError | OverflowError | ValueError | TypeError)


_FAULTS = (
    exc.SQLAlchemyError,
    sqlite3.Error,
    OSError,
    TimeoutError,
    OverflowError,
    UnicodeError,
    orjson.JSONEncodeError,
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the faults of drivers into domain errors; programming errors of ours pass."""
    try:
        yield
    except DomainError:
        raise
    except _FAULTS as error:
        raise judged(error) from error
