"""SIGKILL on the real mesh at random points: nothing is lost, nothing is counted twice.

What would break in production if these fail: the promise of the product.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.e2e import scenario

pytestmark = [pytest.mark.kill, pytest.mark.timeout(480)]

KILLS = 3
Action = Callable[[Mesh, scenario.Worker, dict[str, int]], None]


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


def wipe_queue(mesh: Mesh, worker: scenario.Worker, pids: dict[str, int]) -> None:
    """Kill NATS and take its store away."""
    del worker
    store = mesh.home / "nats"
    if store.exists():  # not yet made again since the last wipe, else
        store.rename(mesh.home / f"nats-gone-{time.monotonic_ns()}")
    os.kill(pids["nats"], signal.SIGKILL)


def kill_worker(mesh: Mesh, worker: scenario.Worker, pids: dict[str, int]) -> None:
    """Kill the component service and start another one."""
    del mesh, pids
    worker.kill()
    worker.start()


def killer(*names: str) -> Action:
    """Return an action that kills processes of the mesh at once."""

    def action(mesh: Mesh, worker: scenario.Worker, pids: dict[str, int]) -> None:
        del mesh, worker
        for name in names:
            os.kill(pids[name], signal.SIGKILL)

    return action


ACTIONS: dict[str, Action] = {
    "server": killer("server"),
    "executor": killer("executor"),
    "worker": kill_worker,
    "nats": killer("nats"),
    "nats_wiped": wipe_queue,
    "envoy": killer("envoy"),
    "all": killer("server", "executor", "nats", "envoy", "components"),
}


def all_up(mesh: Mesh) -> dict[str, int]:
    """Return the process ids once every process of the mesh runs again."""
    deadline = time.monotonic() + 90
    while True:
        pids = mesh.pids()
        if {"server", "executor", "nats", "envoy", "components"} <= set(pids):
            return pids
        assert time.monotonic() < deadline, f"only {sorted(pids)} run"


@pytest.mark.parametrize("victim", ACTIONS)
def test_a_killed_process_loses_and_doubles_nothing(
    mesh: Mesh, victim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = scenario.seeded(victim)
    worker = scenario.Worker(mesh)
    worker.start()
    caller = scenario.Caller(mesh)
    caller.deploy()
    ids: dict[str, int] = {}

    def start_all() -> None:
        for first in range(0, scenario.EXECUTIONS, scenario.BATCH):
            ids.update(caller.start(first, scenario.BATCH))

    total = scenario.EXECUTIONS * scenario.LENGTH
    points = sorted(int(total * chance.uniform(0.02, 0.7)) for _ in range(KILLS))
    progress = scenario.Progress(mesh.home / "bend.db")
    starter = threading.Thread(target=start_all)
    starter.start()
    in_flight = []
    try:
        for point in points:
            pids = all_up(mesh)
            progress.look()
            # However slowly the machine starts them: the first kill comes when many are in flight.
            while progress.rows < point or (
                not in_flight and progress.unfinished < scenario.IN_FLIGHT_MIN
            ):
                progress.look()
            if in_flight and progress.unfinished < scenario.IN_FLIGHT_MIN:
                break  # the run was faster than the mesh came back: enough was killed
            in_flight.append(progress.unfinished)
            ACTIONS[victim](mesh, worker, pids)
        while starter.is_alive() or progress.unfinished:
            progress.look()
    finally:
        starter.join(scenario.END_S_MAX)
        worker.kill()
    verdict = scenario.judge(mesh.home / "bend.db", ids, worker.file)
    with capsys.disabled():
        print(f"\n  {victim}: in flight {in_flight}, {verdict}, stall {progress.stall_s:.2f} s")
    assert verdict[:4] == (0, 0, 0, 0)
    assert min(in_flight) >= scenario.IN_FLIGHT_MIN
    assert len(ids) == scenario.EXECUTIONS
