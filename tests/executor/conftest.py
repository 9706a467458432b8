"""Executor tests run in virtual time over the in-memory queue."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from bend_server.queue.memory import MemoryBroker, MemoryQueue
from tests.kit.links import House
from tests.kit.virtual_time import VirtualClock, VirtualLoop, run_virtual


class Stage:
    """What a test gets: a broker, and houses with an executor each."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.clock = VirtualClock(loop)
        self.broker = MemoryBroker(self.clock.now_us)
        self.engine = MemoryQueue(self.broker, "engine")

    async def loop_sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    async def house(self, name: str = "x1", **options: Any) -> House:
        """Start an executor."""
        start = int.from_bytes(name.encode()[-2:]) << 32
        house = House(MemoryQueue(self.broker, name), self.clock, name=name, start=start, **options)
        await house.room.start()
        return house


def on_stage(test: Callable[[Stage], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make a coroutine function of a stage a test in virtual time."""

    @functools.wraps(test)
    def run() -> None:
        run_virtual(lambda loop: test(Stage(loop)))

    # pytest would take the parameter of the wrapped function for a fixture.
    del run.__wrapped__  # type: ignore[attr-defined]
    return run
