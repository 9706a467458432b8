"""Rows that the machine writes: made, evolved into the state, and added to the effects, at once."""

from bend_server.core.effects import Effects
from bend_server.core.evolve import evolve_finish, evolve_result
from bend_server.core.evolve_events import evolve_event
from bend_server.core.model import (
    ITEM_NONE,
    EventKind,
    EventRow,
    Failure,
    FinishRow,
    Outcome,
    ResultRow,
    TaskStatus,
)
from bend_server.core.state import ExecutionState

_RUNNING = int(TaskStatus.RUNNING)

_new = tuple.__new__  # half the cost of calling the NamedTuple class


def write_outcome(
    state: ExecutionState,
    outcome: Outcome,
    status: int,
    failure: Failure | None,
    retry_at_us: int | None,
    effects: Effects,
) -> None:
    """Write the row of the open try that came to its end."""
    task = outcome.task
    item = outcome.item
    iteration = 0
    if not state.plan.plain:
        attempt, iteration = state.attempt(task, item), state.iteration(task, item)
    elif state.attempts is None and state.bases is None:
        attempt = outcome.try_  # `unit_attempt`, without the cost of a call
    else:
        attempt = state.unit_attempt(task)
    row: ResultRow = _new(
        ResultRow,
        (
            state.start.id,
            state.seq + 1,
            state.run,
            task,
            item,
            outcome.try_,
            iteration,
            attempt,
            status,
            outcome.output if failure is None else None,
            outcome.blob if failure is None else None,
            None if failure is None else failure.to_json(),
            retry_at_us,
            outcome.worker,
            outcome.run_id,
            outcome.chunks,
            outcome.started_us,
            outcome.finished_us,
        ),
    )
    evolve_result(state, row)
    effects.results.append(row)


def write_decision(
    state: ExecutionState,
    task: int,
    status: int,
    failure: Failure | None,
    now_us: int,
    effects: Effects,
    *,
    item: int = ITEM_NONE,
) -> None:
    """Write a skip, a cancel, a failed condition, or the end of a task with items.

    A unit without an open try takes its next try, with the attempts made so far (0: never ran).
    An open try is closed by the row. A task whose items were counted has its try since then.
    """
    units, index = state.unit(task, item)
    fans = state.fans
    counted = item == ITEM_NONE and units.statuses[index] == _RUNNING and task in (fans or ())
    try_ = units.tries[index] if counted else state.open_try(task, item)
    row = ResultRow(
        execution=state.start.id,
        seq=state.seq + 1,
        run=state.run,
        task=task,
        item=item,
        try_=try_ or units.tries[index] + 1,
        iteration=units.unit_iteration(index),
        attempt=units.unit_attempt(index),
        status=status,
        output=None,
        blob=None,
        error=None if failure is None else failure.to_json(),
        retry_at_us=None,
        worker="",
        run_id=0,
        chunks=0,
        started_us=units.times[2 * index] if counted and units.times is not None else 0,
        finished_us=now_us,
    )
    evolve_result(state, row)
    effects.results.append(row)


def write_event(
    state: ExecutionState,
    kind: EventKind,
    body: bytes,
    now_us: int,
    effects: Effects,
    *,
    actor: str = "",
    task: int = -1,
    item: int = ITEM_NONE,
    run: int = 0,
) -> None:
    """Write an event of the execution; `task` -1 when it concerns no single task.

    `run` is given by the events that open a new one.
    """
    row = EventRow(
        execution=state.start.id,
        seq=state.seq + 1,
        run=run or state.run,
        kind=kind,
        task=task,
        item=item,
        actor=actor,
        body=body,
        at_us=now_us,
    )
    evolve_event(state, row)
    effects.events.append(row)


def write_finish(
    state: ExecutionState,
    status: int,
    output: bytes | None,
    error: Failure | None,
    now_us: int,
    effects: Effects,
) -> None:
    """Write the end of the run. An output of any size is given as bytes.

    The engine moves one over limits.INLINE_BYTES_MAX to the blob store before it commits.
    """
    row: FinishRow = _new(
        FinishRow,
        (
            state.start.id,
            state.run,
            state.seq + 1,
            status,
            output,
            None,
            None if error is None else error.to_json(),
            now_us,
        ),
    )
    evolve_finish(state, row)
    effects.finishes.append(row)
