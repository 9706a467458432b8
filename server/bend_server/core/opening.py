"""Opening tries: what a unit needs to run now."""

import orjson

from bend_server.core.effects import ChildWish, Effects, Ready, Timer, TimerKind
from bend_server.core.evolve import evolve_open
from bend_server.core.model import ITEM_NONE, EventKind
from bend_server.core.rows import write_event
from bend_server.core.state import ExecutionState

_new = tuple.__new__


def open_unit(state: ExecutionState, task: int, item: int, now_us: int, effects: Effects) -> None:
    """Open a unit's next try and announce it as ready.

    A unit whose child failed in the run before asks that child to retry instead.
    """
    try_ = evolve_open(state, task, item)
    if state.plan.plain:
        first = state.attempts is None and state.bases is None
        attempt = try_ if first else state.unit_attempt(task)
        ready: Ready = _new(Ready, (state, task, ITEM_NONE, try_, attempt, 0))
        effects.ready.append(ready)
        return
    child = state.child(task, item)
    if child is not None:
        body = orjson.dumps(
            {"child": child.id, "public_id": child.public_id, "try": try_, "run": child.run + 1}
        )
        write_event(state, EventKind.CHILD_STARTED, body, now_us, effects, task=task, item=item)
        wish_retry(state, task, item, effects)
        return
    announce(state, task, item, effects)


def announce(state: ExecutionState, task: int, item: int, effects: Effects) -> None:
    """Add an open try to the effects: the engine dispatches it after the commit."""
    units, index = state.unit(task, item)
    attempt, iteration = units.unit_attempt(index), units.unit_iteration(index)
    effects.ready.append(Ready(state, task, item, units.tries[index], attempt, iteration))


def wish_retry(state: ExecutionState, task: int, item: int, effects: Effects) -> None:
    """Ask the engine to retry the child that serves an open try."""
    child = state.child(task, item)
    if child is not None:
        effects.children.append(
            ChildWish("retry", child.id, state.start.id, task, item, child.try_, "", "")
        )


def retry_timer(state: ExecutionState, task: int, item: int, due_us: int) -> Timer:
    """Return the timer that opens a unit's next try."""
    units, index = state.unit(task, item)
    return Timer(due_us, state.start.id, TimerKind.RETRY, task, item, units.tries[index])


def wake_timer(state: ExecutionState, task: int, item: int, due_us: int) -> Timer:
    """Return the timer that ends a unit's wait."""
    units, index = state.unit(task, item)
    return Timer(due_us, state.start.id, TimerKind.WAKE, task, item, units.tries[index])
