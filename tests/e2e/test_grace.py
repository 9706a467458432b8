"""An Envoy restart under 200 streams with long tasks: each goes on where it runs, none runs twice.

What would break in production if this fails: an upgrade of the gateway would throw away hours of
work, and do it again. On the same mesh: what people decide about versions and instances arrives.
"""

import asyncio
import http.client
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from bend import Client, Context, Worker, component
from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from bend_server.local.home import Home
from tests.kit.loops import eventually

pytestmark = [pytest.mark.kill, pytest.mark.timeout(240)]

STREAMS = 200
# Longer than the restart and every reconnect, which have to be over within the grace of 10 s.
END_S_MAX = 60.0
DOCUMENT = {
    "name": "grace",
    "tasks": [{"id": "hold", "type": "grace.hold", "timeout": "5m"}],
    "output": {"attempt": "{{hold}}"},
}


class Held:
    """The long tasks: they run until the test lets them go; every start of one is counted."""

    def __init__(self) -> None:
        self.starts: Counter[str] = Counter()
        self.cancels: Counter[str] = Counter()
        self.running = 0
        self.gate = asyncio.Event()

    @component("grace.hold", long_running=True)
    async def hold(self, context: Context) -> int:
        self.starts[context.execution_id] += 1
        self.running += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancels[context.execution_id] += 1
            raise
        finally:
            self.running -= 1
        return context.attempt


def drain(admin: Path) -> None:
    """Ask Envoy to drain, as an operator does before an upgrade."""
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(admin))
    connection.request("POST", "/drain_listeners?graceful&skip_exit")
    assert connection.getresponse().status == 200
    connection.close()


def kill(mesh: Mesh, _admin: Path) -> None:
    """End Envoy at once."""
    os.kill(mesh.pids()["envoy"], signal.SIGKILL)


def restart_gracefully(mesh: Mesh, admin: Path) -> None:
    """Drain first, then end."""
    pid = mesh.pids()["envoy"]
    drain(admin)
    os.kill(pid, signal.SIGTERM)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with heavy():
        made = Mesh(tmp_path_factory.mktemp("grace") / "home", None)
        made.up()
        try:
            made.bend("components", "cert", "grace")
            yield made
        finally:
            made.down()


def place(mesh: Mesh) -> dict[str, str]:
    certs = mesh.home / "certs"
    return {
        "home": str(mesh.home),
        "cert_file": str(certs / "component-grace.pem"),
        "key_file": str(certs / "component-grace.key"),
    }


@pytest.mark.parametrize("restart", [kill, restart_gracefully])
def test_an_envoy_restart_runs_no_long_task_twice(
    mesh: Mesh, restart: Callable[[Mesh, Path], None], figure: Callable[[str], None]
) -> None:
    asyncio.run(scenario(mesh, restart, figure))


async def scenario(
    mesh: Mesh, restart: Callable[[Mesh, Path], None], figure: Callable[[str], None]
) -> None:
    held = Held()
    workers = [Worker([held.hold], credit=1, **place(mesh)) for _ in range(STREAMS)]
    async with asyncio.TaskGroup() as group, Client(home=str(mesh.home)) as client:
        for worker in workers:
            group.create_task(worker.serve())
        await eventually(lambda: all(worker.connected for worker in workers), END_S_MAX)
        await client.deploy(DOCUMENT)
        starts = [{"workflow": "grace"} for _ in range(STREAMS)]
        begun = [one.execution_id for one in await client.start_many(starts)]
        await eventually(lambda: held.running == STREAMS, END_S_MAX)
        before = (await asyncio.to_thread(mesh.pids))["envoy"]
        began = time.monotonic()
        await asyncio.to_thread(restart, mesh, Home(mesh.home).admin_socket())
        await eventually(lambda: not any(worker.connected for worker in workers), END_S_MAX)
        await eventually(lambda: all(worker.connected for worker in workers), END_S_MAX)
        took = time.monotonic() - began
        assert (await asyncio.to_thread(mesh.pids))["envoy"] != before
        # Whoever was not claimed within the grace has been handed out again by now.
        held.gate.set()
        ended = [await client.wait(execution, timeout=END_S_MAX) for execution in begun]
        for worker in workers:
            worker.stop()
    assert {one.status for one in ended} == {"COMPLETED"}
    twice = {name: count for name, count in held.starts.items() if count > 1}
    assert not twice
    assert not held.cancels
    assert held.starts.keys() == set(begun)
    figure(f"{STREAMS} streams were back {took:.1f} s after the {restart.__name__} of Envoy")


class Served(list[str]):
    """Which version ran each task."""

    def worker(self, mesh: Mesh, version: str) -> Worker:
        @component("grace.which", version=version)
        async def which() -> str:
            self.append(version)
            return version

        return Worker([which], **place(mesh))


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
        await client.deploy({"name": "which", "tasks": [{"id": "a", "type": "grace.which"}]})
        assert await shared(client, 4) == {"1.1.0": 4}
        await asyncio.to_thread(
            mesh.bend, "components", "weights", "grace.which", "1.0.0=1", "1.1.0=3"
        )
        await eventually_shared(client, shared, {"1.0.0": 2, "1.1.0": 6})
        path = f"/v1/instances/{two.instance_id}:drain"
        await asyncio.to_thread(rest, mesh, path, b"{}")
        await eventually_shared(client, shared, {"1.0.0": 8})
        shown = await client.list_instances("grace.which")
        assert {found.version: found.draining for found in shown} == {"1.0.0": False, "1.1.0": True}
        await client.drain_instance(two.instance_id, restore=True)
        path = "/v1/components/grace.which/versions/1.0.0:deprecate"
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
