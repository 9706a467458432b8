"""An engine that sleeps for a minute under load, and goes on: the long form of a test, for soaks.

    python -m tests.integration.sleeper [--seconds 60]

Two engines over one PostgreSQL, 400 executions a second of five steps each, before, during and
after the sleep. Then SQL is compared with the component's journal: nothing lost, nothing doubled.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bend_server.bench.lock import heavy
from tests.e2e import scenario
from tests.integration.replicas import Replicas, deploy, start_all, working
from tests.kit.postgres import MISSING, PostgresServer, programs
from tests.kit.waiting import wait_until

THREADS = 2
BATCH = 50
EVERY_S = 0.25
AROUND_S = 5.0
SPLIT_S = 150.0
END_S = 240.0


class Load:
    """Starts executions at a steady rate through both engines, from threads of its own."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._over = threading.Event()
        self._turn = threading.Lock()
        self._faults: list[Exception] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(THREADS)
        ]

    def __enter__(self) -> "Load":
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; what was begun is answered first."""
        self._over.set()
        for thread in self._threads:
            thread.join(END_S)
        if self._faults:
            raise self._faults[0]

    def go_on(self, seconds: float) -> None:
        """Let it run for a while. Raises what ended one of its threads."""
        self._over.wait(seconds)
        if self._faults:
            raise self._faults[0]

    def _run(self, number: int) -> None:
        doors = self._replicas.doors[number:] + self._replicas.doors[:number]
        try:
            while not self._over.wait(EVERY_S):
                with self._turn:
                    values = self._replicas.values(BATCH)
                ids = start_all(doors, values)
                with self._turn:
                    self._replicas.ids.update(ids)
        except Exception as error:  # noqa: BLE001 - told by whoever waits
            self._faults.append(error)
            self._over.set()


@contextlib.contextmanager
def two_engines(folder: Path) -> Iterator[Replicas]:
    """Run a mesh on PostgreSQL with a second engine that has half of the partitions."""
    server = PostgresServer()
    try:
        server.start()
        replicas = Replicas(folder, server)
        try:
            replicas.up()
            replicas.start_second()
            replicas.wait_for_shares([32, 32], SPLIT_S)
            yield replicas
        finally:
            replicas.down()
    finally:
        server.stop()


def sleep_through(replicas: Replicas, seconds: float) -> scenario.Verdict:
    """Stop the second engine for so long under load, let it go on, and judge what is in SQL."""
    with working(replicas) as worker:
        deploy(replicas)
        with Load(replicas) as load:
            load.go_on(AROUND_S)
            replicas.signal_second(signal.SIGSTOP)
            slept = time.monotonic()
            left = replicas.open_at_second()
            took_s = replicas.wait_for_shares([64], SPLIT_S)
            load.go_on(seconds - (time.monotonic() - slept))
            replicas.signal_second(signal.SIGCONT)
            load.go_on(AROUND_S)
            replicas.wait_for_shares([32, 32], SPLIT_S)
            load.go_on(AROUND_S)
        wait_until(lambda: replicas.unfinished() == 0, "all executions completed", END_S)
        verdict = replicas.judge(worker.file)
    print(
        f"an engine slept {seconds:g} s with {left} executions open, taken over after "
        f"{took_s:.1f} s; {len(replicas.ids)} executions of {scenario.LENGTH} steps: {verdict}"
    )
    return verdict


def main() -> int:
    """Run it once; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.sleeper")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    if programs() is None:
        print(f"skipped: {MISSING}")
        return 0
    with (
        heavy(),
        tempfile.TemporaryDirectory(prefix="bend-soak-") as folder,
        two_engines(Path(folder)) as replicas,
    ):
        verdict = sleep_through(replicas, arguments.seconds)
        complete = len(replicas.ids) == replicas.wished
    return 0 if verdict[:4] == (0, 0, 0, 0) and complete else 1


if __name__ == "__main__":
    sys.exit(main())
