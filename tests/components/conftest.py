"""What the tests of several components share."""

from collections.abc import Iterator

import pytest

from tests.kit.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all; nobody kills it."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()
