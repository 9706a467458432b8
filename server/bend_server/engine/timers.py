"""When something is due: one wheel with coarse buckets, and the executions' deadlines.

Entries are never removed one by one: whoever is called when one is due checks whether it still
matters. Deadlines of executions are the exception, since most never come due.
"""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush

from bend_server.ports.clock import Clock

GRAIN_US = 16_384
DEADLINE_GRAIN_US = 1 << 20
SLEEP_S_MAX = 5.0
"""The clock may jump against the loop's time; it is read again at least so often."""

Entry = object


class Timers:
    """The wheel. `fire` gets everything that is due, in order of its buckets.

    Args:
        fire: called with the entries of all due buckets.
        expire: called with the executions whose deadline has come.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[int, list[Entry]] = {}
        self._heap: list[int] = []
        self._deadlines: dict[int, dict[int, None]] = {}
        self._deadline_heap: list[int] = []
        self._changed = asyncio.Event()
        self._wake_us = 1 << 62
        self.fire: Callable[[list[Entry]], None]
        self.expire: Callable[[list[int]], None]

    def add(self, due_us: int, entry: Entry) -> None:
        """Remember an entry; it fires at most one grain late."""
        bucket = due_us // GRAIN_US + 1
        entries = self._buckets.get(bucket)
        if entries is not None:
            entries.append(entry)
            return
        self._buckets[bucket] = [entry]
        heappush(self._heap, bucket)
        if bucket * GRAIN_US < self._wake_us:
            self._changed.set()

    def add_deadline(self, due_us: int, execution: int) -> None:
        """Remember when an execution times out."""
        bucket = due_us // DEADLINE_GRAIN_US + 1
        executions = self._deadlines.get(bucket)
        if executions is not None:
            executions[execution] = None
            return
        self._deadlines[bucket] = {execution: None}
        heappush(self._deadline_heap, bucket)
        if bucket * DEADLINE_GRAIN_US < self._wake_us:
            self._changed.set()

    def drop_deadline(self, due_us: int, execution: int) -> None:
        """Forget an execution's deadline."""
        bucket = due_us // DEADLINE_GRAIN_US + 1
        executions = self._deadlines.get(bucket)
        if executions is not None:
            executions.pop(execution, None)

    def clear(self) -> None:
        """Forget everything."""
        self._buckets.clear()
        self._heap.clear()
        self._deadlines.clear()
        self._deadline_heap.clear()

    async def run(self) -> None:
        """Fire for ever."""
        while True:
            now_us = self._clock.now_us()
            self._turn(now_us)
            next_us = self._next_us()
            self._wake_us = next_us if next_us is not None else 1 << 62
            wait_s = SLEEP_S_MAX
            if next_us is None:
                wait_s = 3600.0
            elif next_us - now_us < SLEEP_S_MAX * 1e6:
                wait_s = max(0.0, (next_us - now_us) / 1e6)
            self._changed.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _turn(self, now_us: int) -> None:
        heap = self._heap
        due: list[Entry] = []
        while heap and heap[0] * GRAIN_US <= now_us:
            due.extend(self._buckets.pop(heappop(heap)))
        if due:
            self.fire(due)
        ended: list[int] = []
        deadlines = self._deadline_heap
        while deadlines and deadlines[0] * DEADLINE_GRAIN_US <= now_us:
            ended.extend(self._deadlines.pop(heappop(deadlines)))
        if ended:
            self.expire(ended)

    def _next_us(self) -> int | None:
        next_us = self._heap[0] * GRAIN_US if self._heap else None
        if self._deadline_heap:
            deadline_us = self._deadline_heap[0] * DEADLINE_GRAIN_US
            next_us = deadline_us if next_us is None else min(next_us, deadline_us)
        return next_us
