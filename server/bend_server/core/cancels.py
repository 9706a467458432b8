"""Ends that come from outside: a user's cancel, the execution's timeout, the end of the grace.

A cancelled or timed-out execution runs nothing more: tasks with `run_if: failure | always` are
cancelled too. They are for cleaning up after failures of the execution's own tasks; a user who
cancels wants it to stop. An execution that is failing can still be cancelled or time out, which
then decides its status; its error stays the first failure. A run that is being cancelled or has
timed out keeps that ending.
"""

from bend_server.core.effects import Effects
from bend_server.core.model import EventKind, ExecutionStatus, Failure, TaskStatus
from bend_server.core.readiness import settle
from bend_server.core.rows import write_decision, write_event
from bend_server.core.state import ExecutionState
from bend_server.core.stops import CAUSE, stop_tasks

_FAILED = int(ExecutionStatus.FAILED)


def may_end(state: ExecutionState) -> bool:
    """Return whether a cancel or a timeout would still change how the run ends."""
    return not state.terminal and state.ending in (0, _FAILED)


def cancel(state: ExecutionState, reason: str, actor: str, now_us: int, effects: Effects) -> bool:
    """End the run as CANCELLED; see `machine.request_cancel`."""
    if not may_end(state):
        return False
    body = Failure("CANCELLED", reason or "cancelled by request").to_json()
    write_event(state, EventKind.CANCEL_REQUESTED, body, now_us, effects, actor=actor)
    if state.quarantined:
        # Nobody will hear of its open tries any more: there is nothing to wait for.
        stopped = _give_up(state, now_us, effects, everything=True)
    else:
        stopped = stop_tasks(state, now_us, effects)
    settle(state, stopped, now_us, effects)
    return True


def time_out(state: ExecutionState, now_us: int, effects: Effects) -> bool:
    """End the run as TIMED_OUT when its deadline has come; see `machine.execution_timed_out`."""
    deadline_us = state.start.deadline_us
    if not deadline_us or now_us < deadline_us or state.quarantined or not may_end(state):
        return False
    body = Failure("TIMEOUT", "the execution ran past its timeout").to_json()
    write_event(state, EventKind.EXECUTION_TIMED_OUT, body, now_us, effects)
    settle(state, stop_tasks(state, now_us, effects), now_us, effects)
    return True


def end_grace(state: ExecutionState, now_us: int, effects: Effects) -> bool:
    """Give up open tries that were asked to stop; see `machine.grace_over`."""
    if state.terminal or state.quarantined or not state.ending or now_us < state.grace_us:
        return False
    given_up = _give_up(state, now_us, effects, everything=False)
    settle(state, given_up, now_us, effects)
    return bool(given_up)


def _give_up(
    state: ExecutionState, now_us: int, effects: Effects, *, everything: bool
) -> list[int]:
    """Write CANCELLED for tasks that are stopping and open (`everything`: or not started)."""
    given_up: list[int] = []
    for task in range(len(state.statuses)):
        if state.task_terminal(task) or not state.stopping(task):
            continue
        if everything or state.open_try(task):
            cause = CAUSE[state.ending]
            write_decision(state, task, TaskStatus.CANCELLED, cause, now_us, effects)
            given_up.append(task)
    return given_up
