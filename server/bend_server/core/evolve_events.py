"""Events into state: the half of `evolve` that is about neither results nor the finish."""

from collections.abc import Callable

import orjson

from bend_server.core import limits
from bend_server.core.evolve import (
    control_of,
    evolve_open,
    next_seq,
    refill,
    task_ended,
    unit_ended,
)
from bend_server.core.evolve_runs import evolve_new_run
from bend_server.core.model import (
    ITEM_NONE,
    EventKind,
    EventRow,
    ExecutionStatus,
    Failure,
    Phase,
    TaskKind,
    TaskStatus,
)
from bend_server.core.state import ExecutionState
from bend_server.core.transitions import check
from bend_server.core.units import Fan, Units
from bend_server.core.waits import Child, Waiting, read_signal

_PENDING = int(TaskStatus.PENDING)
_SCHEDULED = int(TaskStatus.SCHEDULED)
_RUNNING = int(TaskStatus.RUNNING)
_WAITING = int(TaskStatus.WAITING)
_COMPLETED = int(TaskStatus.COMPLETED)
_FAILURES = (int(TaskStatus.FAILED), int(TaskStatus.TIMED_OUT))

_ENDINGS = {
    int(EventKind.FAILING): int(ExecutionStatus.FAILED),
    int(EventKind.CANCEL_REQUESTED): int(ExecutionStatus.CANCELLED),
    int(EventKind.EXECUTION_TIMED_OUT): int(ExecutionStatus.TIMED_OUT),
}


def evolve_event(state: ExecutionState, row: EventRow) -> None:
    """Take in an event. Kinds that change no state only take their place in the order."""
    if row.kind in (EventKind.RETRIED, EventKind.RESET):
        evolve_new_run(state, row)
        return
    next_seq(state, row.seq)
    follow = _FOLLOW.get(row.kind)
    if follow is not None:
        follow(state, row)


def _ending(state: ExecutionState, row: EventRow) -> None:
    if state.phase == Phase.COMPENSATION:
        _ending_while_compensating(state, row)
        return
    state.ending = _ENDINGS[row.kind]
    state.grace_us = row.at_us + limits.CANCEL_GRACE_US
    if state.error is None:
        state.error = Failure.from_json(row.body)
    if state.paused:
        state.status = ExecutionStatus.RUNNING
    _refill_all(state)


def _ending_while_compensating(state: ExecutionState, row: EventRow) -> None:
    """A deadline cuts the compensation short; a cancel does so in quarantine only."""
    control = control_of(state)
    if row.kind == EventKind.CANCEL_REQUESTED:
        control.cancel_noted = True
    if row.kind == EventKind.EXECUTION_TIMED_OUT or state.quarantined:
        control.undo_over = True
        state.grace_us = row.at_us + limits.CANCEL_GRACE_US


def _quarantined(state: ExecutionState, row: EventRow) -> None:
    state.quarantined = True
    state.status = ExecutionStatus.PAUSED


def _paused(state: ExecutionState, row: EventRow) -> None:
    control = control_of(state)
    body = orjson.loads(row.body)
    control.pause_reason = body["reason"]
    for task, item in body["open"]:
        units, index = state.unit(task, item)
        if units.statuses[index] in (_PENDING, _WAITING):  # only in a fold
            evolve_open(state, task, item)
    control.paused_by = row.task
    control.paused_us = row.at_us
    state.status = ExecutionStatus.PAUSED


def _resumed(state: ExecutionState, row: EventRow) -> None:
    state.status = ExecutionStatus.RUNNING
    state.deadline_us = orjson.loads(row.body)["deadline_us"]
    tasks = state.plan.tasks
    for task in range(state.taking_part):
        if state.statuses[task] in _FAILURES and not tasks[task].allow_failure:
            return  # FAILING follows, or another pause
    _refill_all(state)


def _refill_all(state: ExecutionState) -> None:
    for task, fan in (state.fans or {}).items():
        refill(state, task, fan)


def _items_counted(state: ExecutionState, row: EventRow) -> None:
    task = row.task
    body = orjson.loads(row.body)
    check(state.start.id, task, state.statuses[task], _RUNNING)
    if state.fans is None:
        state.fans = {}
    fan = state.fans.get(task)
    if fan is None:
        fan = state.fans[task] = Fan(max(1, state.plan.tasks[task].parallel_max))
    state.statuses[task] = _RUNNING
    state.tries[task] += 1
    if state.attempts is not None:
        state.attempts.pop(task, None)
    (state.times or state.make_times())[2 * task] = row.at_us
    if "items" in body:
        fan.items = [item.encode() for item in body["items"]]
    fan.begin(body["count"])
    refill(state, task, fan)


def _opened(state: ExecutionState, row: EventRow, try_: int) -> tuple[Units, int]:
    """Find an event's unit; open the try that the event proves to have been open."""
    units, index = state.unit(row.task, row.item)
    if units.statuses[index] in (_PENDING, _WAITING) and units.tries[index] + 1 == try_:
        if units.due is not None:
            units.due.pop(index, None)
        if units.attempts is not None:
            units.attempts.pop(index, None)
        units.tries[index] = try_
        units.statuses[index] = _SCHEDULED
    return units, index


def _waiting(state: ExecutionState, row: EventRow) -> None:
    body = orjson.loads(row.body)
    units, index = _opened(state, row, body["try"])
    check(state.start.id, row.task, units.statuses[index], _WAITING)
    units.statuses[index] = _WAITING
    control = control_of(state)
    key = (row.task, row.item)
    kind = body["kind"]
    name = body["name"]
    payload = None
    if kind == TaskKind.SIGNAL:
        kept = control.signals.get(name)
        if kept:
            payload = kept.popleft()
            control.signals_kept -= 1
            if not kept:
                del control.signals[name]
        else:
            control.listening(name)[key] = None
    control.waits[key] = Waiting(
        kind, body["due_us"], name, body["title"], row.seq, body["try"], row.at_us, payload
    )


def _signalled(state: ExecutionState, row: EventRow) -> None:
    """Give a signal to the unit that waits longest, whose result row follows; or keep it."""
    name, payload = read_signal(row.body)
    control = control_of(state)
    listeners = control.listeners.get(name)
    if listeners:
        key = next(iter(listeners))
        del listeners[key]
        if not listeners:
            del control.listeners[name]
        control.waits[key] = control.waits[key]._replace(payload=payload)
        return
    control.kept(name).append(payload)
    control.signals_kept += 1


def _child_started(state: ExecutionState, row: EventRow) -> None:
    body = orjson.loads(row.body)
    units, index = _opened(state, row, body["try"])
    if units.statuses[index] != _RUNNING:  # else another child serves the try
        check(state.start.id, row.task, units.statuses[index], _RUNNING)
        units.statuses[index] = _RUNNING
    child = Child(body["child"], body["public_id"], body["try"], body["run"])
    control_of(state).set_child((row.task, row.item), child)


def _loop_decided(state: ExecutionState, row: EventRow) -> None:
    """A loop that was in doubt goes on, or the output that it waited for was its last."""
    units, index = state.unit(row.task, row.item)
    repeat = state.plan.tasks[row.task].repeat
    if orjson.loads(row.body)["again"] and repeat is not None:
        finished_us = 0 if units.times is None else units.times[2 * index + 1]
        output = state.output(row.task, row.item)
        units.next_round(index, finished_us + repeat.delay_us, output)
        return
    units.loop_ended(index)
    if units.undecided is not None:
        units.undecided.discard(index)
    check(state.start.id, row.task, units.statuses[index], _COMPLETED)
    units.statuses[index] = _COMPLETED
    unit_ended(state, row.task, row.item, row.seq, _COMPLETED)
    if row.item == ITEM_NONE:
        task_ended(state, row.task)


def _handling_failure(state: ExecutionState, row: EventRow) -> None:
    """The ON_FAILURE tasks have their turn: all tasks of the main phase are terminal."""
    tasks = state.plan.tasks
    end = state.taking_part
    while end < len(tasks) and tasks[end].phase == Phase.ON_FAILURE:
        end += 1
    state.unfinished += end - state.taking_part
    state.taking_part = end
    state.phase = int(Phase.ON_FAILURE)


def _compensating(state: ExecutionState, row: EventRow) -> None:
    control = control_of(state)
    control.compensated = True
    state.phase = int(Phase.COMPENSATION)
    state.deadline_us = orjson.loads(row.body)["deadline_us"]
    state.unfinished = len(control.undo)
    tasks = state.plan.tasks
    for _, task, item in control.undo:
        undoes = tasks[task].compensated_by
        if item == ITEM_NONE or undoes is None:
            continue
        if state.fans is None:  # cannot be: an item completed
            state.fans = {}
        if undoes not in state.fans:
            fan = state.fans[undoes] = Fan(0)
            fan.begin(state.fans[task].count)


_FOLLOW: dict[int, Callable[[ExecutionState, EventRow], None]] = {
    EventKind.FAILING: _ending,
    EventKind.CANCEL_REQUESTED: _ending,
    EventKind.EXECUTION_TIMED_OUT: _ending,
    EventKind.QUARANTINED: _quarantined,
    EventKind.PAUSED: _paused,
    EventKind.RESUMED: _resumed,
    EventKind.ITEMS_COUNTED: _items_counted,
    EventKind.WAITING: _waiting,
    EventKind.SIGNALLED: _signalled,
    EventKind.CHILD_STARTED: _child_started,
    EventKind.LOOP_ENDED: _loop_decided,
    EventKind.HANDLING_FAILURE: _handling_failure,
    EventKind.COMPENSATING: _compensating,
}
