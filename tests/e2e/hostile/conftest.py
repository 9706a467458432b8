"""One `bend up` for all files of this folder."""

from collections.abc import Iterator

import pytest

from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.e2e.hostile.house import House
from tests.kit.programs import wait_until


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A mesh with the hostile components served; no process may have ended in the tests."""
    with heavy():
        mesh = Mesh(tmp_path_factory.mktemp("hostile") / "home", None)
        mesh.up()
        try:
            made = House(mesh)
            before = made.restarts()
            with made.worker() as serving:
                wait_until(lambda: serving.worker.connected, what="the worker is connected")
                made.chain()
                yield made
            made.rest.close()
            assert made.restarts() == before, "a process ended"
        finally:
            mesh.down()
