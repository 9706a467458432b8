"""Executions that only wait for a far timer leave memory, by a committed row."""

import asyncio
from collections.abc import Awaitable

import structlog

from bend_server.core.effects import Timer, TimerKind
from bend_server.core.errors import Conflict, DependencyDown
from bend_server.core.model import ITEM_NONE, TaskStatus
from bend_server.core.state import ExecutionState
from bend_server.engine.adoption import Adoption
from bend_server.engine.commits import Commits
from bend_server.engine.live import Live
from bend_server.engine.options import Counters, EngineOptions
from bend_server.engine.timers import Timers
from bend_server.ports.clock import Clock
from bend_server.ports.store import EngineStore, Park, StoredExecution

log = structlog.get_logger()

DUE_MAX = 500

_PENDING = int(TaskStatus.PENDING)
_SCHEDULED = int(TaskStatus.SCHEDULED)
_RUNNING = int(TaskStatus.RUNNING)


class Parking:
    """Parks executions and fetches them before their time."""

    def __init__(
        self,
        store: EngineStore,
        clock: Clock,
        live: Live,
        commits: Commits,
        adoption: Adoption,
        timers: Timers,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._store = store
        self._clock = clock
        self._live = live
        self._commits = commits
        self._adoption = adoption
        self._timers = timers
        self._after_us = options.park_after_us
        self._period_s = options.park_s
        self._counters = counters

    def consider(self, timer: Timer, now_us: int) -> bool:
        """Ask for the parking of an execution with a new backoff; True: the next commit has it."""
        if timer.due_us - now_us < self._after_us:
            return False
        state = self._live.states.get(timer.execution)
        if state is None or not self._quiet(state, now_us):
            return False
        wake_us = min((state.due or {}).values(), default=timer.due_us)
        if state.start.deadline_us:
            wake_us = min(wake_us, state.start.deadline_us)
        if wake_us - now_us < self._after_us:
            return False
        self._commits.gathering.parks.append(Park(timer.execution, wake_us))
        self._commits.wake()
        return True

    def parked(self, parks: list[Park]) -> None:
        """Drop what is parked now; what moved meanwhile is taken back."""
        now_us = self._clock.now_us()
        for park in parks:
            state = self._live.states.get(park.execution)
            if state is None or park.wake_at_us == 0:
                continue
            if self._quiet(state, now_us):
                del self._live.states[park.execution]
                if state.start.deadline_us:
                    self._timers.drop_deadline(state.start.deadline_us, park.execution)
                self._counters.add("parked")
                continue
            self._commits.gathering.parks.append(Park(park.execution, 0))
            self._commits.wake()
            for task, due_us in (state.due or {}).items():
                try_ = state.tries[task]
                self._timers.add(due_us, _retry(due_us, park.execution, task, try_))

    async def run(self) -> None:
        """Fetch what is due, once a period."""
        while True:
            await asyncio.sleep(self._period_s)
            try:
                await self.fetch(sorted(self._live.owned))
            except (Conflict, DependencyDown) as error:
                log.warning("parked_not_fetched", reason=error.reason)

    async def fetch(self, partitions: list[int]) -> None:
        """Bring parked executions whose time comes within two periods into memory."""
        before_us = self._clock.now_us() + int(2 * self._period_s * 1e6)

        def due() -> Awaitable[list[StoredExecution]]:
            return self._store.load_due(partitions, before_us, DUE_MAX)

        while partitions:
            found, adopted = await self._adoption.load_page(due)
            if found < DUE_MAX or not adopted:
                return
            await self._commits.after()

    def _quiet(self, state: ExecutionState, now_us: int) -> bool:
        """Return whether an execution only waits for backoffs that are far away."""
        statuses = state.statuses
        if state.ending or _SCHEDULED in statuses or _RUNNING in statuses or not state.due:
            return False
        if min(state.due.values()) - now_us < self._after_us // 2:
            return False
        return not any(
            status == _PENDING and not state.remaining[task] for task, status in enumerate(statuses)
        )


def _retry(due_us: int, execution: int, task: int, try_: int) -> Timer:
    return Timer(due_us, execution, TimerKind.RETRY, task, ITEM_NONE, try_)
