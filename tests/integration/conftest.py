"""Certificates of the integration tests, and two engines over one PostgreSQL."""

from collections.abc import Iterator

import pytest

from bend_server.bench.lock import heavy
from tests.integration.replicas import Replicas
from tests.kit.postgres import PostgresServer
from tests.rpc.conftest import authority

__all__ = ["authority"]


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    """A fresh mesh on a fresh PostgreSQL, alone on the machine; no second engine yet."""
    with heavy():
        server = PostgresServer()
        try:
            server.start()
            made = Replicas(tmp_path_factory.mktemp("replicas"), server)
            made.up()
            try:
                yield made
            finally:
                made.down()
        finally:
            server.stop()
