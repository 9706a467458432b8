"""Recovery: the fold of stored rows, and what a recovered execution needs to go on."""

from collections.abc import Iterable, Sequence

from bend_server.core.effects import Effects, Ready, Timer, TimerKind
from bend_server.core.endings import finish
from bend_server.core.errors import CorruptHistory, InvariantBroken
from bend_server.core.evolve import evolve_event, evolve_finish, evolve_open, evolve_result
from bend_server.core.failures import begin_failing, fails_execution
from bend_server.core.model import (
    ITEM_NONE,
    EventRow,
    ExecutionStatus,
    FinishRow,
    ResultRow,
    StartRow,
    TaskStatus,
)
from bend_server.core.plan import Plan
from bend_server.core.readiness import judge, open_task, settle
from bend_server.core.state import ExecutionState
from bend_server.core.stops import ask_to_stop, grace_timer

_PENDING = int(TaskStatus.PENDING)
_WAITING = int(TaskStatus.WAITING)
_COMPLETED = int(TaskStatus.COMPLETED)


def _seq(row: ResultRow | EventRow) -> int:
    return row.seq


def _check_task(row: ResultRow, tasks: int) -> None:
    if not 0 <= row.task < tasks:
        raise InvariantBroken(f"row {row.seq} names task {row.task} of {tasks}")


def fold(
    plan: Plan,
    start: StartRow,
    results: Sequence[ResultRow],
    events: Sequence[EventRow],
    finish_row: FinishRow | None,
) -> ExecutionState:
    """Rebuild the state from stored rows; see `machine.fold`."""
    pending = start.status == ExecutionStatus.PENDING
    state = ExecutionState(
        plan, start, ExecutionStatus.PENDING if pending else ExecutionStatus.RUNNING
    )
    tasks = len(plan.tasks)
    rows: Iterable[ResultRow | EventRow] = results
    if events:  # most executions have none, and merging costs more than the fold itself
        rows = sorted([*results, *events], key=_seq)
    try:
        for row in rows:
            if isinstance(row, EventRow):
                evolve_event(state, row)
            else:
                _check_task(row, tasks)
                evolve_result(state, row)
        if finish_row is not None:
            evolve_finish(state, finish_row)
    except (InvariantBroken, ValueError, KeyError) as error:
        raise CorruptHistory(
            f"the rows of execution {start.public_id} contradict each other: {error}",
            execution=start.public_id,
        ) from error
    return state


def resume(state: ExecutionState, now_us: int, effects: Effects) -> None:
    """Bring a folded execution back to life; see `machine.resume`."""
    if state.terminal or state.quarantined:
        return
    start = state.start
    if start.deadline_us:
        effects.timers.append(
            Timer(start.deadline_us, start.id, TimerKind.EXECUTION, -1, ITEM_NONE, 0)
        )
    ended: list[int] = []
    if not state.ending:
        for task in range(len(state.statuses)):
            if fails_execution(state, task):
                ended += begin_failing(state, task, now_us, effects)
                break
    stopping = False
    for task, status in enumerate(state.statuses):
        if status >= _COMPLETED:
            continue
        if state.stopping(task):
            _resume_stopping(state, task, effects)
            stopping = True
        else:
            _resume_task(state, task, ended, now_us, effects)
    if stopping:
        effects.timers.append(grace_timer(state))
    if ended:
        settle(state, ended, now_us, effects)
    elif not state.unfinished:
        finish(state, now_us, effects)


def _resume_stopping(state: ExecutionState, task: int, effects: Effects) -> None:
    """Ask again for a stop. Whatever had no open try got its CANCELLED row with the ending."""
    if not state.open_try(task):
        evolve_open(state, task)
    ask_to_stop(state, task, effects)


def _resume_task(
    state: ExecutionState, task: int, ended: list[int], now_us: int, effects: Effects
) -> None:
    status = state.statuses[task]
    if status == _PENDING:
        if not state.remaining[task]:
            judge(state, task, ended, now_us, effects)
    elif status == _WAITING:
        due_us = (state.due or {})[task]
        if due_us <= now_us:
            open_task(state, task, effects)
        else:
            effects.timers.append(retry_timer(state, task, due_us))
    else:
        effects.ready.append(
            Ready(state, task, ITEM_NONE, state.tries[task], state.attempt(task), 0)
        )


def retry_timer(state: ExecutionState, task: int, due_us: int) -> Timer:
    """Return the timer that opens a waiting task's next try."""
    return Timer(due_us, state.start.id, TimerKind.RETRY, task, ITEM_NONE, state.tries[task])
