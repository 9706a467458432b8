"""The example of pools on a real mesh: instances follow the queue, and come back after kills."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bend.instance_pools import PoolInfo
from bend.sync import Client
from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.kit.programs import alive
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(400)]
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pools"
WITHIN_S = 60.0
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
    file.write_text(
        text.replace("down_after: 3s", "down_after: 1s").replace("idle: 5s", "idle: 2s")
    )
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


class Watch(threading.Thread):
    """Looks at the pool until it is told to stop; `seen` has each change of its ready instances."""

    def __init__(self, mesh: Mesh) -> None:
        super().__init__(daemon=True)
        self.home = mesh.home
        self.seen: list[int] = []
        self.waiting = 0
        self.over = threading.Event()

    def run(self) -> None:
        with Client(home=self.home, retry_timeout=30.0) as one:
            while not self.over.wait(0.2):
                (pool,) = (pool for pool in one.list_pools() if pool.name == "slow")
                self.waiting = max(self.waiting, pool.waiting)
                if not self.seen or self.seen[-1] != pool.ready:
                    self.seen.append(pool.ready)


def slow(client: Client) -> PoolInfo:
    return client.get_pool("slow")


def pids(pool: PoolInfo) -> list[int]:
    return [int(one.place.removeprefix("pid ")) for one in pool.instances if one.place]


def test_instances_follow_the_queue(mesh: Mesh, client: Client) -> None:
    """From none to four and back; a killed instance is replaced and costs nothing."""
    client.deploy(EXAMPLE / "workflow.yaml")
    wait_until(lambda: slow(client).state == "ACTIVE", "an executor for the pool", WITHIN_S)
    assert slow(client).instances == []
    watch = Watch(mesh)
    watch.start()
    begun = [
        client.start("pools_example", {"number": number, "seconds": 0.7}) for number in range(80)
    ]
    wait_until(lambda: slow(client).ready == 4, "four instances", WITHIN_S)
    victim = pids(slow(client))[0]
    os.kill(victim, signal.SIGKILL)
    squares = [client.wait(one.execution_id).result() for one in begun]
    assert squares == [{"square": number * number} for number in range(80)]
    wait_until(lambda: slow(client).instances == [], "an empty pool", WITHIN_S)
    wait_until(lambda: watch.seen[-1] == 0, "the watch's last look", WITHIN_S)
    watch.over.set()
    watch.join()
    assert (watch.seen[0], max(watch.seen), watch.seen[-1]) == (0, 4, 0)
    # Down one by one.
    assert watch.seen[-4:] == [3, 2, 1, 0]
    assert watch.waiting > 20
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
