"""Undoing what completed, when a run does not end well: one unit after the other, last first.

The phase has a deadline of its own (the workflow's timeout again). A cancel does not stop it; its
deadline does, and what is not undone by then is reported.
"""

import orjson

from bend_server.core import limits
from bend_server.core.effects import BlobWait, Effects, Timer, TimerKind
from bend_server.core.failures import expression_failure
from bend_server.core.model import (
    ITEM_NONE,
    EventKind,
    ExecutionStatus,
    Failure,
    Reopen,
    TaskStatus,
)
from bend_server.core.opening import open_unit
from bend_server.core.plan import ExpressionError, NeedsBlob
from bend_server.core.rows import write_decision, write_event, write_finish
from bend_server.core.scope import unit_scope
from bend_server.core.state import Control, ExecutionState, Unit

_PENDING = int(TaskStatus.PENDING)
_FAILURES = (int(TaskStatus.FAILED), int(TaskStatus.TIMED_OUT))
_DONE = (int(TaskStatus.COMPLETED), int(TaskStatus.SKIPPED))


def begin(state: ExecutionState, now_us: int, effects: Effects) -> None:
    """Write COMPENSATING and open the first compensation."""
    timeout_us = state.plan.timeout_us
    deadline_us = now_us + timeout_us if timeout_us else 0
    units = 0 if state.control is None else len(state.control.undo)
    body = orjson.dumps({"deadline_us": deadline_us, "units": units})
    write_event(state, EventKind.COMPENSATING, body, now_us, effects)
    effects.reopen(Reopen(state.start.id, state.run, deadline_us))
    if deadline_us:
        effects.timers.append(
            Timer(deadline_us, state.start.id, TimerKind.EXECUTION, -1, ITEM_NONE, 0)
        )
    go_on(state, now_us, effects)


def undoer(state: ExecutionState, unit: Unit) -> Unit:
    """Return the compensation's unit that undoes a unit."""
    task, item = unit
    by = state.plan.tasks[task].compensated_by
    return (-1 if by is None else by), item


def go_on(state: ExecutionState, now_us: int, effects: Effects) -> None:
    """Open the next compensation unless one is under way; after the last one, finish."""
    control = state.control
    while control is not None:
        unit = state.undoing()
        if unit is None:
            break
        task, item = undoer(state, unit)
        units, index = state.unit(task, item)
        if units.statuses[index] != _PENDING:
            return
        if control.undo_over:
            break
        try:
            condition = state.plan.tasks[task].condition
            if condition is None or condition(unit_scope(state, task, item)):
                open_unit(state, task, item, now_us, effects)
                return
            write_decision(state, task, TaskStatus.SKIPPED, None, now_us, effects, item=item)
        except NeedsBlob as need:
            effects.blobs.append(BlobWait(state, task, need.task, need.key, need.item, item))
            return
        except ExpressionError as error:
            failure = expression_failure(error)
            write_decision(state, task, TaskStatus.FAILED, failure, now_us, effects, item=item)
    _finish(state, now_us, effects)


def _finish(state: ExecutionState, now_us: int, effects: Effects) -> None:
    left = [] if state.control is None else _not_undone(state, state.control)
    if not left:
        write_finish(state, state.ending, None, state.error, now_us, effects)
        return
    tasks = state.plan.tasks
    details: dict[str, object] = {
        "not_undone": [
            {"task": tasks[task].id}
            if item == ITEM_NONE
            else {"task": tasks[task].id, "item": item}
            for task, item in left[: limits.UNITS_NAMED_MAX]
        ],
        "count": len(left),
        "status": ExecutionStatus(state.ending).name,
    }
    if state.error is not None:
        details["error"] = orjson.Fragment(state.error.to_json())
    failure = Failure(
        "COMPENSATION_FAILED",
        f"{len(left)} completed steps could not be undone, the first is {tasks[left[0][0]].id}",
        details=orjson.dumps(details),
        task=tasks[left[0][0]].id,
    )
    write_finish(state, ExecutionStatus.FAILED, None, failure, now_us, effects)


def _not_undone(state: ExecutionState, control: Control) -> list[Unit]:
    """Return the completed units that stay as they are, in the order of the attempts."""
    left: list[Unit] = []
    for _, task, item in reversed(control.undo):
        by, _ = undoer(state, (task, item))
        status = state.unit_status(by, item)
        allowed = status in _FAILURES and state.plan.tasks[by].allow_failure
        if status not in _DONE and not allowed:
            left.append((task, item))
    return left
