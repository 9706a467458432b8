"""The example of pools on a real mesh: instances follow the queue, and come back after kills."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from bend.instance_pools import PoolInfo
from bend.sync import Client
from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.kit.programs import alive
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pools"
WITHIN_S = 120.0
# Each instance is for eight tasks.
QUEUED_MIN = 60
CRASHY = {
    "component": "example.crashy",
    "process": {"command": [sys.executable, "-c", "import sys; sys.exit(3)"]},
    "min_instances": 1,
    "restarts": {"backoff": "0.1s", "crashes": 3, "window": "30s", "pause": "300s"},
}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Run a mesh with the example's pool, from an absolute place with this Python."""
    folder = tmp_path_factory.mktemp("pools")
    file = folder / "pools.yaml"
    text = (EXAMPLE / "pools.yaml").read_text()
    worker = f"[{sys.executable}, {EXAMPLE / 'worker.py'}]"
    assert "[python, examples/pools/worker.py]" in text
    text = text.replace("[python, examples/pools/worker.py]", worker)
    # How long tasks wait says more about the machine than about the pool.
    for usual, ours in (("down_after: 3s", "down_after: 1s, age: 600s"), ("idle: 5s", "idle: 2s")):
        assert usual in text
        text = text.replace(usual, ours.replace(", ", "\n      "))
    file.write_text(text)
    with heavy():
        one = Mesh(folder / "home", None)
        one._env["BEND_POOLS_FILE"] = str(file)
        one.up()
        try:
            yield one
        finally:
            one.down()


@pytest.fixture
def client(mesh: Mesh) -> Iterator[Client]:
    with Client(home=mesh.home, retry_timeout=30.0) as one:
        yield one


class Load:
    """Tasks for the pool, as many as a test wants it to be busy with."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.begun: list[str] = []

    def keep(self) -> None:
        """See to it that so many tasks wait as only all instances together are for."""
        if slow(self.client).waiting < QUEUED_MIN:
            numbers = range(len(self.begun), len(self.begun) + QUEUED_MIN)
            starts = [
                {"workflow": "pools_example", "parameters": {"number": number, "seconds": 0.7}}
                for number in numbers
            ]
            self.begun += [one.execution_id for one in self.client.start_many(starts)]

    def until(self, condition: Callable[[PoolInfo], bool], what: str) -> None:
        """Keep the pool busy until a condition on it holds."""

        def holds() -> bool:
            self.keep()
            return condition(slow(self.client))

        wait_until(holds, what, WITHIN_S)


def scaled(mesh: Mesh) -> list[int]:
    """Return what the pool was to have, from one decision to the next: the executor logs each."""
    lines = (mesh.home / "logs" / "executor.log").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines if '"pool_scaled"' in line]
    return [int(one["wanted"]) for one in events if one["pool"] == "slow"]


def slow(client: Client) -> PoolInfo:
    return client.get_pool("slow")


def starts(pool: PoolInfo) -> int:
    return int(pool.document["stats"]["starts"])


def pids(pool: PoolInfo) -> list[int]:
    return [int(one.place.removeprefix("pid ")) for one in pool.instances if one.place]


def test_instances_follow_the_queue(mesh: Mesh, client: Client) -> None:
    """From none to four and back; a killed instance is replaced and costs nothing."""
    client.deploy(EXAMPLE / "workflow.yaml")
    wait_until(lambda: slow(client).state == "ACTIVE", "an executor for the pool", WITHIN_S)
    assert slow(client).instances == []
    load = Load(client)
    load.until(lambda pool: pool.ready == 4, "four instances")
    victim = pids(slow(client))[0]
    os.kill(victim, signal.SIGKILL)
    load.until(lambda pool: (pool.ready, starts(pool)) == (4, 5), "another one in its place")
    squares = [client.wait(execution).result() for execution in load.begun]
    assert squares == [{"square": number * number} for number in range(len(load.begun))]
    wait_until(lambda: slow(client).instances == [], "an empty pool", WITHIN_S)
    # Up to four, then down one by one.
    wanted = scaled(mesh)
    assert wanted[-5:] == [4, 3, 2, 1, 0]
    assert wanted[:-4] == sorted(wanted[:-4])
    stats = slow(client).document["stats"]
    assert (int(stats["starts"]), int(stats["failures"]), int(stats["stops"])) == (5, 1, 4)
    assert "killed by SIGKILL" in stats["ends"][0]
    assert not alive(victim)
    logs = sorted(path.name for path in (mesh.home / "logs").glob("pool-slow-*.log"))
    assert logs == [f"pool-slow-{number}.log" for number in range(1, 5)]


def test_an_executor_that_is_killed_takes_them_with_it_and_the_next_one_starts_them(
    mesh: Mesh, client: Client
) -> None:
    client.scale_pool("slow", 2)
    wait_until(lambda: slow(client).ready == 2, "two instances", WITHIN_S)
    before = pids(slow(client))
    os.kill(mesh.pids()["executor"], signal.SIGKILL)
    wait_until(lambda: not any(map(alive, before)), "the end of the old ones", WITHIN_S)
    wait_until(
        lambda: slow(client).ready == 2 and not set(pids(slow(client))) & set(before),
        "two new ones",
        WITHIN_S,
    )
    client.scale_pool("slow", None)
    wait_until(lambda: slow(client).instances == [], "an empty pool", WITHIN_S)


def test_a_pool_by_api_that_crashes_is_shown_and_deleted(mesh: Mesh, client: Client) -> None:
    assert client.put_pool(CRASHY, name="crashy")
    wait_until(lambda: client.get_pool("crashy").state == "CRASH_LOOP", "a crash loop", WITHIN_S)
    table = mesh.bend("pools", "list")
    (line,) = (line for line in table.splitlines() if line.startswith("crashy"))
    assert "exit code 3" in line
    status = mesh.status()
    http = status["urls"]["http"]
    shown = httpx.get(f"{http}/v1/pools", timeout=30).json()["pools"]
    assert [(one["pool"]["name"], one["state"]) for one in shown] == [
        ("crashy", "CRASH_LOOP"),
        ("slow", "ACTIVE"),
    ]
    held = httpx.post(f"{http}/v1/pools/slow:scale", json={"instances": 0}, timeout=30).json()
    assert held["status"]["held_instances"] == 0
    assert httpx.get(f"{http}/v1/pools/slow/stats", timeout=30).json()["stats"]["starts"] != "0"
    assert httpx.delete(f"{http}/v1/pools/crashy", timeout=30).status_code == 200
    gone = httpx.get(f"{http}/v1/pools/crashy/stats", timeout=30)
    assert gone.status_code == 404
    wrong = httpx.put(f"{http}/v1/pools/x", json={"component": "a"}, timeout=30)
    assert (wrong.status_code, "pool.driver" in wrong.text) == (400, True)
