"""Sub-workflows: a unit of kind WORKFLOW and the child execution that serves it.

The child's end comes through `apply`, with an Outcome of the engine's: COMPLETED with the child's
output, else FAILED with CHILD_FAILED, CHILD_CANCELLED or CHILD_TIMED_OUT.
"""

import orjson

from bend_server.core.effects import Effects
from bend_server.core.model import EventKind, TaskKind
from bend_server.core.readiness import settle
from bend_server.core.retries import Jitter
from bend_server.core.rows import write_event
from bend_server.core.state import ExecutionState
from bend_server.core.waiting import may_begin


def begin_child(
    state: ExecutionState,
    task: int,
    item: int,
    try_: int,
    child: int,
    public_id: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> bool:
    """Note that a child serves an open try of kind WORKFLOW; commit its start row with the event.

    A second call with another child replaces the first (one that may not be retried). False: the
    try is not open or is to stop, the child is known already, or the execution is paused or
    quarantined: the child must not be started.
    """
    if not may_begin(state, task, item, try_) or state.plan.tasks[task].kind != TaskKind.WORKFLOW:
        return False
    known = state.child(task, item)
    if known is not None and known.id == child:
        return False
    body = orjson.dumps({"child": child, "public_id": public_id, "try": try_, "run": 1})
    write_event(state, EventKind.CHILD_STARTED, body, now_us, effects, task=task, item=item)
    settle(state, [], now_us, effects)
    return True
