"""Machines of the simulated mesh: each runs one process at a time, and starts it again."""

import asyncio
from collections.abc import Callable, Coroutine
from hashlib import sha256
from random import Random
from typing import Any

from bend_server.core.errors import DependencyDown, NotFound
from tests.simulation.processes import Process
from tests.simulation.weather import Climate


class SimBlobs:
    """`ports.blobs.Blobs`: slow, and away at times."""

    def __init__(self, chance: Random, climate: Climate) -> None:
        self._chance = chance
        self._climate = climate
        self._data: dict[str, bytes] = {}

    async def _travel(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.0001, 0.02))
        if not self._climate.calm and self._chance.random() < self._climate.sql_refused:
            raise DependencyDown("the blob store cannot be reached")

    async def put(self, prefix: str, data: bytes) -> str:
        """See ports.blobs.Blobs."""
        await self._travel()
        key = f"{prefix}/{sha256(data).hexdigest()}"
        self._data[key] = data
        return key

    async def get(self, key: str) -> bytes:
        """See ports.blobs.Blobs."""
        await self._travel()
        return self.peek(key)

    def peek(self, key: str) -> bytes:
        """Return the data without a way to go. Raises NotFound."""
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
Leave = Callable[[], Coroutine[Any, Any, None]]
LEAVE_S = 30.0


class Host:
    """Keeps one process alive: boots it, and boots it again some time after its death.

    Args:
        boot: runs inside the process; when it returns or raises, the process has ended.
        leave: runs inside the process at a planned stop; None: there is none.
        told: takes lines of the story.
    """

    def __init__(
        self,
        name: str,
        chance: Random,
        deadliness: Callable[[], float],
        boot: Boot,
        leave: Leave | None,
        told: Callable[[str], None],
    ) -> None:
        self.name = name
        self.process: Process | None = None
        self.incarnation = 0
        self._chance = chance
        self._deadliness = deadliness
        self._boot = boot
        self._leave = leave
        self._told = told

    @property
    def alive(self) -> bool:
        """Whether a process runs."""
        return self.process is not None and not self.process.dead

    def up(self) -> None:
        """Start a process."""
        if self.alive:
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

    def retire(self) -> None:
        """Stop the process in order; it may still be killed meanwhile."""
        process = self.process
        if process is not None and not process.dead:
            self._told(f"{process.name} is told to stop")
            process.spawn(self._stop(process))

    async def _stop(self, process: Process) -> None:
        if self._leave is not None:
            try:
                async with asyncio.timeout(LEAVE_S):
                    await self._leave()
            except TimeoutError:
                self._told(f"{process.name} does not come to an end")
            except Exception as error:  # noqa: BLE001 (a main program would exit with it)
                self._told(f"{process.name} stops with {error!r}")
        process.kill("stopped")

    def _ended(self, process: Process, task: "asyncio.Task[None]") -> None:
        if process.dead:
            return
        error = None if task.cancelled() else task.exception()
        process.kill(f"ended with {error!r}")

    def _died(self, process: Process, why: str) -> None:
        self._told(f"{process.name} dies: {why}")
        loop = asyncio.get_running_loop()
        loop.call_later(self._chance.choice((0.05, 0.5, 3.0, 20.0)), self.up)
