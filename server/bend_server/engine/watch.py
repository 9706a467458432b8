"""Watchers of single executions: woken after commits and on transient changes."""

import asyncio
from collections.abc import AsyncIterator

from bend_server.core.effects import Effects
from bend_server.engine.live import Live
from bend_server.engine.overlay import Overlay
from bend_server.ports.engine import TaskOverlay

FOREIGN_S = 1.0
"""Executions of other engines wake their watchers so often: nobody here hears of them."""


class Watches:
    """Wakes watchers; wake-ups are merged, never lost."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._events: dict[int, list[asyncio.Event]] = {}
        self.overlay: Overlay

    def committed(self, effects: Effects) -> None:
        """Wake who watches executions with rows in a commit."""
        events = self._events
        if not events:
            return
        for rows in (effects.results, effects.events, effects.finishes, effects.changes):
            for row in rows:
                if row.execution in events:
                    self.wake(row.execution)
        for ready in effects.ready:
            if ready.state.start.id in events:
                self.wake(ready.state.start.id)

    def wake(self, execution: int) -> None:
        """Wake who watches an execution."""
        for event in self._events.get(execution, ()):
            event.set()

    def wake_all(self) -> None:
        """Wake everybody: memory was dropped, or the routes changed."""
        for execution in self._events:
            self.wake(execution)

    async def watch(self, execution: int) -> AsyncIterator[list[TaskOverlay]]:
        """Yield the transient states that changed, at once and after each wake-up."""
        event = asyncio.Event()
        self._events.setdefault(execution, []).append(event)
        told: dict[tuple[int, int], TaskOverlay] = {}
        try:
            while True:
                now = {(one.task, one.item): one for one in self.overlay.of(execution)}
                changed = [one for key, one in now.items() if told.get(key) != one]
                told = now
                yield changed
                await self._sleep(execution, event)
                event.clear()
        finally:
            waiting = self._events[execution]
            waiting.remove(event)
            if not waiting:
                del self._events[execution]

    async def _sleep(self, execution: int, event: asyncio.Event) -> None:
        if execution in self._live.states:
            await event.wait()
            return
        try:
            async with asyncio.timeout(FOREIGN_S):
                await event.wait()
        except TimeoutError:
            return
