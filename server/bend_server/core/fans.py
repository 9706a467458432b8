"""Tasks with `for_each`: their items, in a window of `max_parallel`."""

import orjson

from bend_server.core import limits
from bend_server.core.effects import Effects
from bend_server.core.failures import fail, fail_undone, fails_execution
from bend_server.core.fan_ends import end_fan
from bend_server.core.model import EventKind, Failure, TaskStatus
from bend_server.core.opening import open_unit
from bend_server.core.rows import write_event
from bend_server.core.scope import ExecutionScope
from bend_server.core.state import ExecutionState
from bend_server.core.stops import cause_of

_PENDING = int(TaskStatus.PENDING)


def begin_items(
    state: ExecutionState, task: int, ended: list[int], now_us: int, effects: Effects
) -> None:
    """Make the list of a task's items, write how many there are, and open the first ones.

    Items that a new run keeps are not made again. Raises NeedsBlob and ExpressionError.

    Args:
        ended: takes the task when there is nothing to run.
    """
    fan = state.fan(task)
    items = None
    if fan is not None and fan.count >= 0:
        body = orjson.dumps({"count": fan.count})
    else:
        for_each = state.plan.tasks[task].for_each
        items = [] if for_each is None else for_each(ExecutionScope(state))
        if len(items) > limits.ITEMS_MAX:
            failure = Failure(
                "TOO_MANY_ITEMS", f"for_each gives {len(items)} items, at most {limits.ITEMS_MAX}"
            )
            fail_undone(state, task, failure, ended, now_us, effects)
            return
        body = _counted(items)
    write_event(state, EventKind.ITEMS_COUNTED, body, now_us, effects, task=task)
    fan = state.fan(task)
    if fan is not None and items is not None:
        fan.items = items
    go_on(state, task, 0, ended, now_us, effects)


def _counted(items: list[bytes]) -> bytes:
    """Return the body of ITEMS_COUNTED: with the items' JSON as texts, unless they are large."""
    if sum(map(len, items)) > limits.INLINE_BYTES_MAX:
        return orjson.dumps({"count": len(items)})
    return orjson.dumps({"count": len(items), "items": [item.decode() for item in items]})


def go_on(
    state: ExecutionState, task: int, first: int, ended: list[int], now_us: int, effects: Effects
) -> None:
    """Open the items that were admitted since `first`, or end the task when nothing is left."""
    fan = state.fan(task)
    if fan is None or state.paused:
        return
    if fan.done or (not fan.active and state.stopping(task)):
        cause = cause_of(state) if state.ending else None
        end_fan(state, task, fan, cause, now_us, effects)
        ended.append(task)
        if not state.ending and fails_execution(state, task):
            ended.extend(fail(state, task, now_us, effects))
        return
    for item in range(first, fan.next):
        if fan.statuses[item] == _PENDING:
            open_unit(state, task, item, now_us, effects)
