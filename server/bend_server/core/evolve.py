"""The only writers of an execution's state (with evolve_events and evolve_runs).

They may not refuse, and read no clock and no chance. `evolve_result`, `evolve_event` and
`evolve_finish` take stored rows, live and in recovery alike, so that folding a history gives the
state that wrote it. `evolve_open`, `evolve_running`, `evolve_goes_on` and `evolve_on_failure` are
the transitions without a row: that they happened follows from the rows.
"""

from array import array

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
_ON_FAILURE = int(Phase.ON_FAILURE)
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


def evolve_running(state: ExecutionState, task: int, item: int = ITEM_NONE) -> None:
    """Note that a worker has started the open try."""
    units, index = state.unit(task, item)
    check(state.start.id, task, units.statuses[index], TaskStatus.RUNNING)
    units.statuses[index] = TaskStatus.RUNNING


def evolve_goes_on(state: ExecutionState, task: int, item: int) -> None:
    """Let a loop that was in doubt go on with its next round."""
    units, index = state.unit(task, item)
    repeat = state.plan.tasks[task].repeat
    delay_us = 0 if repeat is None else repeat.delay_us
    finished_us = 0 if units.times is None else units.times[2 * index + 1]
    units.next_round(index, finished_us + delay_us)


def evolve_on_failure(state: ExecutionState) -> None:
    """Let the ON_FAILURE tasks have their turn, once all tasks of the main phase are terminal."""
    tasks = state.plan.tasks
    end = state.taking_part
    while end < len(tasks) and tasks[end].phase == _ON_FAILURE:
        end += 1
    state.unfinished += end - state.taking_part
    state.taking_part = end
    state.phase = _ON_FAILURE


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
    next_seq(state, row.seq)
    units: Units = state
    index = row.task
    plain = state.plan.plain
    if not plain or row.item != ITEM_NONE:
        units, index = _before_result(state, row)
    statuses = units.statuses
    source = statuses[index]
    target = _WAITING if row.retry_at_us is not None else row.status
    try_ = row.try_
    unopened = source in _UNOPENED
    if unopened and not plain and state.waiting(row.task, row.item) is not None:
        unopened = False
        source = _RUNNING
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
    times = units.times
    if times is None:
        times = units.times = array("q", bytes(16 * len(statuses)))
    times[2 * index] = row.started_us
    times[2 * index + 1] = row.finished_us
    if target == _COMPLETED:
        outputs = units.outputs
        if outputs is None:
            outputs = units.outputs = [None] * len(statuses)
        outputs[index] = row.output if row.blob is None else BlobOutput(row.blob)
    if target == _WAITING or row.error is not None or (units.errors or units.due) is not None:
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
    """Find a row's unit; follow what the row proves to have happened without a row."""
    if not state.has_unit(row.task, row.item):
        raise InvariantBroken(
            f"row {row.seq} of execution {state.start.id} is about item {row.item} of task "
            f"{row.task}, which is not known",
            execution=state.start.id,
            seq=row.seq,
            task=row.task,
            item=row.item,
        )
    plan = state.plan.tasks[row.task]
    if plan.phase == _ON_FAILURE and row.task >= state.taking_part:
        evolve_on_failure(state)
    units, index = state.unit(row.task, row.item)
    if units.in_doubt(index):
        if row.iteration > units.unit_iteration(index):
            evolve_goes_on(state, row.task, row.item)
        else:
            units.keep_output(index, None)
            units.undecided.discard(index)  # type: ignore[union-attr]
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
        if target in (_WAITING, _COMPLETED):
            control.children.pop(key, None)
    if target == _WAITING:
        if row.status == _COMPLETED:
            _round_ended(units, index, row)
        return
    unit_ended(state, row.task, row.item, row.seq, target)


def _round_ended(units: Units, index: int, row: ResultRow) -> None:
    if row.retry_at_us != IN_DOUBT:
        units.next_round(index, row.retry_at_us or 0)
        return
    if units.undecided is None:
        units.undecided = set()
    units.undecided.add(index)
    units.keep_output(index, row.output if row.blob is None else BlobOutput(row.blob))


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
