"""Partial outputs and log lines on their way out: what one is, and where they wait to be sent."""

import asyncio
import contextlib
import threading
from typing import NamedTuple

BUFFER_MAX = 4096
BUFFER_BYTES = 8 * 1024 * 1024


class PartialChunk(NamedTuple):
    """A partial output or a log line."""

    run_id: int
    number: int
    kind: int
    data: bytes
    time_us: int


class ChunkBuffer:
    """Chunks that wait for whoever sends them, bounded in number and bytes.

    Filled from any thread. A chunk is never refused: who is told that the buffer is full waits for
    room before the next one, on the loop or in a thread.

    Args:
        condition: the sender's own, under which it takes chunks together with all else that it
            sends; notified of every chunk.
        loop: where those wait who must not block.
    """

    def __init__(self, condition: threading.Condition, loop: asyncio.AbstractEventLoop) -> None:
        self.waiting: list[PartialChunk] = []
        self._condition = condition
        self._loop = loop
        self._bytes = 0
        self._ended = False
        self._waiters: list[asyncio.Future[None]] = []

    def put(self, chunk: PartialChunk) -> bool:
        """Add a chunk, dropped after the end; return False when the buffer is full now."""
        with self._condition:
            if self._ended:
                return True
            self.waiting.append(chunk)
            self._bytes += len(chunk.data)
            self._condition.notify()
            return not self._full()

    async def room(self) -> None:
        """Wait until there is room, or nothing is sent any more. Loop only."""
        with self._condition:
            if self._ended or not self._full():
                return
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
        await waiter

    def block_for_room(self) -> None:
        """Wait as `room` does, in a thread."""
        with self._condition:
            self._condition.wait_for(lambda: self._ended or not self._full())

    def take(self) -> list[PartialChunk]:
        """Return what waits, oldest first, and make room."""
        with self._condition:
            taken, self.waiting, self._bytes = self.waiting, [], 0
            if taken:
                self._make_way()
        return taken

    def end(self) -> None:
        """Nothing is sent any more: nobody waits, and what comes is dropped."""
        with self._condition:
            self._ended = True
            self._make_way()

    def _full(self) -> bool:
        return len(self.waiting) >= BUFFER_MAX or self._bytes >= BUFFER_BYTES

    def _make_way(self) -> None:
        self._condition.notify_all()
        waiters, self._waiters = self._waiters, []
        if waiters:
            with contextlib.suppress(RuntimeError):  # a closed loop wants nothing any more
                self._loop.call_soon_threadsafe(_release, waiters)


def _release(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
