"""SIGKILL on the real mesh at random points: nothing is lost, nothing is counted twice.

What would break in production if these fail: the promise of the product.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.e2e import scenario

pytestmark = [pytest.mark.kill, pytest.mark.timeout(240)]


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """A fresh mesh, alone on the machine."""
    with heavy():
        fresh = Mesh(tmp_path / "home", None)
        fresh.up()
        try:
            yield fresh
        finally:
            fresh.down()


def kill(mesh: Mesh, *names: str) -> None:
    """SIGKILL processes of the mesh; one that is down right now counts as killed."""
    pids = mesh.pids()
    for name in names:
        if name in pids:
            try:
                os.kill(pids[name], signal.SIGKILL)
            except ProcessLookupError:
                continue


def wipe_queue(mesh: Mesh, worker: scenario.Worker) -> None:
    """Kill NATS and take its store away."""
    del worker
    store = mesh.home / "nats"
    store.rename(mesh.home / f"nats-gone-{time.monotonic_ns()}")
    kill(mesh, "nats")


def kill_worker(mesh: Mesh, worker: scenario.Worker) -> None:
    """Kill the component service and start another one."""
    del mesh
    worker.kill()
    worker.start()


def killer(*names: str) -> Callable[[Mesh, scenario.Worker], None]:
    """Return an action that kills processes of the mesh."""

    def action(mesh: Mesh, worker: scenario.Worker) -> None:
        del worker
        kill(mesh, *names)

    return action


ACTIONS = {
    "server": killer("server"),
    "executor": killer("executor"),
    "worker": kill_worker,
    "nats": killer("nats"),
    "nats_wiped": wipe_queue,
    "envoy": killer("envoy"),
    "all": killer("server", "executor", "nats", "envoy", "components"),
}


@pytest.mark.parametrize("victim", ACTIONS)
def test_a_killed_process_loses_and_doubles_nothing(
    mesh: Mesh, victim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = scenario.seeded(victim)
    worker = scenario.Worker(mesh)
    worker.start()
    caller = scenario.Caller(mesh)
    caller.deploy()
    database = mesh.home / "bend.db"
    ids: dict[str, int] = {}

    def start_all() -> None:
        for first in range(0, scenario.EXECUTIONS, scenario.BATCH):
            ids.update(caller.start(first, scenario.BATCH))

    starter = threading.Thread(target=start_all)
    starter.start()
    try:
        stall = disturb_until_done(mesh, worker, chance.uniform, starter, database, ACTIONS[victim])
    finally:
        starter.join(scenario.END_S_MAX)
        worker.kill()
    verdict = scenario.judge(database, ids, worker.file)
    with capsys.disabled():
        print(f"\n  {victim}: {verdict}, longest stall {stall:.2f} s")
    assert verdict[:4] == (0, 0, 0, 0)
    assert len(ids) == scenario.EXECUTIONS


def disturb_until_done(
    mesh: Mesh,
    worker: scenario.Worker,
    uniform: Callable[[float, float], float],
    starter: threading.Thread,
    database: Path,
    action: Callable[[Mesh, scenario.Worker], None],
) -> float:
    """Act at three random points, then wait for the end; return the longest stall in seconds."""
    deadline = time.monotonic() + scenario.END_S_MAX
    points = sorted(time.monotonic() + uniform(0.2, 3.0) for _ in range(3))
    last, since, stall = -1, time.monotonic(), 0.0
    while time.monotonic() < deadline:
        now = time.monotonic()
        if points and now >= points[0]:
            points.pop(0)
            action(mesh, worker)
        left = scenario.unfinished(database)
        if left != last:
            stall = max(stall, now - since) if last >= 0 else stall
            last, since = left, now
        if not points and not left and not starter.is_alive():
            return stall
        time.sleep(0.02)
    shutil.copy(mesh.home / "logs" / "server.log", mesh.home / "server-at-deadline.log")
    pytest.fail(f"{last} executions unfinished after {scenario.END_S_MAX} s; logs in {mesh.home}")
