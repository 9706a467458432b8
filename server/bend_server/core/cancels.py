"""Ends that come from outside: a user's cancel, the execution's timeout, the end of the grace.

A cancelled or timed-out execution runs nothing more but compensations: tasks with `run_if: failure
| always` are cancelled too. They are for cleaning up after failures of the execution's own tasks; a
user who cancels wants it to stop. An execution that is failing can still be cancelled or time out,
which then decides its status; its error stays the first failure. A run that is being cancelled or
has timed out keeps that ending. A cancel while compensating is noted and changes nothing.
"""

from bend_server.core import compensation
from bend_server.core.effects import Effects
from bend_server.core.fan_ends import end_fan
from bend_server.core.model import (
    ITEM_NONE,
    EventKind,
    ExecutionStatus,
    Failure,
    Phase,
    StatusChange,
    TaskStatus,
)
from bend_server.core.readiness import settle
from bend_server.core.rows import write_event
from bend_server.core.state import ExecutionState, Unit
from bend_server.core.stops import (
    ask_to_stop,
    cause_of,
    give_up,
    grace_timer,
    stop_tasks,
    stop_unit,
)

_FAILED = int(ExecutionStatus.FAILED)
_RUNNING = int(TaskStatus.RUNNING)
_PENDING = int(TaskStatus.PENDING)
_COMPLETED = int(TaskStatus.COMPLETED)
_COMPENSATION = int(Phase.COMPENSATION)


def may_end(state: ExecutionState) -> bool:
    """Return whether a cancel or a timeout would still change how the run ends."""
    return not state.terminal and state.ending in (0, _FAILED)


def cancel(
    state: ExecutionState, reason: str, actor: str, code: str, now_us: int, effects: Effects
) -> bool:
    """End the run as CANCELLED; see `machine.request_cancel`."""
    body = Failure(code, reason or "cancelled by request").to_json()
    if state.phase == _COMPENSATION:
        return _cancel_compensation(state, body, actor, now_us, effects)
    if not may_end(state):
        return False
    was_paused = state.paused
    write_event(state, EventKind.CANCEL_REQUESTED, body, now_us, effects, actor=actor)
    if was_paused:
        effects.changes.append(StatusChange(state.start.id, ExecutionStatus.RUNNING, None))
    if state.quarantined:
        # Nobody will hear of its open tries any more: there is nothing to wait for.
        stopped = _give_up(state, now_us, effects, everything=True)
    else:
        stopped = stop_tasks(state, now_us, effects)
    settle(state, stopped, now_us, effects)
    return True


def _cancel_compensation(
    state: ExecutionState, body: bytes, actor: str, now_us: int, effects: Effects
) -> bool:
    control = state.control
    if state.terminal or control is None:
        return False
    if not state.quarantined and (control.cancel_noted or state.ending != _FAILED):
        return False
    write_event(state, EventKind.CANCEL_REQUESTED, body, now_us, effects, actor=actor)
    if state.quarantined:
        unit = _undoing(state)
        if unit is not None:
            give_up(state, *unit, now_us, effects)
        settle(state, [], now_us, effects)
    return True


def _undoing(state: ExecutionState) -> Unit | None:
    unit = state.undoing()
    return None if unit is None else compensation.undoer(state, unit)


def time_out(state: ExecutionState, now_us: int, effects: Effects) -> bool:
    """End the run as TIMED_OUT when its deadline has come; see `machine.execution_timed_out`."""
    deadline_us = state.deadline_us
    if not deadline_us or now_us < deadline_us or state.quarantined or state.paused:
        return False
    if state.phase == _COMPENSATION:
        return _time_compensation_out(state, now_us, effects)
    if not may_end(state):
        return False
    body = Failure("TIMEOUT", "the execution ran past its timeout").to_json()
    write_event(state, EventKind.EXECUTION_TIMED_OUT, body, now_us, effects)
    settle(state, stop_tasks(state, now_us, effects), now_us, effects)
    return True


def _time_compensation_out(state: ExecutionState, now_us: int, effects: Effects) -> bool:
    """Cut the compensation short: stop the one under way, begin no other."""
    if state.terminal or state.control is None or state.control.undo_over:
        return False
    body = Failure("TIMEOUT", "the compensation ran past its timeout").to_json()
    write_event(state, EventKind.EXECUTION_TIMED_OUT, body, now_us, effects)
    unit = _undoing(state)
    if unit is not None and not stop_unit(state, *unit, now_us, effects):
        effects.timers.append(grace_timer(state))
        return True
    settle(state, [], now_us, effects)
    return True


def end_grace(state: ExecutionState, now_us: int, effects: Effects) -> bool:
    """Give up open tries that were asked to stop; see `machine.grace_over`."""
    if state.terminal or state.quarantined or not state.ending or now_us < state.grace_us:
        return False
    if state.phase == _COMPENSATION:
        unit = _undoing(state)
        if state.control is None or not state.control.undo_over or unit is None:
            return False
        if state.child(*unit) is not None:
            return False
        give_up(state, *unit, now_us, effects)
        settle(state, [], now_us, effects)
        return True
    seq = state.seq
    given_up = _give_up(state, now_us, effects, everything=False)
    settle(state, given_up, now_us, effects)
    return state.seq > seq


def _give_up(
    state: ExecutionState, now_us: int, effects: Effects, *, everything: bool
) -> list[int]:
    """Write CANCELLED for tasks that are stopping and open (`everything`: or not started).

    A unit whose child was asked to stop waits for the child's end, which has a grace of its own.
    """
    given_up: list[int] = []
    for task in range(state.taking_part):
        status = state.statuses[task]
        if status >= _COMPLETED or not (everything or state.stopping(task)):
            continue
        fan = state.fan(task)
        if fan is not None and status == _RUNNING:
            for item in range(fan.next):
                if fan.statuses[item] < _COMPLETED and (
                    everything or state.child(task, item) is None
                ):
                    _give_up_unit(state, task, item, now_us, effects)
            if not fan.active:
                end_fan(state, task, fan, cause_of(state), now_us, effects)
                given_up.append(task)
        elif everything or (state.open_try(task) and state.child(task, ITEM_NONE) is None):
            _give_up_unit(state, task, ITEM_NONE, now_us, effects)
            given_up.append(task)
    return given_up


def _give_up_unit(
    state: ExecutionState, task: int, item: int, now_us: int, effects: Effects
) -> None:
    """Write CANCELLED for a unit; a child that it leaves behind is asked to stop."""
    if state.child(task, item) is not None and state.open_try(task, item):
        ask_to_stop(state, task, item, effects)
    give_up(state, task, item, now_us, effects)
