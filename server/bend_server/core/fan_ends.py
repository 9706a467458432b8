"""The end of a task with `for_each`: what its items make of it."""

import orjson

from bend_server.core import limits
from bend_server.core.effects import Effects
from bend_server.core.model import Failure, TaskStatus
from bend_server.core.rows import write_decision
from bend_server.core.state import ExecutionState
from bend_server.core.units import Fan

_FAILURES = (int(TaskStatus.FAILED), int(TaskStatus.TIMED_OUT))
_CANCELLED = int(TaskStatus.CANCELLED)


def end_fan(
    state: ExecutionState,
    task: int,
    fan: Fan,
    cause: Failure | None,
    now_us: int,
    effects: Effects,
) -> None:
    """Write the row of a task none of whose items is open or will be.

    FAILED when an item failed (unless allowed), CANCELLED when items were cancelled or had no
    turn, COMPLETED otherwise.

    Args:
        cause: why items were cancelled; None when none was.
    """
    if fan.failed and not state.plan.tasks[task].allow_failure:
        failure = _items_failed(fan)
        write_decision(state, task, TaskStatus.FAILED, failure, now_us, effects)
    elif fan.left or fan.statuses.find(_CANCELLED, 0, fan.count) >= 0:
        write_decision(state, task, TaskStatus.CANCELLED, cause, now_us, effects)
    else:
        write_decision(state, task, TaskStatus.COMPLETED, None, now_us, effects)


def _items_failed(fan: Fan) -> Failure:
    """Return the failure of a task: which items failed, and the first one's reason."""
    failed: list[int] = []
    for item in range(fan.count):
        if fan.statuses[item] in _FAILURES:
            failed.append(item)
            if len(failed) == limits.UNITS_NAMED_MAX:
                break
    first = (fan.errors or {}).get(failed[0])
    reason = "" if first is None else f", item {failed[0]}: {Failure.from_json(first).reason}"
    return Failure(
        "ITEMS_FAILED",
        f"{fan.failed} of {fan.count} items failed{reason}",
        details=orjson.dumps({"failed": failed, "count": fan.failed}),
    )
