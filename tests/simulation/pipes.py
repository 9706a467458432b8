"""A stream between a worker and an executor: in order, delayed, and broken when an end dies."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")


class Broken(Exception):
    """The stream is gone."""


class Pipe(Generic[T]):
    """One direction of a stream, in order. What is on the way is lost at a break."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._arrived: asyncio.Queue[T | None] = asyncio.Queue()
        self._last = 0.0
        self.broken = False

    def send(self, message: T) -> None:
        """Put a message on the way. Raises Broken."""
        if self.broken:
            raise Broken
        loop = asyncio.get_running_loop()
        # Later than the one before: timers of one moment have no order.
        self._last = max(self._last + 1e-6, loop.time() + self._chance.uniform(0.0001, 0.003))
        loop.call_at(self._last, self._arrive, message)

    def _arrive(self, message: T) -> None:
        if not self.broken:
            self._arrived.put_nowait(message)

    async def receive(self) -> T | None:
        """Return the next message; None when the stream is gone."""
        if self.broken:
            return None
        return await self._arrived.get()

    def cut(self) -> None:
        """Break the stream: the receiver hears of it at once."""
        if not self.broken:
            self.broken = True
            self._arrived.put_nowait(None)


def linked(*pipes: Pipe[T]) -> Callable[[], None]:
    """Return a function that cuts all of them."""

    def cut() -> None:
        for pipe in pipes:
            pipe.cut()

    return cut
