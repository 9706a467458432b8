"""Every contract runs over every kind of store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.backends import Backend
from tests.kit.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL server for all contracts."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A fresh database of each kind."""
    url = None
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_server").fresh_database()
    return Backend(request.param, tmp_path, url)
