"""The only writers of an execution's state. They may not refuse, and read no clock and no chance.

`evolve_result`, `evolve_event` and `evolve_finish` take stored rows, live and in recovery alike, so
that folding a history gives the state that wrote it. `evolve_open` and `evolve_running` are the
two transitions without a row: which tries are open follows from the rows.
"""

from array import array

from bend_server.core import limits
from bend_server.core.errors import InvariantBroken
from bend_server.core.model import (
    EventKind,
    EventRow,
    ExecutionStatus,
    Failure,
    FinishRow,
    ResultRow,
    TaskStatus,
)
from bend_server.core.state import BlobOutput, ExecutionState
from bend_server.core.transitions import ALLOWED, WIDTH, check

_COMPLETED = int(TaskStatus.COMPLETED)
_SCHEDULED = int(TaskStatus.SCHEDULED)
_PENDING = int(TaskStatus.PENDING)
_WAITING = int(TaskStatus.WAITING)

_UNOPENED = (_PENDING, _WAITING)

_ENDINGS = {
    int(EventKind.FAILING): int(ExecutionStatus.FAILED),
    int(EventKind.CANCEL_REQUESTED): int(ExecutionStatus.CANCELLED),
    int(EventKind.EXECUTION_TIMED_OUT): int(ExecutionStatus.TIMED_OUT),
}


def evolve_open(state: ExecutionState, task: int) -> int:
    """Open the next try of a task that is PENDING or WAITING; return its number."""
    check(state.start.id, task, state.statuses[task], _SCHEDULED)
    state.statuses[task] = _SCHEDULED
    try_ = state.tries[task] + 1
    state.tries[task] = try_
    if state.due is not None:
        state.due.pop(task, None)
    return try_


def evolve_started(state: ExecutionState) -> None:
    """Turn PENDING into RUNNING; the engine commits the status with a StatusChange."""
    state.status = ExecutionStatus.RUNNING


def evolve_running(state: ExecutionState, task: int) -> None:
    """Note that a worker has started the open try."""
    check(state.start.id, task, state.statuses[task], TaskStatus.RUNNING)
    state.statuses[task] = TaskStatus.RUNNING


def _next_seq(state: ExecutionState, seq: int) -> None:
    if seq != state.seq + 1:
        raise InvariantBroken(
            f"row {seq} of execution {state.start.id} follows row {state.seq}",
            execution=state.start.id,
            seq=seq,
            after=state.seq,
        )
    state.seq = seq


def _wrong_try(state: ExecutionState, row: ResultRow) -> None:
    raise InvariantBroken(
        f"row {row.seq} of execution {state.start.id} closes try {row.try_} of task {row.task}, "
        f"whose last try is {state.tries[row.task]}",
        execution=state.start.id,
        seq=row.seq,
        task=row.task,
        got=row.try_,
        last=state.tries[row.task],
    )


def evolve_result(state: ExecutionState, row: ResultRow) -> None:
    """Take in the end of a try, or a decision about a task (a skip, a cancel)."""
    _next_seq(state, row.seq)
    task = row.task
    statuses = state.statuses
    source = statuses[task]
    target = _WAITING if row.retry_at_us is not None else row.status
    try_ = row.try_
    unopened = source in _UNOPENED
    if try_ != state.tries[task] + unopened:
        _wrong_try(state, row)
    if unopened and row.attempt:
        # In a fold nobody opened the try; the row proves that it was.
        source = _SCHEDULED
    if not ALLOWED[source * WIDTH + target]:
        check(state.start.id, task, source, target)
    statuses[task] = target
    state.tries[task] = try_
    if row.attempt != try_:
        if state.attempts is None:
            state.attempts = {}
        state.attempts[task] = row.attempt
    times = state.times
    if times is None:
        times = state.times = array("q", bytes(16 * len(statuses)))
    times[2 * task] = row.started_us
    times[2 * task + 1] = row.finished_us
    if target == _COMPLETED:
        outputs = state.outputs
        if outputs is None:
            outputs = state.outputs = [None] * len(statuses)
        outputs[task] = row.output if row.blob is None else BlobOutput(row.blob)
    if row.error is not None or state.errors is not None or state.due is not None:
        _evolve_failure(state, row)
    if target != _WAITING:
        state.unfinished -= 1
        remaining = state.remaining
        for successor in state.plan.tasks[task].successors:
            remaining[successor] -= 1


def _evolve_failure(state: ExecutionState, row: ResultRow) -> None:
    """Keep or drop what only failed and retried tasks have."""
    task = row.task
    if row.error is not None:
        if state.errors is None:
            state.errors = {}
        state.errors[task] = row.error
    elif state.errors is not None:
        state.errors.pop(task, None)
    if row.retry_at_us is not None:
        if state.due is None:
            state.due = {}
        state.due[task] = row.retry_at_us
        if state.firsts is None:
            state.firsts = {}
        state.firsts.setdefault(task, row.started_us or row.finished_us)
        return
    if state.due is not None:
        state.due.pop(task, None)
    if state.firsts is not None:
        state.firsts.pop(task, None)


def evolve_event(state: ExecutionState, row: EventRow) -> None:
    """Take in an event. Kinds that change no state only take their place in the order."""
    _next_seq(state, row.seq)
    ending = _ENDINGS.get(row.kind)
    if ending is not None:
        state.ending = ending
        state.grace_us = row.at_us + limits.CANCEL_GRACE_US
        if state.error is None:
            state.error = Failure.from_json(row.body)
    if row.kind == EventKind.QUARANTINED:
        state.quarantined = True
        state.status = ExecutionStatus.PAUSED


def evolve_finish(state: ExecutionState, row: FinishRow) -> None:
    """Take in the end of the run."""
    _next_seq(state, row.seq)
    if state.terminal or state.unfinished:
        raise InvariantBroken(
            f"execution {state.start.id} cannot finish: status "
            f"{ExecutionStatus(state.status).name}, {state.unfinished} tasks are not terminal",
            execution=state.start.id,
            status=ExecutionStatus(state.status).name,
            unfinished=state.unfinished,
        )
    state.status = row.status
    state.result = row.output
    state.error = None if row.error is None else Failure.from_json(row.error)
