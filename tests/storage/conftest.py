"""A PostgreSQL server for the room's own tests."""

from collections.abc import Iterator

import pytest

from tests.kit.postgres import PostgresServer


@pytest.fixture(scope="package")
def postgres_server() -> Iterator[PostgresServer]:
    """One server that no test kills."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server of one's own, to kill."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()
