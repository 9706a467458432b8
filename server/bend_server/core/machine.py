"""The verbs of an execution: each decides, evolves the state, and appends to the effects.

All take the time and chance as arguments and do no I/O. A verb that returns bool returns False
when it changed nothing: late, early and repeated calls are harmless. Rows in the effects are
evolved already: whoever cannot commit them must drop the state and fold it again from SQL.
"""

import orjson

from bend_server.core import cancels, history
from bend_server.core.effects import FINISH, BlobWait, Effects, Timer, TimerKind
from bend_server.core.endings import finish
from bend_server.core.evolve import evolve_open, evolve_running, evolve_started
from bend_server.core.failures import failure_of
from bend_server.core.history import fold, retry_timer
from bend_server.core.model import (
    ITEM_NONE,
    EventKind,
    ExecutionStatus,
    Failure,
    Outcome,
    StartRow,
    StatusChange,
    TaskStatus,
)
from bend_server.core.plan import Plan
from bend_server.core.readiness import fail_undone, judge, open_task, settle
from bend_server.core.retries import Jitter, next_attempt_us
from bend_server.core.rows import write_event, write_finish, write_outcome
from bend_server.core.state import ExecutionState
from bend_server.core.waits import SignalTaken, Wait

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
_RUNNING = int(TaskStatus.RUNNING)
_WAITING = int(TaskStatus.WAITING)
_COMPLETED = int(TaskStatus.COMPLETED)
_CANCELLED = int(TaskStatus.CANCELLED)
_FAILED = int(TaskStatus.FAILED)
_TIMED_OUT = int(TaskStatus.TIMED_OUT)
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


def apply(
    state: ExecutionState, outcome: Outcome, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Take in what came of a try. False: stale or duplicate, nothing changed.

    Only the open try counts, and after a recovery the next one of a task that waits: its outcome
    proves that it was opened. While an execution is ending, an outcome of a task that was asked
    to stop is stored as it is: COMPLETED stays COMPLETED, and nothing is retried. A CANCELLED
    that nobody asked for is a failure with the reason CANCELLED.

    Args:
        outcome: status COMPLETED, FAILED, TIMED_OUT or CANCELLED. A rendering failure is an
            outcome too, made by the engine: FAILED, EXPRESSION_ERROR, not retryable.
    """
    task = outcome.task
    statuses = state.statuses
    if not 0 <= task < len(statuses) or outcome.item != ITEM_NONE or state.quarantined:
        return False
    if not _SCHEDULED <= statuses[task] <= _RUNNING:
        if not _was_opened(state, outcome):
            return False
        evolve_open(state, task)
    elif outcome.try_ != state.tries[task]:
        return False
    if outcome.status == _COMPLETED:
        write_outcome(state, outcome, _COMPLETED, None, None, effects)
    elif outcome.status in (_FAILED, _TIMED_OUT, _CANCELLED):
        if not _apply_failure(state, outcome, now_us, chance, effects):
            return True
    else:
        return False
    settle(state, [task], now_us, effects)
    return True


def _was_opened(state: ExecutionState, outcome: Outcome) -> bool:
    """Return whether an outcome proves that its try was opened before a recovery.

    A folded execution may not know that yet: the condition waits for its blob again, or a backoff
    ends a moment later by the new owner's clock. The next try has an outcome only if it was open.
    """
    task = outcome.task
    status = state.statuses[task]
    return (
        outcome.try_ == state.tries[task] + 1
        and (status == _WAITING or (status == _PENDING and not state.remaining[task]))
        and outcome.status in (_COMPLETED, _FAILED, _TIMED_OUT, _CANCELLED)
    )


def _apply_failure(
    state: ExecutionState, outcome: Outcome, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Write the row of a try that did not complete; return whether the task became terminal."""
    task = outcome.task
    status = outcome.status
    failure = failure_of(status, outcome.failure)
    if state.stopping(task):
        write_outcome(state, outcome, status, failure, None, effects)
        return True
    if status == _CANCELLED:
        status = _FAILED
        if outcome.failure is None:
            failure = Failure("CANCELLED", "the component cancelled the task by itself")
    firsts = state.firsts
    first_us = None if firsts is None else firsts.get(task)
    due_us = next_attempt_us(
        state.plan.tasks[task].retry,
        failure,
        timed_out=status == _TIMED_OUT,
        attempt=state.attempt(task),
        first_us=first_us or outcome.started_us or outcome.finished_us,
        now_us=now_us,
        chance=chance,
    )
    write_outcome(state, outcome, status, failure, due_us, effects)
    if due_us is None:
        return True
    effects.timers.append(retry_timer(state, task, due_us))
    return False


def running(state: ExecutionState, task: int, item: int, try_: int) -> bool:
    """Note that a worker began the open try. A hint without a row: it may be lost or repeated."""
    if state.open_try(task, item) != try_ or state.statuses[task] != _SCHEDULED:
        return False
    evolve_running(state, task)
    return True


def retry_due(
    state: ExecutionState, task: int, item: int, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Open the next try of a WAITING task whose backoff is over. False: not waiting, or early."""
    due_us = None if state.due is None else state.due.get(task)
    if item != ITEM_NONE or due_us is None or now_us < due_us or state.quarantined:
        return False
    open_task(state, task, effects)
    return True


def request_cancel(
    state: ExecutionState,
    reason: str,
    actor: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> bool:
    """Cancel the execution: it ends CANCELLED. False: it has ended, or ends already.

    What has not started is cancelled at once, tasks with `run_if: failure | always` included
    (core/cancels.py says why); open tries are asked to stop and have limits.CANCEL_GRACE_US.
    A quarantined execution gives its open tries up at once.
    """
    return cancels.cancel(state, reason, actor, now_us, effects)


def execution_timed_out(
    state: ExecutionState, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """End an execution whose deadline has come: like a cancel, with the status TIMED_OUT."""
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
    if state.terminal or state.quarantined:
        return False
    if data is not None:
        state.hold_blob(wait.source, data)
    failure = Failure("BLOB_MISSING", f"the blob store has lost {wait.key}")
    waits = len(effects.blobs)
    if wait.task == FINISH:
        if state.unfinished:
            return False
        if data is None:
            write_finish(state, ExecutionStatus.FAILED, None, failure, now_us, effects)
        else:
            finish(state, now_us, effects)
    else:
        if state.statuses[wait.task] != _PENDING or state.remaining[wait.task]:
            return False
        ended: list[int] = []
        if data is None:
            fail_undone(state, wait.task, failure, ended, now_us, effects)
        else:
            judge(state, wait.task, ended, now_us, effects)
        if ended:
            settle(state, ended, now_us, effects)
    if len(effects.blobs) == waits:
        state.drop_blobs()
    return True


def resume(state: ExecutionState, now_us: int, chance: Jitter, effects: Effects) -> None:
    """Bring a folded execution back to life.

    Emits ready for every open try that may run (those already handed out too: the caller knows
    what the queue holds), cancels for those that were asked to stop, timers for what waits; judges
    what a crash left undecided and finishes what it left unfinished. Never writes a row for what
    has one. A quarantined or terminal execution stays as it is. Harmless on a live execution.
    """
    if state.status == _PENDING_EXECUTION:
        _set_running(state, effects)
    history.resume(state, now_us, effects)


def _set_running(state: ExecutionState, effects: Effects) -> None:
    evolve_started(state)
    effects.changes.append(StatusChange(state.start.id, ExecutionStatus.RUNNING, None))


def begin_wait(
    state: ExecutionState,
    task: int,
    item: int,
    try_: int,
    wait: Wait,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> bool:
    """Let an open try of kind WAIT, SIGNAL or APPROVAL begin to wait; writes WAITING.

    A signal that was kept completes it at once; otherwise a `due_us` gets a WAKE timer. An
    approval adds its ApprovalRow. False: the try is not open, waits already, is to stop, or the
    execution is paused or quarantined.
    """
    raise NotImplementedError


def wait_due(
    state: ExecutionState,
    task: int,
    item: int,
    try_: int,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> bool:
    """End a wait whose time has come (timer WAKE): a WAIT completes, the others time out."""
    raise NotImplementedError


def signal(
    state: ExecutionState,
    name: str,
    payload: bytes,
    actor: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> SignalTaken:
    """Give a signal (`payload`: JSON) to the unit that waits for it longest, or keep it."""
    raise NotImplementedError


def decide_approval(
    state: ExecutionState,
    task: int,
    item: int,
    try_: int,
    approved: bool,
    comment: str,
    data: bytes,
    actor: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> bool:
    """Decide a pending approval; `data` is the form's answer, JSON. False: none is pending."""
    raise NotImplementedError


def begin_child(
    state: ExecutionState,
    task: int,
    item: int,
    try_: int,
    child: int,
    public_id: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> bool:
    """Note that a child serves an open try of kind WORKFLOW; commit its start row with the event.

    False: the try is not open or is to stop, or the execution is paused or quarantined: the child
    must not be started. A second call with another child replaces the first.
    """
    raise NotImplementedError


def pause(
    state: ExecutionState, reason: str, actor: str, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Pause: nothing is opened until `unpause`. False: it is paused, is ending, or has ended."""
    raise NotImplementedError


def unpause(
    state: ExecutionState, actor: str, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Go on after a pause; adds a Reopen with the moved deadline. False: it is not paused."""
    raise NotImplementedError


def retry(
    state: ExecutionState, reason: str, actor: str, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Open a new run that does again what failed or was cancelled, and all after it.

    False: the run completed, was compensated, or has not ended (and did not pause because a task
    failed).
    """
    raise NotImplementedError


def reset(
    state: ExecutionState,
    task: int,
    reason: str,
    actor: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> bool:
    """Open a new run that also does a task of the main phase and all after it again.

    False: the run has not ended, was compensated, or there is no such task.
    """
    raise NotImplementedError
