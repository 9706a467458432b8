"""Executions that only wait leave memory, by a committed row: for a far timer, or for somebody."""

import asyncio
from collections.abc import Awaitable

import structlog

from bend_server.core.effects import Timer, TimerKind
from bend_server.core.errors import Conflict, DependencyDown
from bend_server.core.model import ExecutionStatus, TaskStatus
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
_PENDING_EXECUTION = int(ExecutionStatus.PENDING)
_RUNNING_EXECUTION = int(ExecutionStatus.RUNNING)


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
        """Ask for the parking of an execution with a new timer; True: the next commit has it."""
        if timer.due_us - now_us < self._after_us:
            return False
        return self.look(timer.execution, now_us)

    def look(self, execution: int, now_us: int) -> bool:
        """Ask for the parking of an execution if it only waits; True: the next commit has it."""
        state = self._live.states.get(execution)
        if state is None or not self._quiet(state, now_us, self._after_us):
            return False
        due_us = [due for due, _, _ in state.dues()]
        if state.deadline_us:
            due_us.append(state.deadline_us)
        wake_us = min(due_us, default=None)
        if wake_us is not None and wake_us - now_us < self._after_us:
            return False
        self._commits.gathering.parks.append(Park(execution, wake_us))
        self._commits.wake()
        return True

    def parked(self, parks: list[Park]) -> None:
        """Drop what is parked now; what moved meanwhile is taken back."""
        now_us = self._clock.now_us()
        for park in parks:
            state = self._live.states.get(park.execution)
            if state is None or park.wake_at_us == 0 or state.status == _PENDING_EXECUTION:
                continue
            if self._quiet(state, now_us, self._after_us // 2):
                del self._live.states[park.execution]
                if state.deadline_us:
                    self._timers.drop_deadline(state.deadline_us, park.execution)
                self._counters.add("parked")
                continue
            self._commits.gathering.parks.append(Park(park.execution, 0))
            self._commits.wake()
            for due_us, task, item in state.dues():
                waits = state.waiting(task, item) is not None
                units, index = state.unit(task, item)
                kind = TimerKind.WAKE if waits else TimerKind.RETRY
                try_ = units.tries[index]
                self._timers.add(due_us, Timer(due_us, park.execution, kind, task, item, try_))

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

    def _quiet(self, state: ExecutionState, now_us: int, far_us: int) -> bool:
        """Return whether an execution only waits: for times that are far away, or for somebody."""
        if state.ending or state.terminal or state.status != _RUNNING_EXECUTION:
            return False
        if state.undecided or _moves(state):
            return False
        waits = state.control is not None and bool(state.control.waits)
        first_us = min((due_us for due_us, _, _ in state.dues()), default=None)
        if first_us is None:
            return waits
        return first_us - now_us >= far_us


def _moves(state: ExecutionState) -> bool:
    """Return whether a task or an item runs, may run, or is about to be judged."""
    fans = state.fans or {}
    for task in range(state.taking_part):
        status = state.statuses[task]
        if status == _SCHEDULED or (status == _RUNNING and task not in fans):
            return True
        if status == _PENDING and not state.remaining[task]:
            return True
    return any(
        state.statuses[task] == _RUNNING
        and (_SCHEDULED in fan.statuses or _RUNNING in fan.statuses or bool(fan.undecided))
        for task, fan in fans.items()
    )
