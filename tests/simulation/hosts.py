"""Machines of the simulated mesh: each runs one process at a time, and starts it again."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from bend_server.core.errors import NotFound
from tests.simulation.processes import Process


class SimBlobs:
    """`ports.blobs.Blobs` that never fails; the workloads' payloads are small."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    async def put(self, prefix: str, data: bytes) -> str:
        """See ports.blobs.Blobs."""
        key = f"{prefix}/{len(self._data)}"
        self._data[key] = data
        return key

    async def get(self, key: str) -> bytes:
        """See ports.blobs.Blobs."""
        if key not in self._data:
            raise NotFound(f"no blob {key}")
        return self._data[key]

    async def delete_prefix(self, prefix: str) -> int:
        """See ports.blobs.Blobs."""
        keys = [key for key in self._data if key.startswith(prefix)]
        for key in keys:
            del self._data[key]
        return len(keys)


class SeededChance:
    """`ports.clock.Chance` by the seed."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def u64(self) -> int:
        """See ports.clock.Chance."""
        return self._chance.getrandbits(64) or 1

    def uniform(self, low: float, high: float) -> float:
        """See ports.clock.Chance."""
        return self._chance.uniform(low, high)


Boot = Callable[[Process], Coroutine[Any, Any, None]]


class Host:
    """Keeps one process alive: boots it, and boots it again some time after its death.

    Args:
        boot: runs inside the process; when it returns or raises, the process has ended.
        told: takes lines of the story.
    """

    def __init__(
        self,
        name: str,
        chance: Random,
        deadliness: Callable[[], float],
        boot: Boot,
        told: Callable[[str], None],
    ) -> None:
        self.name = name
        self.process: Process | None = None
        self.incarnation = 0
        self._chance = chance
        self._deadliness = deadliness
        self._boot = boot
        self._told = told
        self._stopped = False

    @property
    def alive(self) -> bool:
        """Whether a process runs."""
        return self.process is not None and not self.process.dead

    def up(self) -> None:
        """Start a process."""
        if self.alive or self._stopped:
            return
        self.incarnation += 1
        process = Process(
            f"{self.name}.{self.incarnation}", self._chance, self._deadliness, self._died
        )
        self.process = process
        task = process.spawn(self._boot(process))
        task.add_done_callback(lambda done: self._ended(process, done))

    def kill(self, why: str) -> None:
        """Kill the process, if there is one."""
        if self.process is not None:
            self.process.kill(why)

    def _ended(self, process: Process, task: "asyncio.Task[None]") -> None:
        if process.dead:
            return
        error = None if task.cancelled() else task.exception()
        process.kill(f"ended with {error!r}")

    def _died(self, process: Process, why: str) -> None:
        self._told(f"{process.name} dies: {why}")
        loop = asyncio.get_running_loop()
        loop.call_later(self._chance.choice((0.05, 0.5, 3.0, 20.0)), self.up)
