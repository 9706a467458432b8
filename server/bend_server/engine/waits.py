"""Who waits for executions to end: callers here, and engines elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from bend.internal.v1 import control_pb2
from bend_server.core.errors import DependencyDown
from bend_server.core.model import EXECUTION_TERMINAL, FinishRow
from bend_server.engine.jobs import Jobs
from bend_server.engine.live import Live
from bend_server.ports.engine import Ended
from bend_server.ports.queue import Queue, QueueDown
from bend_server.ports.store import EngineStore

READ_AGAIN_S = 10.0
STATUSES_MAX = 1000
NOTICE_IDS_MAX = 10_000

Register = Callable[[int], Awaitable[None]]


class Interest:
    """One caller's executions that have not ended yet, and those that have."""

    __slots__ = ("changed", "ended", "pending")

    def __init__(self, executions: Sequence[int]) -> None:
        self.pending = dict.fromkeys(executions)
        self.ended: list[Ended] = []
        self.changed = asyncio.Event()

    def put(self, ended: Ended) -> None:
        """Note one end, once."""
        if ended.execution in self.pending:
            del self.pending[ended.execution]
            self.ended.append(ended)
            self.changed.set()


class Waits:
    """Tells who waits; nothing is told before it is durable.

    Args:
        register: asks the owner of an execution elsewhere for a notice; best effort.
    """

    def __init__(self, store: EngineStore, queue: Queue, live: Live, jobs: Jobs) -> None:
        self._store = store
        self._queue = queue
        self._live = live
        self._jobs = jobs
        self._interests: dict[int, list[Interest]] = {}
        self._slots: dict[int, list[int]] = {}
        self.register: Register

    def finished(self, rows: list[FinishRow]) -> None:
        """Tell about ends that are durable."""
        if self._interests:
            interests = self._interests
            for row in rows:
                waiting = interests.pop(row.execution, None)
                if waiting is not None:
                    for interest in waiting:
                        interest.put(Ended(row.execution, row))
        if self._slots:
            notices: dict[int, list[int]] = {}
            for row in rows:
                for slot in self._slots.pop(row.execution, ()):
                    notices.setdefault(slot, []).append(row.execution)
            for slot, executions in notices.items():
                self._jobs.spawn(self._notify(slot, executions))

    def heard(self, executions: Sequence[int]) -> None:
        """Take in another engine's notice."""
        for execution in executions:
            for interest in self._interests.pop(execution, ()):
                interest.put(Ended(execution, None))

    def forget(self, gone: Callable[[int], bool]) -> None:
        """Drop the wishes of other engines for executions that a predicate names."""
        for execution in [one for one in self._slots if gone(one)]:
            del self._slots[execution]

    def notify(self, execution: int, slot: int) -> None:
        """Remember that another engine wants to hear of an end."""
        slots = self._slots.setdefault(execution, [])
        if slot not in slots:
            slots.append(slot)

    async def wait(self, execution: int, timeout_s: float) -> Ended | None:
        """Return when an execution has ended; None after a timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                async for batch in self.ended([execution]):
                    return batch[0]
        except TimeoutError:
            pass
        return None

    async def ended(self, executions: Sequence[int]) -> AsyncIterator[list[Ended]]:
        """Yield executions as they end; ends when all have. Unknown ones count as ended."""
        interest = Interest(executions)
        for execution in interest.pending:
            self._interests.setdefault(execution, []).append(interest)
        try:
            await self._look(interest, first=True)
            while interest.pending or interest.ended:
                if not interest.ended:
                    await self._sleep(interest)
                interest.changed.clear()
                if interest.ended:
                    batch, interest.ended = interest.ended, []
                    yield batch
        finally:
            self._forget(interest)

    async def _sleep(self, interest: Interest) -> None:
        try:
            async with asyncio.timeout(READ_AGAIN_S):
                await interest.changed.wait()
        except TimeoutError:
            try:
                await self._look(interest, first=False)
            except DependencyDown:
                return

    async def _look(self, interest: Interest, *, first: bool) -> None:
        """Find ends that happened before, or where nobody here hears of them."""
        states = self._live.states
        recent = self._live.recent
        elsewhere: list[int] = []
        for execution in list(interest.pending):
            if execution in states:
                continue
            if execution in recent:
                interest.put(Ended(execution, recent[execution]))
            elif execution not in self._live.held:
                elsewhere.append(execution)
        for place in range(0, len(elsewhere), STATUSES_MAX):
            part = elsewhere[place : place + STATUSES_MAX]
            statuses = await self._store.statuses(part)
            for execution in part:
                status = statuses.get(execution)
                if execution in states or execution not in interest.pending:
                    continue
                if status is None or status in EXECUTION_TERMINAL:
                    interest.put(Ended(execution, recent.get(execution)))
                elif first and not self._live.claims(execution):
                    self._jobs.spawn(self._register(execution))

    async def _register(self, execution: int) -> None:
        try:
            await self.register(execution)
        except (DependencyDown, QueueDown):
            # The next look into SQL finds the end.
            return

    async def _notify(self, slot: int, executions: list[int]) -> None:
        for place in range(0, len(executions), NOTICE_IDS_MAX):
            part = executions[place : place + NOTICE_IDS_MAX]
            notice = control_pb2.FinishedNotice(executions=part)
            try:
                await self._queue.broadcast(f"engine.finished.{slot}", notice.SerializeToString())
            except QueueDown:
                return

    def _forget(self, interest: Interest) -> None:
        for execution in interest.pending:
            waiting = self._interests.get(execution)
            if waiting is None:
                continue
            waiting.remove(interest)
            if not waiting:
                del self._interests[execution]
