"""Recovery: the fold of stored rows, and what a recovered execution needs to go on."""

from collections.abc import Iterable, Sequence

from bend_server.core import compensation
from bend_server.core.effects import Effects, Timer, TimerKind
from bend_server.core.errors import CorruptHistory, InvariantBroken
from bend_server.core.evolve import evolve_finish, evolve_open, evolve_queued, evolve_result
from bend_server.core.evolve_events import evolve_event
from bend_server.core.failures import begin_failing, fail, fails_execution
from bend_server.core.fans import go_on
from bend_server.core.loops import decide
from bend_server.core.model import (
    ITEM_NONE,
    EventRow,
    ExecutionStatus,
    FinishRow,
    Phase,
    ResultRow,
    StartRow,
    TaskStatus,
)
from bend_server.core.opening import announce, open_unit, retry_timer, wake_timer
from bend_server.core.outcomes import follow
from bend_server.core.plan import Plan
from bend_server.core.readiness import judge, settle
from bend_server.core.retries import Jitter
from bend_server.core.state import ExecutionState, Unit
from bend_server.core.stops import ask_to_stop, grace_timer
from bend_server.core.waiting import take_payload, wait_due

_PENDING = int(TaskStatus.PENDING)
_RUNNING = int(TaskStatus.RUNNING)
_WAITING = int(TaskStatus.WAITING)
_COMPLETED = int(TaskStatus.COMPLETED)


def _seq(row: ResultRow | EventRow) -> int:
    return row.seq


def _check_task(row: ResultRow | EventRow, tasks: int) -> None:
    if not (0 <= row.task < tasks or (row.task == -1 and isinstance(row, EventRow))):
        raise InvariantBroken(f"row {row.seq} names task {row.task} of {tasks}")


def fold(
    plan: Plan,
    start: StartRow,
    results: Sequence[ResultRow],
    events: Sequence[EventRow],
    finish_row: FinishRow | None,
) -> ExecutionState:
    """Rebuild the state from stored rows of all runs, by the same code that wrote them.

    `start` may be the row as it was written, or with the run and the deadline of a later Reopen.
    Its status has to be PENDING for what waits for its turn now, and for nothing else.
    Raises CorruptHistory when rows contradict each other.
    """
    pending = start.status == ExecutionStatus.PENDING
    state = ExecutionState(
        plan, start, ExecutionStatus.PENDING if pending else ExecutionStatus.RUNNING
    )
    state.run = 1
    tasks = len(plan.tasks)
    rows: Iterable[ResultRow | EventRow] = results
    if events:  # most executions have none, and merging costs more than the fold itself
        rows = sorted([*results, *events], key=_seq)
    try:
        for row in rows:
            _check_task(row, tasks)
            if isinstance(row, EventRow):
                evolve_event(state, row)
            else:
                evolve_result(state, row)
        if finish_row is not None:
            evolve_finish(state, finish_row)
        elif pending:
            evolve_queued(state)
    except (InvariantBroken, ValueError, KeyError, IndexError, TypeError) as error:
        raise CorruptHistory(
            f"the rows of execution {start.public_id} contradict each other: {error}",
            execution=start.public_id,
        ) from error
    return state


def resume(state: ExecutionState, now_us: int, chance: Jitter, effects: Effects) -> None:
    """Bring a folded execution back to life; see `machine.resume`."""
    if state.terminal or state.quarantined or state.paused:
        return
    revive(state, now_us, chance, effects)


class _Later:
    """What writes rows of its own, left until every open try is known again."""

    __slots__ = ("doubts", "waits")

    def __init__(self) -> None:
        self.waits: list[Unit] = []
        self.doubts: list[Unit] = []


def revive(
    state: ExecutionState, now_us: int, chance: Jitter, effects: Effects, *, let_fail: bool = False
) -> None:
    """Make up for what a crash, a pause or a new run left open. Not for a paused execution.

    Args:
        let_fail: a failed task fails the execution even with `on_failure: pause`.
    """
    if state.deadline_us:
        effects.timers.append(
            Timer(state.deadline_us, state.start.id, TimerKind.EXECUTION, -1, ITEM_NONE, 0)
        )
    ended: list[int] = []
    if not state.ending:
        for task in range(state.taking_part):
            if fails_execution(state, task):
                course = begin_failing if let_fail else fail
                ended += course(state, task, now_us, effects)
                break
    later = _Later()
    if state.phase == Phase.COMPENSATION:
        _revive_compensation(state, later, now_us, effects)
    else:
        _revive_tasks(state, later, ended, now_us, effects)
    settle(state, ended, now_us, effects)
    for task, item in later.waits:
        waiting = state.waiting(task, item)
        if waiting is not None and not take_payload(state, task, item, now_us, chance, effects):
            wait_due(state, task, item, waiting.try_, now_us, chance, effects)
    for task, item in later.doubts:
        decide_doubt(state, task, item, None, now_us, effects)


def decide_doubt(
    state: ExecutionState, task: int, item: int, lost: str | None, now_us: int, effects: Effects
) -> bool:
    """Decide about a loop in doubt and follow what comes of it; False: it is not in doubt."""
    units, index = state.unit(task, item)
    if not units.in_doubt(index) or state.paused:
        return False
    fan = state.fan(task)
    first = 0 if fan is None else fan.next
    if decide(state, task, item, lost, now_us, effects):
        follow(state, task, item, first, now_us, effects)
    return True


def _revive_tasks(
    state: ExecutionState, later: _Later, ended: list[int], now_us: int, effects: Effects
) -> None:
    stopping = False
    for task in range(state.taking_part):
        status = state.statuses[task]
        if status >= _COMPLETED:
            continue
        if state.paused:
            return
        fan = state.fan(task)
        if fan is not None and status == _RUNNING:
            for item in range(fan.next):
                if fan.statuses[item] < _COMPLETED:
                    stopping |= _revive_unit(state, task, item, later, now_us, effects)
            if not fan.active:
                go_on(state, task, fan.next, ended, now_us, effects)
        elif status == _PENDING and not state.stopping(task):
            if not state.remaining[task]:
                judge(state, task, ended, now_us, effects)
        else:
            stopping |= _revive_unit(state, task, ITEM_NONE, later, now_us, effects)
    if stopping:
        effects.timers.append(grace_timer(state))


def _revive_compensation(
    state: ExecutionState, later: _Later, now_us: int, effects: Effects
) -> None:
    unit = state.undoing()
    if unit is None:
        return
    task, item = compensation.undoer(state, unit)
    units, index = state.unit(task, item)
    if units.statuses[index] == _PENDING and not state.stopping(task):
        return  # `settle` leads to `compensation.go_on`
    if _revive_unit(state, task, item, later, now_us, effects):
        effects.timers.append(grace_timer(state))


def _revive_unit(
    state: ExecutionState, task: int, item: int, later: _Later, now_us: int, effects: Effects
) -> bool:
    """Bring one unit that had its turn back; return whether it is asked to stop."""
    units, index = state.unit(task, item)
    status = units.statuses[index]
    if state.stopping(task):
        # Whatever had no open try got its CANCELLED row with the ending.
        if not state.open_try(task, item):
            evolve_open(state, task, item)
        ask_to_stop(state, task, item, effects)
        return True
    waiting = state.waiting(task, item)
    if waiting is not None:
        if waiting.payload is not None or 0 < waiting.due_us <= now_us:
            later.waits.append((task, item))
        elif waiting.due_us:
            effects.timers.append(wake_timer(state, task, item, waiting.due_us))
    elif units.in_doubt(index):
        later.doubts.append((task, item))
    elif status == _WAITING:
        due_us = (units.due or {})[index]
        if due_us <= now_us:
            open_unit(state, task, item, now_us, effects)
        else:
            effects.timers.append(retry_timer(state, task, item, due_us))
    elif status == _PENDING:
        open_unit(state, task, item, now_us, effects)
    else:
        announce(state, task, item, effects)
    return False
