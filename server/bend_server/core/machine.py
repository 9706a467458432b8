"""The verbs of an execution: each decides, evolves the state, and appends to the effects.

All take the time and chance as arguments and do no I/O. A verb that returns bool returns False
when it changed nothing: late, early and repeated calls are harmless. Rows in the effects are
evolved already: whoever cannot commit them must drop the state and fold it again from SQL.

Verbs of one family live with it: `apply` in outcomes.py, waits, signals and approvals in
waiting.py, children in children.py, pauses in pauses.py, new runs in reruns.py.
"""

import orjson

from bend_server.core import blobs, cancels, history
from bend_server.core.children import begin_child
from bend_server.core.effects import BlobWait, Effects, Timer, TimerKind
from bend_server.core.evolve import evolve_running, evolve_started
from bend_server.core.history import fold
from bend_server.core.model import (
    ITEM_NONE,
    EventKind,
    ExecutionStatus,
    StartRow,
    StatusChange,
    TaskStatus,
)
from bend_server.core.opening import open_unit
from bend_server.core.outcomes import apply
from bend_server.core.pauses import pause, unpause
from bend_server.core.plan import Plan
from bend_server.core.readiness import judge, settle
from bend_server.core.reruns import reset, retry
from bend_server.core.retries import Jitter
from bend_server.core.rows import write_event
from bend_server.core.state import ExecutionState
from bend_server.core.waiting import begin_wait, decide_approval, signal, wait_due

__all__ = [
    "apply",
    "begin",
    "begin_child",
    "begin_wait",
    "blob_loaded",
    "decide_approval",
    "execution_timed_out",
    "fold",
    "grace_over",
    "pause",
    "quarantine",
    "request_cancel",
    "reset",
    "resume",
    "retry",
    "retry_due",
    "running",
    "signal",
    "start",
    "unpause",
    "wait_due",
]

_PENDING = int(TaskStatus.PENDING)
_SCHEDULED = int(TaskStatus.SCHEDULED)
_PENDING_EXECUTION = int(ExecutionStatus.PENDING)
QUARANTINED = "QUARANTINED"


def begin(plan: Plan, start_row: StartRow) -> ExecutionState:
    """Return the state of an execution that was accepted and has not moved yet."""
    return ExecutionState(plan, start_row, start_row.status)


def start(state: ExecutionState, now_us: int, chance: Jitter, effects: Effects) -> None:
    """Set an execution going: its roots become ready, its deadline gets a timer.

    One that was accepted PENDING gets a change to RUNNING. Call it once, after `begin`.
    """
    if state.status == _PENDING_EXECUTION:
        _set_running(state, effects)
    row = state.start
    if row.deadline_us:
        effects.timers.append(Timer(row.deadline_us, row.id, TimerKind.EXECUTION, -1, ITEM_NONE, 0))
    ended: list[int] = []
    for task in state.plan.roots:
        if state.statuses[task] == _PENDING:  # else a root before it failed and cancelled it
            judge(state, task, ended, now_us, effects)
    if ended:
        settle(state, ended, now_us, effects)


def running(state: ExecutionState, task: int, item: int, try_: int) -> bool:
    """Note that a worker began the open try. A hint without a row: it may be lost or repeated."""
    if not state.has_unit(task, item) or state.open_try(task, item) != try_:
        return False
    if state.unit_status(task, item) != _SCHEDULED:
        return False
    evolve_running(state, task, item)
    return True


def retry_due(
    state: ExecutionState, task: int, item: int, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Open the next try of a unit whose backoff, or delay between rounds, is over.

    False: it has none, it is early, or the execution is paused or quarantined.
    """
    if state.quarantined or state.paused or not state.has_unit(task, item):
        return False
    units, index = state.unit(task, item)
    due_us = None if units.due is None else units.due.get(index)
    if due_us is None or now_us < due_us:
        return False
    open_unit(state, task, item, now_us, effects)
    settle(state, [], now_us, effects)
    return True


def request_cancel(
    state: ExecutionState,
    reason: str,
    actor: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
    *,
    code: str = "CANCELLED",
) -> bool:
    """Cancel the execution: it ends CANCELLED. False: it has ended, or ends already.

    What has not started is cancelled at once, tasks with `run_if: failure | always` included
    (core/cancels.py says why); open tries are asked to stop and have limits.CANCEL_GRACE_US.
    A quarantined execution gives its open tries up at once, and is not compensated. While it
    compensates, a cancel is noted once and changes nothing.

    Args:
        code: the reason of the error that the execution ends with.
    """
    if state.status == _PENDING_EXECUTION and state.seq:
        _set_running(state, effects)  # what the runs before did may have to be undone
    return cancels.cancel(state, reason, actor, code, now_us, effects)


def execution_timed_out(
    state: ExecutionState, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """End an execution whose deadline has come: like a cancel, with the status TIMED_OUT."""
    if state.status == _PENDING_EXECUTION and state.seq and 0 < state.deadline_us <= now_us:
        _set_running(state, effects)
    return cancels.time_out(state, now_us, effects)


def grace_over(state: ExecutionState, now_us: int, chance: Jitter, effects: Effects) -> bool:
    """Write CANCELLED for tries that were asked to stop and did not answer in time."""
    return cancels.end_grace(state, now_us, effects)


def quarantine(
    state: ExecutionState,
    reason: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
    *,
    message: str = "",
) -> bool:
    """Take an execution out of service: PAUSED, pause reason QUARANTINED. False: it cannot be.

    From then on only a cancel moves it; outcomes and timers are refused.
    """
    if state.terminal or state.quarantined:
        return False
    body = orjson.dumps({"reason": reason, "message": message})
    write_event(state, EventKind.QUARANTINED, body, now_us, effects)
    effects.changes.append(StatusChange(state.start.id, ExecutionStatus.PAUSED, QUARANTINED))
    return True


def blob_loaded(
    state: ExecutionState,
    wait: BlobWait,
    data: bytes | None,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> bool:
    """Decide what waited for a blob. False: it was decided otherwise meanwhile.

    A decision that needs one more blob adds another BlobWait; data that was given stays until the
    decision is made.

    Args:
        data: the blob; None when the store no longer has it, which fails what waits for it.
    """
    return blobs.loaded(state, wait, data, now_us, effects)


def resume(state: ExecutionState, now_us: int, chance: Jitter, effects: Effects) -> None:
    """Bring a folded execution back to life.

    Emits ready for every open try that may run (those already handed out too: the caller knows
    what the queue holds), cancels for those that were asked to stop, timers for what waits; judges
    what a crash left undecided and finishes what it left unfinished. Never writes a row for what
    has one. A quarantined or terminal execution stays as it is. Harmless on a live execution.
    """
    if state.status == _PENDING_EXECUTION:
        _set_running(state, effects)
    history.resume(state, now_us, chance, effects)


def _set_running(state: ExecutionState, effects: Effects) -> None:
    evolve_started(state)
    effects.changes.append(StatusChange(state.start.id, ExecutionStatus.RUNNING, None))
