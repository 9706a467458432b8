"""A new run (retry, reset) into state: what is done again, and what is kept.

`retry` does again what FAILED, TIMED_OUT (unless allowed) or was CANCELLED, and everything after
it; `reset` does so too, and for one task more, whatever its status. What was the cause keeps its
completed items, rounds and its child; what comes after begins anew.
"""

import orjson

from bend_server.core.errors import InvariantBroken
from bend_server.core.evolve import next_seq, refill
from bend_server.core.model import EventKind, EventRow, ExecutionStatus, Phase, TaskStatus
from bend_server.core.state import ExecutionState

_CANCELLED = int(TaskStatus.CANCELLED)
_COMPLETED = int(TaskStatus.COMPLETED)
_FAILURES = (int(TaskStatus.FAILED), int(TaskStatus.TIMED_OUT))


def evolve_new_run(state: ExecutionState, row: EventRow) -> None:
    """Take in RETRIED or RESET."""
    body = orjson.loads(row.body)
    if body["finish_seq"] == state.seq + 1:
        state.seq += 1  # the finish row of the run before, which is not stored any more
    next_seq(state, row.seq)
    if row.run != state.run + 1:
        raise InvariantBroken(
            f"run {row.run} of execution {state.start.id} follows run {state.run}",
            execution=state.start.id,
            run=row.run,
            after=state.run,
        )
    state.run = row.run
    state.status = ExecutionStatus.RUNNING
    state.deadline_us = body["deadline_us"]
    state.ending = state.grace_us = 0
    state.error = None
    state.result = None
    _forget_on_failure(state)
    causes = _causes(state)
    resets = [row.task] if row.kind == EventKind.RESET else []
    fresh = _after(state, causes, resets)
    for task in causes:
        if task not in fresh:
            _again(state, task, fresh=False)
    for task in fresh:
        _again(state, task, fresh=True)
    _count(state, {*causes, *fresh})
    if state.control is not None:
        undo, children = state.control.undo, state.control.children
        undo[:] = [entry for entry in undo if entry[1] not in fresh]
        for key in [key for key in children if key[0] in fresh]:
            del children[key]
    for task, fan in (state.fans or {}).items():
        refill(state, task, fan)


def _causes(state: ExecutionState) -> list[int]:
    """Return the main tasks that did not do what they should have."""
    tasks = state.plan.tasks
    causes: list[int] = []
    for task in range(state.taking_part):
        status = state.statuses[task]
        failed = status in _FAILURES and not tasks[task].allow_failure
        if failed or status == _CANCELLED:
            causes.append(task)
    return causes


def _after(state: ExecutionState, causes: list[int], resets: list[int]) -> dict[int, None]:
    """Return the tasks to reset and all that depend on them or on a cause, each once."""
    tasks = state.plan.tasks
    fresh: dict[int, None] = dict.fromkeys(resets)
    ahead = [*causes, *resets]
    while ahead:
        for successor in tasks[ahead.pop()].successors:
            if successor not in fresh:
                fresh[successor] = None
                ahead.append(successor)
    return fresh


def _again(state: ExecutionState, task: int, *, fresh: bool) -> None:
    """Make a task PENDING again, with its items and children."""
    state.again(task, fresh=fresh)
    fan = state.fan(task)
    if fan is not None:
        if fresh:
            fan.forget()
        elif fan.count >= 0:
            fan.do_again()


def _forget_on_failure(state: ExecutionState) -> None:
    """Take the turn of the ON_FAILURE tasks back: the new run may fail again."""
    if state.phase != Phase.ON_FAILURE:
        return
    main = state.plan.main_count
    for task in range(main, state.taking_part):
        _again(state, task, fresh=True)
        state.remaining[task] = state.plan.dependency_counts[task]
    control = state.control
    if control is not None:
        control.undo[:] = [entry for entry in control.undo if entry[1] < main]
        for key in [key for key in control.children if key[0] >= main]:
            del control.children[key]
    state.taking_part = main
    state.phase = int(Phase.MAIN)


def _count(state: ExecutionState, again: set[int]) -> None:
    """Count anew what is left to do and what the tasks to do again wait for."""
    statuses = state.statuses
    tasks = state.plan.tasks
    for task in again:
        state.remaining[task] = sum(
            statuses[dependency] < _COMPLETED for dependency in tasks[task].dependencies
        )
    state.unfinished = sum(status < _COMPLETED for status in statuses[: state.taking_part])
