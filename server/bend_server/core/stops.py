"""Stopping what may not run any more, when an execution fails, is cancelled or times out."""

from bend_server.core.effects import Cancel, ChildWish, Effects, Timer, TimerKind
from bend_server.core.fan_ends import end_fan
from bend_server.core.model import (
    ITEM_NONE,
    ApprovalEnd,
    Failure,
    Phase,
    TaskKind,
    TaskStatus,
)
from bend_server.core.rows import write_decision
from bend_server.core.state import ExecutionState
from bend_server.core.units import Fan

_PENDING = int(TaskStatus.PENDING)
_WAITING = int(TaskStatus.WAITING)
_RUNNING = int(TaskStatus.RUNNING)
_COMPLETED = int(TaskStatus.COMPLETED)
_COMPONENT = int(TaskKind.COMPONENT)

APPROVED, REJECTED, CLOSED = 2, 3, 4

CAUSE = {
    5: Failure("EXECUTION_FAILED", "the execution failed before the task could finish"),
    6: Failure("CANCELLED", "the execution was cancelled"),
    7: Failure("TIMEOUT", "the execution ran past its timeout"),
}


def cause_of(state: ExecutionState) -> Failure:
    """Return why a unit is cancelled now."""
    return CAUSE[7 if state.phase == Phase.COMPENSATION else state.ending]


def stop_tasks(state: ExecutionState, now_us: int, effects: Effects) -> list[int]:
    """Cancel every task that may not run any more and has no open try; ask open tries to stop.

    Returns the tasks that became terminal. The open ones keep their try until an outcome comes or
    the grace is over. Items that had no turn yet get no row.
    """
    stopped: list[int] = []
    open_tries = False
    for task in range(state.taking_part):
        status = state.statuses[task]
        if status >= _COMPLETED or not state.stopping(task):
            continue
        fan = state.fan(task)
        if fan is not None and status == _RUNNING:
            done = _stop_fan(state, task, fan, now_us, effects)
        else:
            done = stop_unit(state, task, ITEM_NONE, now_us, effects)
        if done:
            stopped.append(task)
        else:
            open_tries = True
    if open_tries:
        effects.timers.append(grace_timer(state))
    return stopped


def _stop_fan(state: ExecutionState, task: int, fan: Fan, now_us: int, effects: Effects) -> bool:
    """Stop the open items of a task; return whether the task ended with them."""
    for item in range(fan.next):
        if fan.statuses[item] < _COMPLETED:
            stop_unit(state, task, item, now_us, effects)
    if fan.active:
        return False
    end_fan(state, task, fan, cause_of(state), now_us, effects)
    return True


def stop_unit(state: ExecutionState, task: int, item: int, now_us: int, effects: Effects) -> bool:
    """Cancel a unit, or ask it to stop if somebody works for it; return whether it ended."""
    units, index = state.unit(task, item)
    if units.statuses[index] not in (_PENDING, _WAITING) and (
        state.plan.tasks[task].kind == _COMPONENT or state.child(task, item) is not None
    ):
        ask_to_stop(state, task, item, effects)
        return False
    give_up(state, task, item, now_us, effects)
    return True


def give_up(state: ExecutionState, task: int, item: int, now_us: int, effects: Effects) -> None:
    """Write CANCELLED for a unit, whatever it does."""
    close_approval(state, task, item, CLOSED, "", "", now_us, effects)
    write_decision(state, task, TaskStatus.CANCELLED, cause_of(state), now_us, effects, item=item)


def ask_to_stop(state: ExecutionState, task: int, item: int, effects: Effects) -> None:
    """Add the cancel of a unit's open try, or of its child, to the effects."""
    units, index = state.unit(task, item)
    try_ = units.tries[index]
    child = state.child(task, item)
    if child is None:
        effects.cancels.append(Cancel(state.start.id, task, item, try_))
        return
    reason = "its parent ended" if state.error is None else state.error.message
    effects.children.append(
        ChildWish("cancel", child.id, state.start.id, task, item, try_, reason, "")
    )


def close_approval(
    state: ExecutionState,
    task: int,
    item: int,
    status: int,
    by: str,
    comment: str,
    now_us: int,
    effects: Effects,
) -> None:
    """End a unit's pending approval, if it has one."""
    waiting = state.waiting(task, item)
    if waiting is not None and waiting.kind == TaskKind.APPROVAL:
        effects.approval_ends.append(
            ApprovalEnd(state.start.id, task, item, waiting.try_, status, by, now_us, comment)
        )


def grace_timer(state: ExecutionState) -> Timer:
    """Return the timer of the end of the grace."""
    return Timer(state.grace_us, state.start.id, TimerKind.GRACE, -1, ITEM_NONE, 0)
