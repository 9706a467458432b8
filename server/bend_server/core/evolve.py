"""The only writers of an execution's state (with evolve_events and evolve_runs).

They may not refuse, and read no clock and no chance. `evolve_result`, `evolve_event` and
`evolve_finish` take stored rows, live and in recovery alike, so that folding a history gives the
state that wrote it. `evolve_open` and `evolve_running` are the transitions without a row: which
tries are open follows from the rows.
"""

from bend_server.core.errors import InvariantBroken
from bend_server.core.model import (
    ITEM_NONE,
    ExecutionStatus,
    Failure,
    FinishRow,
    Phase,
    ResultRow,
    TaskStatus,
)
from bend_server.core.state import BlobOutput, Control, ExecutionState
from bend_server.core.transitions import ALLOWED, WIDTH, check
from bend_server.core.units import Fan, Units

_COMPLETED = int(TaskStatus.COMPLETED)
_SCHEDULED = int(TaskStatus.SCHEDULED)
_RUNNING = int(TaskStatus.RUNNING)
_PENDING = int(TaskStatus.PENDING)
_WAITING = int(TaskStatus.WAITING)
_FAILURES = (int(TaskStatus.FAILED), int(TaskStatus.TIMED_OUT))
_UNOPENED = (_PENDING, _WAITING)
_COMPENSATION = int(Phase.COMPENSATION)

# `retry_at_us` of a COMPLETED round whose loop waits for a blob to know whether it goes on.
IN_DOUBT = 0


def evolve_open(state: ExecutionState, task: int, item: int = ITEM_NONE) -> int:
    """Open the next try of a unit that is PENDING or WAITING; return its number."""
    units: Units = state
    index = task
    if item != ITEM_NONE:
        units, index = state.unit(task, item)
    if units.statuses[index] not in _UNOPENED:
        check(state.start.id, task, units.statuses[index], _SCHEDULED)
    units.statuses[index] = _SCHEDULED
    try_ = units.tries[index] + 1
    units.tries[index] = try_
    if units.due is not None:
        units.due.pop(index, None)
    if units.attempts is not None:
        units.attempts.pop(index, None)
    return try_


def evolve_started(state: ExecutionState) -> None:
    """Turn PENDING into RUNNING; the engine commits the status with a StatusChange."""
    state.status = ExecutionStatus.RUNNING


def evolve_queued(state: ExecutionState) -> None:
    """Turn a new run that waits for its turn into PENDING; the status is a StatusChange, too."""
    state.status = ExecutionStatus.PENDING


def evolve_running(state: ExecutionState, task: int, item: int = ITEM_NONE) -> None:
    """Note that a worker has started the open try."""
    units, index = state.unit(task, item)
    check(state.start.id, task, units.statuses[index], TaskStatus.RUNNING)
    units.statuses[index] = TaskStatus.RUNNING


def next_seq(state: ExecutionState, seq: int) -> None:
    """Take the next place in the order of rows."""
    if seq != state.seq + 1:
        raise InvariantBroken(
            f"row {seq} of execution {state.start.id} follows row {state.seq}",
            execution=state.start.id,
            seq=seq,
            after=state.seq,
        )
    state.seq = seq


def control_of(state: ExecutionState) -> Control:
    """Return the state's Control, made now if there is none."""
    if state.control is None:
        state.control = Control()
    return state.control


def _wrong_try(state: ExecutionState, row: ResultRow, last: int) -> None:
    raise InvariantBroken(
        f"row {row.seq} of execution {state.start.id} closes try {row.try_} of task {row.task}, "
        f"whose last try is {last}",
        execution=state.start.id,
        seq=row.seq,
        task=row.task,
        got=row.try_,
        last=last,
    )


def evolve_result(state: ExecutionState, row: ResultRow) -> None:
    """Take in the end of a try, or a decision about a unit (a skip, a cancel)."""
    seq = row.seq
    if seq != state.seq + 1:
        next_seq(state, seq)
    state.seq = seq
    units: Units = state
    index = row.task
    plain = state.plan.plain
    if not plain or row.item != ITEM_NONE:
        units, index = _before_result(state, row)
    statuses = units.statuses
    source = statuses[index]
    target = _WAITING if row.retry_at_us is not None else row.status
    try_ = row.try_
    if not plain and source == _WAITING and state.waiting(row.task, row.item) is not None:
        source = _RUNNING  # what it waits for is its open try
    unopened = source in _UNOPENED
    if try_ != units.tries[index] + unopened:
        _wrong_try(state, row, units.tries[index])
    if unopened and row.attempt:
        # In a fold nobody opened the try; the row proves that it was.
        source = _SCHEDULED
    if not ALLOWED[source * WIDTH + target]:
        check(state.start.id, row.task, source, target)
    statuses[index] = target
    units.tries[index] = try_
    if row.attempt != try_ or units.attempts is not None:
        units.note_attempt(index, row.attempt, try_)
    times = units.times or units.make_times()
    times[2 * index] = row.started_us
    times[2 * index + 1] = row.finished_us
    if target == _COMPLETED:
        outputs = units.outputs or units.make_outputs()
        outputs[index] = row.output if row.blob is None else BlobOutput(row.blob)
    if (
        target == _WAITING
        or row.error is not None
        or units.errors is not None
        or units.due is not None
    ):
        _evolve_failure(units, index, row)
    if not plain:
        _after_result(state, units, index, row, target)
    if target != _WAITING and units is state:
        # `task_ended`, without the cost of a call.
        state.unfinished -= 1
        remaining = state.remaining
        for successor in state.plan.tasks[index].successors:
            remaining[successor] -= 1


def task_ended(state: ExecutionState, task: int) -> None:
    """Count a task (item -1) that became terminal."""
    state.unfinished -= 1
    remaining = state.remaining
    for successor in state.plan.tasks[task].successors:
        remaining[successor] -= 1


def _evolve_failure(units: Units, index: int, row: ResultRow) -> None:
    """Keep or drop what only failed, retried and repeated units have."""
    if row.error is not None:
        if units.errors is None:
            units.errors = {}
        units.errors[index] = row.error
    elif units.errors is not None:
        units.errors.pop(index, None)
    if row.retry_at_us is not None and row.status != _COMPLETED:
        if units.due is None:
            units.due = {}
        units.due[index] = row.retry_at_us
        if units.firsts is None:
            units.firsts = {}
        units.firsts.setdefault(index, row.started_us or row.finished_us)
        return
    if units.due is not None:
        units.due.pop(index, None)
    if units.firsts is not None:
        units.firsts.pop(index, None)


def _before_result(state: ExecutionState, row: ResultRow) -> tuple[Units, int]:
    """Find a row's unit; a loop that was in doubt ends with a decision."""
    if not state.has_unit(row.task, row.item):
        raise InvariantBroken(
            f"row {row.seq} of execution {state.start.id} is about item {row.item} of task "
            f"{row.task}, which is not known",
            execution=state.start.id,
            seq=row.seq,
            task=row.task,
            item=row.item,
        )
    units, index = state.unit(row.task, row.item)
    if units.undecided is not None and index in units.undecided:
        units.keep_output(index, None)
        units.undecided.discard(index)
    return units, index


def _after_result(
    state: ExecutionState, units: Units, index: int, row: ResultRow, target: int
) -> None:
    """Follow what a row means for rounds, waits, children, items and compensation."""
    control = state.control
    if control is not None:
        key = (row.task, row.item)
        waiting = control.waits.pop(key, None)
        if waiting is not None and waiting.name in control.listeners:
            control.listeners[waiting.name].pop(key, None)
            if not control.listeners[waiting.name]:
                del control.listeners[waiting.name]
        if key in control.children and _child_is_done(row, target):
            del control.children[key]
    if target == _WAITING:
        if row.status == _COMPLETED:
            _round_ended(units, index, row)
        return
    if target == _COMPLETED:
        units.loop_ended(index)
    unit_ended(state, row.task, row.item, row.seq, target)


def _child_is_done(row: ResultRow, target: int) -> bool:
    """Return whether a later try needs another child: this one completed, or an attempt ended."""
    if target in (_WAITING, _COMPLETED):
        return True
    # The child completed, and then the loop could not be judged.
    return row.error is not None and Failure.from_json(row.error).reason == "EXPRESSION_ERROR"


def _round_ended(units: Units, index: int, row: ResultRow) -> None:
    output = row.output if row.blob is None else BlobOutput(row.blob)
    if row.retry_at_us != IN_DOUBT:
        units.next_round(index, row.retry_at_us or 0, output)
        return
    if units.undecided is None:
        units.undecided = set()
    units.undecided.add(index)
    units.keep_output(index, output)


def unit_ended(state: ExecutionState, task: int, item: int, seq: int, target: int) -> None:
    """Count a unit that became terminal: its fan's window, what there is to undo."""
    plan = state.plan.tasks[task]
    if plan.phase == _COMPENSATION:
        control_of(state).undone += 1
        if item != ITEM_NONE:
            state.unfinished -= 1
        return
    if item != ITEM_NONE:
        fan: Fan = state.fans[task]  # type: ignore[index]
        failed = target in _FAILURES
        fan.ended(failed=failed, halts=failed and not plan.allow_failure)
        refill(state, task, fan)
    elif plan.for_each is not None:
        return
    if target == _COMPLETED and plan.compensated_by is not None:
        control_of(state).undo.append((seq, task, item))


def refill(state: ExecutionState, task: int, fan: Fan) -> None:
    """Admit items into a running fan's window, unless nothing may start now."""
    if state.statuses[task] == _RUNNING and not state.paused and not state.stopping(task):
        fan.refill()


def evolve_finish(state: ExecutionState, row: FinishRow) -> None:
    """Take in the end of the run."""
    next_seq(state, row.seq)
    cut_short = state.control is not None and state.control.undo_over
    if state.terminal or (state.unfinished and not cut_short):
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
