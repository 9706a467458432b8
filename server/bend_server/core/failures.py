"""Failure semantics: what a task's final failure does to its execution."""

from bend_server.core.effects import Effects
from bend_server.core.model import EventKind, Failure, TaskStatus
from bend_server.core.rows import write_event
from bend_server.core.state import ExecutionState
from bend_server.core.stops import stop_tasks

_FAILED = int(TaskStatus.FAILED)
_TIMED_OUT = int(TaskStatus.TIMED_OUT)

UNEXPLAINED = Failure("UNKNOWN", "the component gave no reason")
TIMEOUT = Failure("TIMEOUT", "the attempt ran past its timeout", retryable=True)


def failure_of(status: int, failure: Failure | None) -> Failure:
    """Return the failure of an outcome that is none of COMPLETED, never None."""
    if failure is not None:
        return failure
    return TIMEOUT if status == _TIMED_OUT else UNEXPLAINED


def fails_execution(state: ExecutionState, task: int) -> bool:
    """Return whether a task's status fails its execution (it failed without allow_failure)."""
    status = state.statuses[task]
    return status in (_FAILED, _TIMED_OUT) and not state.plan.tasks[task].allow_failure


def begin_failing(state: ExecutionState, task: int, now_us: int, effects: Effects) -> list[int]:
    """Start the end of an execution: write FAILING and stop what can no longer run.

    Returns the tasks that became terminal. The first failure stays the execution's error.
    """
    error = None if state.errors is None else state.errors.get(task)
    failure = UNEXPLAINED if error is None else Failure.from_json(error)
    body = failure._replace(task=state.plan.tasks[task].id).to_json()
    write_event(state, EventKind.FAILING, body, now_us, effects, task=task)
    return stop_tasks(state, now_us, effects)
