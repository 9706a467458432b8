"""Rows that the machine writes: made, evolved into the state, and added to the effects, at once."""

from bend_server.core.effects import Effects
from bend_server.core.evolve import evolve_event, evolve_finish, evolve_result
from bend_server.core.model import (
    ITEM_NONE,
    EventKind,
    EventRow,
    Failure,
    FinishRow,
    Outcome,
    ResultRow,
)
from bend_server.core.state import ExecutionState

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
    row: ResultRow = _new(
        ResultRow,
        (
            state.start.id,
            state.seq + 1,
            state.run,
            task,
            outcome.item,
            outcome.try_,
            0,
            state.attempt(task),
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
) -> None:
    """Write a skip, a cancel, or a failed condition.

    A task without an open try takes its next try, with the attempts made so far (0: never ran).
    An open try is closed by the row.
    """
    try_ = state.open_try(task)
    row = ResultRow(
        execution=state.start.id,
        seq=state.seq + 1,
        run=state.run,
        task=task,
        item=ITEM_NONE,
        try_=try_ or state.tries[task] + 1,
        iteration=0,
        attempt=state.attempt(task),
        status=status,
        output=None,
        blob=None,
        error=None if failure is None else failure.to_json(),
        retry_at_us=None,
        worker="",
        run_id=0,
        chunks=0,
        started_us=0,
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
) -> None:
    """Write an event of the execution; `task` -1 when it concerns no single task."""
    row = EventRow(
        execution=state.start.id,
        seq=state.seq + 1,
        run=state.run,
        kind=kind,
        task=task,
        item=ITEM_NONE,
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
