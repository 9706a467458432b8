"""Executions that only wait leave memory, by a committed row: for a far timer, or for somebody.

A paused one waits for somebody, too, once its running tasks have ended.
"""

import asyncio
from collections.abc import Awaitable

import structlog

from bend_server.core.effects import Effects, Timer, TimerKind
from bend_server.core.errors import Conflict, DependencyDown
from bend_server.core.model import ITEM_NONE, ExecutionStatus, TaskStatus
from bend_server.core.state import ExecutionState
from bend_server.engine.adoption import Adoption
from bend_server.engine.commits import Commits
from bend_server.engine.live import Live
from bend_server.engine.options import Counters, EngineOptions
from bend_server.engine.timers import Timers
from bend_server.engine.windows import Windows
from bend_server.ports.clock import Clock
from bend_server.ports.store import EngineStore, Park, StoredExecution

log = structlog.get_logger()

DUE_MAX = 500

_PENDING = int(TaskStatus.PENDING)
_SCHEDULED = int(TaskStatus.SCHEDULED)
_RUNNING = int(TaskStatus.RUNNING)
_PENDING_EXECUTION = int(ExecutionStatus.PENDING)
_RUNNING_EXECUTION = int(ExecutionStatus.RUNNING)
_PAUSED_EXECUTION = int(ExecutionStatus.PAUSED)


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
        windows: Windows,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._store = store
        self._clock = clock
        self._live = live
        self._commits = commits
        self._adoption = adoption
        self._timers = timers
        self._windows = windows
        # Paused executions in memory: the ends of what still runs there are looked out for.
        self.pausing: dict[int, None] = {}
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
        wake_us = None if state.paused else _wake_us(state)
        if wake_us is not None and wake_us - now_us < self._after_us:
            return False
        self._commits.gathering.parks.append(Park(execution, wake_us))
        self._commits.wake()
        return True

    def recovered(self, states: list[ExecutionState]) -> None:
        """Look at executions that a takeover brought into memory."""
        now_us = self._clock.now_us()
        for state in states:
            if state.paused:
                self.pausing[state.start.id] = None
            if state.paused or (state.control is not None and state.control.waits):
                self.look(state.start.id, now_us)

    def follow(self, effects: Effects, now_us: int) -> None:
        """Hear what was committed: a pause, or the end of what still ran in a paused execution."""
        asked: dict[int, None] = {}
        for change in effects.changes:
            if change.status == _PAUSED_EXECUTION:
                self.pausing[change.execution] = asked[change.execution] = None
        if self.pausing:
            for row in effects.results:
                if row.execution in self.pausing:
                    asked[row.execution] = None
        for execution in asked:
            self.look(execution, now_us)

    def parked(self, parks: list[Park]) -> None:
        """Drop what is parked now; what moved meanwhile is taken back."""
        now_us = self._clock.now_us()
        moved: set[int] | None = None
        for park in parks:
            state = self._live.states.get(park.execution)
            if state is None or state.status == _PENDING_EXECUTION:
                continue
            if park.wake_at_us == 0:
                # It came back, perhaps for no more than a look.
                if state.paused:
                    self.pausing[park.execution] = None
                self.look(park.execution, now_us)
                continue
            if moved is None:
                moved = _executions_of(self._commits.gathering.effects)
            if park.execution not in moved and self._quiet(state, now_us, self._after_us // 2):
                self._drop(state)
            else:
                self._take_back(state)

    def _drop(self, state: ExecutionState) -> None:
        execution = state.start.id
        del self._live.states[execution]
        self.pausing.pop(execution, None)
        if state.deadline_us:
            self._timers.drop_deadline(state.deadline_us, execution)
        self._counters.add("parked")

    def _take_back(self, state: ExecutionState) -> None:
        execution = state.start.id
        self._commits.gathering.parks.append(Park(execution, 0))
        self._commits.wake()
        for due_us, task, item in state.dues():
            waits = state.waiting(task, item) is not None
            units, index = state.unit(task, item)
            kind = TimerKind.WAKE if waits else TimerKind.RETRY
            try_ = units.tries[index]
            self._timers.add(due_us, Timer(due_us, execution, kind, task, item, try_))

    async def run(self) -> None:
        """Fetch what is due, once a period."""
        while True:
            await asyncio.sleep(self._period_s)
            states = self._live.states
            self.pausing = {one: None for one in self.pausing if one in states}
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
        if state.status == _PAUSED_EXECUTION:
            return state.paused and self._rests(state)
        self.pausing.pop(state.start.id, None)
        if state.ending or state.terminal or state.status != _RUNNING_EXECUTION:
            return False
        if state.undecided or _moves(state):
            return False
        waits = state.control is not None and bool(state.control.waits)
        first_us = min((due_us for due_us, _, _ in state.dues()), default=None)
        if first_us is None:
            return waits
        return first_us - now_us >= far_us

    def _rests(self, state: ExecutionState) -> bool:
        """Return whether nothing of a paused execution runs, here or at a worker."""
        if state.quarantined or state.undecided:
            return False
        for task in range(state.taking_part):
            fan = state.fan(task)
            if fan is not None and fan.undecided:
                return False
            for item in (ITEM_NONE,) if fan is None else range(fan.next):
                if not self._unit_rests(state, task, item):
                    return False
        return True

    def _unit_rests(self, state: ExecutionState, task: int, item: int) -> bool:
        try_ = state.open_try(task, item)
        if not try_ or state.waiting(task, item) is not None:
            return True
        plan = state.plan.tasks[task]
        if state.child(task, item) is not None or plan.slots or plan.cache is not None:
            # Slots and the cache know tries that wait there; their answers come to this memory.
            return False
        return (state.start.id, task, item, try_) not in self._windows.by_key


def _wake_us(state: ExecutionState) -> int | None:
    due_us = [due for due, _, _ in state.dues()]
    if state.deadline_us:
        due_us.append(state.deadline_us)
    return min(due_us, default=None)


def _executions_of(effects: Effects) -> set[int]:
    """Return the executions with rows: SQL does not know yet what their states know."""
    rows = (effects.results, effects.events, effects.finishes, effects.changes, effects.reopens)
    return {row.execution for kind in rows for row in kind}


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
