"""Every contract runs over every kind of store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.backends import Backend
from tests.kit.postgres import PostgresServer


@pytest.fixture(scope="package")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all contracts."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


def _backend(request: pytest.FixtureRequest, folder: Path) -> Backend:
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_server").clean_database()
    return Backend(request.param, folder, url)


_POSTGRES = pytest.param("postgresql", marks=pytest.mark.postgres)


@pytest.fixture(params=["memory", "sqlite", _POSTGRES])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """An empty database of each kind."""
    return _backend(request, tmp_path)


@pytest.fixture(params=["memory", _POSTGRES])
def shared_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """An empty database of each kind that engines may share: a SQLite file has one owner."""
    return _backend(request, tmp_path)


@pytest.fixture(params=["sqlite", _POSTGRES])
def sql_backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """An empty database of each kind that refuses values: memory takes any."""
    return _backend(request, tmp_path)
