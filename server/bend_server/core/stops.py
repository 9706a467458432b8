"""Stopping what may not run any more, when an execution fails, is cancelled or times out."""

from bend_server.core.effects import Cancel, Effects, Timer, TimerKind
from bend_server.core.model import ITEM_NONE, Failure, TaskStatus
from bend_server.core.rows import write_decision
from bend_server.core.state import ExecutionState

_PENDING = int(TaskStatus.PENDING)
_WAITING = int(TaskStatus.WAITING)

CAUSE = {
    5: Failure("EXECUTION_FAILED", "the execution failed before the task could finish"),
    6: Failure("CANCELLED", "the execution was cancelled"),
    7: Failure("TIMEOUT", "the execution ran past its timeout"),
}


def stop_tasks(state: ExecutionState, now_us: int, effects: Effects) -> list[int]:
    """Cancel every task that may not run any more and has no open try; ask open tries to stop.

    Returns the tasks that became terminal. The open ones keep their try until an outcome comes or
    the grace is over.
    """
    cause = CAUSE[state.ending]
    stopped: list[int] = []
    open_tries = False
    for task, status in enumerate(state.statuses):
        if status >= TaskStatus.COMPLETED or not state.stopping(task):
            continue
        if status in (_PENDING, _WAITING):
            write_decision(state, task, TaskStatus.CANCELLED, cause, now_us, effects)
            stopped.append(task)
        else:
            ask_to_stop(state, task, effects)
            open_tries = True
    if open_tries:
        effects.timers.append(grace_timer(state))
    return stopped


def ask_to_stop(state: ExecutionState, task: int, effects: Effects) -> None:
    """Add the cancel of a task's open try to the effects."""
    effects.cancels.append(Cancel(state.start.id, task, ITEM_NONE, state.tries[task]))


def grace_timer(state: ExecutionState) -> Timer:
    """Return the timer of the end of the grace."""
    return Timer(state.grace_us, state.start.id, TimerKind.GRACE, -1, ITEM_NONE, 0)
