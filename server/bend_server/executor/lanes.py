"""Publishing in frames: what has gathered goes out when a place in flight is free. No timers."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from bend_server.ports.queue import Queue, QueueDown, QueueFull

RETRY_MIN_S = 0.05
RETRY_MAX_S = 2.0
FULL_S = 0.5

_log = structlog.get_logger(__name__)


class Lane:
    """Frames of one subject, at most `in_flight_max` unconfirmed at once.

    Args:
        queue: where to publish.
        subject: to which subject.
        build: makes the message of some items.
        stored: called with the items once their message is stored.
        items_max: of one message.
        bytes_max: of one message, by the sizes given to `add`; one larger item goes alone.
        waiting_max: beyond it the oldest waiting items are dropped; None: never.
    """

    def __init__(
        self,
        queue: Queue,
        subject: str,
        build: Callable[[Sequence[Any]], bytes],
        stored: Callable[[Sequence[Any]], None],
        *,
        in_flight_max: int,
        items_max: int,
        bytes_max: int,
        waiting_max: int | None = None,
    ) -> None:
        self._queue = queue
        self._subject = subject
        self._build = build
        self._stored = stored
        self._in_flight_max = in_flight_max
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._waiting: deque[tuple[int, Any]] = deque(maxlen=waiting_max)
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._scheduled = False

    def add(self, item: Any, size: int) -> None:
        """Publish an item soon; `size` in bytes is what it adds to a message."""
        self._waiting.append((size, item))
        if not self._scheduled and len(self._tasks) < self._in_flight_max:
            # After the current callback: all that one message of a service brings goes together.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._waiting and not self._tasks

    def stop(self) -> None:
        """Give up what is in flight."""
        for task in list(self._tasks):
            task.cancel()

    def _flush(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        while self._waiting and len(self._tasks) < self._in_flight_max:
            task = loop.create_task(self._publish(self._take()))
            self._tasks[task] = None
            task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                _log.error("lane_failed", subject=self._subject, exc_info=error)
        if self._waiting and not self._scheduled:
            self._flush()

    def _take(self) -> list[Any]:
        waiting = self._waiting
        items: list[Any] = []
        total = 0
        while waiting and len(items) < self._items_max:
            size = waiting[0][0]
            if items and total + size > self._bytes_max:
                break
            total += size
            items.append(waiting.popleft()[1])
        return items

    async def _publish(self, items: list[Any]) -> None:
        data = self._build(items)
        backoff = RETRY_MIN_S
        while True:
            try:
                await self._queue.publish(self._subject, data)
            except QueueDown as error:
                full = isinstance(error, QueueFull)
                _log.warning("lane_publish_failed", subject=self._subject, full=full)
                await asyncio.sleep(FULL_S if full else backoff)
                backoff = min(backoff * 2, RETRY_MAX_S)
            else:
                break
        self._stored(items)
