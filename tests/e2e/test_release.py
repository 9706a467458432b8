"""What people decide about versions and instances arrives: through REST, NATS and the engine.

What would break in production if this fails: a canary gets everything, or a drain does nothing.
"""

import asyncio
import http.client
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from bend import Client, Worker, component
from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.kit.loops import eventually
from tests.kit.workers import certified

END_S_MAX = 60.0

# Beside the tests that kill a gateway this mesh could take the port that is free for a moment.
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(400)]


@pytest.fixture
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with heavy():
        made = Mesh(tmp_path_factory.mktemp("release") / "home", None)
        made.up()
        try:
            made.bend("components", "cert", "which")
            yield made
        finally:
            made.down()


class Served(list[str]):
    """Which version ran each task."""

    def worker(self, mesh: Mesh, version: str) -> Worker:
        @component("which.version", version=version)
        async def which() -> str:
            self.append(version)
            return version

        return Worker([which], **certified(mesh.home, "which"))


def rest(mesh: Mesh, path: str, body: bytes) -> None:
    """Call the gateway as curl does."""
    url = str(mesh.status()["urls"]["http"]).removeprefix("http://")
    connection = http.client.HTTPConnection(url, timeout=30)
    connection.request("POST", path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def test_weights_drains_and_deprecations_reach_a_real_mesh(mesh: Mesh) -> None:
    asyncio.run(release(mesh))


async def release(mesh: Mesh) -> None:
    served = Served()
    one, two = served.worker(mesh, "1.0.0"), served.worker(mesh, "1.1.0")

    async def shared(client: Client, count: int) -> Counter[str]:
        served.clear()
        for _ in range(count):
            assert (await client.run("which", timeout=END_S_MAX)).status == "COMPLETED"
        return Counter(served)

    async with asyncio.TaskGroup() as group, Client(home=str(mesh.home)) as client:
        for worker in (one, two):
            group.create_task(worker.serve())
        await eventually(lambda: one.connected and two.connected, END_S_MAX)
        await client.deploy({"name": "which", "tasks": [{"id": "a", "type": "which.version"}]})
        await eventually_shared(client, shared, {"1.1.0": 8})
        await asyncio.to_thread(
            mesh.bend, "components", "weights", "which.version", "1.0.0=1", "1.1.0=3"
        )
        await eventually_shared(client, shared, {"1.0.0": 2, "1.1.0": 6})
        path = f"/v1/instances/{two.instance_id}:drain"
        await asyncio.to_thread(rest, mesh, path, b"{}")
        await eventually_shared(client, shared, {"1.0.0": 8})
        shown = await client.list_instances("which.version")
        assert {found.version: found.draining for found in shown} == {"1.0.0": False, "1.1.0": True}
        await client.drain_instance(two.instance_id, restore=True)
        path = "/v1/components/which.version/versions/1.0.0:deprecate"
        await asyncio.to_thread(rest, mesh, path, b"{}")
        await eventually_shared(client, shared, {"1.1.0": 8})
        for worker in (one, two):
            worker.stop()


async def eventually_shared(
    client: Client,
    shared: Callable[[Client, int], Awaitable[Counter[str]]],
    wanted: dict[str, int],
) -> None:
    """Run eight tasks until they are shared out as wanted: engines follow within seconds."""

    async def right() -> bool:
        return await shared(client, 8) == wanted

    await eventually(right, END_S_MAX)
