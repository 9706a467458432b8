"""Failure semantics: what a task's final failure does to its execution."""

import orjson

from bend_server.core import limits
from bend_server.core.effects import Effects
from bend_server.core.model import EventKind, ExecutionStatus, Failure, StatusChange, TaskStatus
from bend_server.core.rows import write_decision, write_event
from bend_server.core.state import ExecutionState
from bend_server.core.stops import stop_tasks

_FAILED = int(TaskStatus.FAILED)
_TIMED_OUT = int(TaskStatus.TIMED_OUT)

TASK_FAILED = "TASK_FAILED"
UNEXPLAINED = Failure("UNKNOWN", "the component gave no reason")
TIMEOUT = Failure("TIMEOUT", "the attempt ran past its timeout", retryable=True)
TOO_LONG = Failure(
    "HISTORY_TOO_LONG", f"the execution's history has {limits.HISTORY_ROWS_MAX} rows"
)


def failure_of(status: int, failure: Failure | None) -> Failure:
    """Return the failure of an outcome that is none of COMPLETED, never None."""
    if failure is not None:
        return failure
    return TIMEOUT if status == _TIMED_OUT else UNEXPLAINED


def expression_failure(error: Exception) -> Failure:
    """Return the failure of something that could not be evaluated."""
    return Failure("EXPRESSION_ERROR", str(error)[: limits.MESSAGE_CHARS_MAX])


def fails_execution(state: ExecutionState, task: int) -> bool:
    """Return whether a task's status fails its execution (it failed without allow_failure)."""
    status = state.statuses[task]
    return status in (_FAILED, _TIMED_OUT) and not state.plan.tasks[task].allow_failure


def fail(state: ExecutionState, task: int, now_us: int, effects: Effects) -> list[int]:
    """Let a task's failure take its course: the execution pauses (on_failure: pause), or fails.

    While it is paused, that waits for the end of the pause. Returns what became terminal.
    """
    if state.paused:
        return []
    if state.plan.pause_on_failure:
        write_pause(state, TASK_FAILED, "", task, now_us, effects)
        return []
    return begin_failing(state, task, now_us, effects)


def write_pause(
    state: ExecutionState, reason: str, actor: str, task: int, now_us: int, effects: Effects
) -> None:
    """Write PAUSED, with the units whose tries are open: a fold could not tell them otherwise."""
    body = orjson.dumps({"reason": reason, "open": list(state.opened())})
    write_event(state, EventKind.PAUSED, body, now_us, effects, actor=actor, task=task)
    effects.changes.append(StatusChange(state.start.id, ExecutionStatus.PAUSED, reason))


def begin_failing(state: ExecutionState, task: int, now_us: int, effects: Effects) -> list[int]:
    """Start the end of an execution: write FAILING and stop what can no longer run.

    Returns the tasks that became terminal. The first failure stays the execution's error.
    """
    error = None if state.errors is None else state.errors.get(task)
    failure = UNEXPLAINED if error is None else Failure.from_json(error)
    body = failure._replace(task=state.plan.tasks[task].id).to_json()
    write_event(state, EventKind.FAILING, body, now_us, effects, task=task)
    return stop_tasks(state, now_us, effects)


def fail_whole(state: ExecutionState, failure: Failure, now_us: int, effects: Effects) -> list[int]:
    """Fail an execution for what no single task is the cause of; see `begin_failing`."""
    write_event(state, EventKind.FAILING, failure.to_json(), now_us, effects)
    return stop_tasks(state, now_us, effects)


def fail_undone(
    state: ExecutionState,
    task: int,
    failure: Failure,
    ended: list[int],
    now_us: int,
    effects: Effects,
) -> None:
    """Fail a PENDING task that could not be judged; `ended` takes what became terminal."""
    write_decision(state, task, TaskStatus.FAILED, failure, now_us, effects)
    ended.append(task)
    if not state.ending and fails_execution(state, task):
        ended.extend(fail(state, task, now_us, effects))
