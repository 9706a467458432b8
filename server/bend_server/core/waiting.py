"""Waits, signals and approvals: the engine's own types that need nobody to run them."""

import orjson

from bend_server.core import limits
from bend_server.core.effects import Effects
from bend_server.core.model import (
    ApprovalRow,
    EventKind,
    Failure,
    Outcome,
    TaskKind,
    TaskStatus,
)
from bend_server.core.opening import wake_timer
from bend_server.core.outcomes import take
from bend_server.core.readiness import settle
from bend_server.core.retries import Jitter
from bend_server.core.rows import write_event
from bend_server.core.state import ExecutionState
from bend_server.core.stops import APPROVED, CLOSED, REJECTED, close_approval
from bend_server.core.times import rfc3339
from bend_server.core.waits import SignalTaken, Wait, Waiting, signal_body

_WAITING = int(TaskStatus.WAITING)
_COMPLETED = int(TaskStatus.COMPLETED)
_TIMED_OUT = int(TaskStatus.TIMED_OUT)

SIGNAL_TIMEOUT = "SIGNAL_TIMEOUT"
APPROVAL_TIMEOUT = "APPROVAL_TIMEOUT"


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
    if not may_begin(state, task, item, try_):
        return False
    units, index = state.unit(task, item)
    if units.statuses[index] == _WAITING:
        return False
    body = orjson.dumps(
        {
            "kind": int(wait.kind),
            "due_us": wait.due_us,
            "name": wait.name,
            "title": wait.title,
            "try": try_,
        }
    )
    write_event(state, EventKind.WAITING, body, now_us, effects, task=task, item=item)
    if wait.kind == TaskKind.APPROVAL:
        start = state.start
        row = ApprovalRow(
            execution=start.id,
            task=task,
            item=item,
            try_=try_,
            namespace=start.namespace,
            public_id=start.public_id,
            workflow=start.workflow,
            task_id=state.plan.tasks[task].id,
            title=wait.title,
            assignees=wait.assignees,
            form=wait.form,
            created_us=now_us,
            expires_us=wait.due_us,
        )
        effects.approvals.append(row)
    if wait.due_us:
        effects.timers.append(wake_timer(state, task, item, wait.due_us))
    if not take_payload(state, task, item, now_us, chance, effects):
        settle(state, [], now_us, effects)
    return True


def may_begin(state: ExecutionState, task: int, item: int, try_: int) -> bool:
    """Return whether an open try may begin what it waits for now."""
    return (
        not (state.terminal or state.quarantined or state.paused)
        and state.has_unit(task, item)
        and state.open_try(task, item) == try_
        and not state.stopping(task)
    )


def wait_due(
    state: ExecutionState,
    task: int,
    item: int,
    try_: int,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> bool:
    """End a wait whose time has come (timer WAKE): a WAIT completes, the others time out.

    False: the unit does not wait with this try, it is early, or the execution is paused.
    """
    waiting = _waits(state, task, item, try_)
    if waiting is None or state.paused or not waiting.due_us or now_us < waiting.due_us:
        return False
    if waiting.kind == TaskKind.WAIT:
        _end(state, task, item, waiting, b"null", None, now_us, chance, effects)
        return True
    close_approval(state, task, item, CLOSED, "", "", now_us, effects)
    if waiting.kind == TaskKind.SIGNAL:
        failure = Failure(SIGNAL_TIMEOUT, f"no signal {waiting.name} came in time")
    else:
        failure = Failure(APPROVAL_TIMEOUT, "nobody decided in time")
    _end(state, task, item, waiting, None, failure, now_us, chance, effects)
    return True


def signal(
    state: ExecutionState,
    name: str,
    payload: bytes,
    actor: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> SignalTaken:
    """Give a signal (`payload`: JSON) to the unit that waits for it longest, or keep it.

    FULL: limits.SIGNALS_BUFFERED_MAX are kept, or the history is full. ENDED: the run has ended or
    is in quarantine. Neither writes anything.
    """
    if state.terminal or state.quarantined:
        return SignalTaken.ENDED
    control = state.control
    listeners = None if control is None else control.listeners.get(name)
    key = next(iter(listeners)) if listeners else None
    if key is None and (
        (control is not None and control.signals_kept >= limits.SIGNALS_BUFFERED_MAX)
        or state.seq >= limits.HISTORY_ROWS_MAX
    ):
        return SignalTaken.FULL
    write_event(
        state, EventKind.SIGNALLED, signal_body(name, payload), now_us, effects, actor=actor
    )
    if key is None:
        settle(state, [], now_us, effects)
        return SignalTaken.KEPT
    take_payload(state, *key, now_us, chance, effects)
    return SignalTaken.DELIVERED


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
    """Decide a pending approval; `data` is the form's answer, JSON (empty: none).

    A no completes the task too: conditions branch on `approved`. False: none is pending.
    """
    waiting = _waits(state, task, item, try_)
    if waiting is None or waiting.kind != TaskKind.APPROVAL:
        return False
    decision: dict[str, object] = {
        "approved": approved,
        "comment": comment,
        "data": orjson.Fragment(data or b"null"),
    }
    body = orjson.dumps(decision)
    write_event(state, EventKind.DECIDED, body, now_us, effects, actor=actor, task=task, item=item)
    status = APPROVED if approved else REJECTED
    close_approval(state, task, item, status, actor, comment, now_us, effects)
    output = orjson.dumps(decision | {"decided_by": actor, "decided_at": rfc3339(now_us)})
    _end(state, task, item, waiting, output, None, now_us, chance, effects)
    return True


def take_payload(
    state: ExecutionState, task: int, item: int, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Complete a unit that has got its signal; False: it has none."""
    waiting = state.waiting(task, item)
    if waiting is None or waiting.payload is None:
        return False
    _end(state, task, item, waiting, waiting.payload, None, now_us, chance, effects)
    return True


def _waits(state: ExecutionState, task: int, item: int, try_: int) -> Waiting | None:
    if state.terminal or state.quarantined:
        return None
    waiting = state.waiting(task, item)
    return None if waiting is None or waiting.try_ != try_ else waiting


def _end(
    state: ExecutionState,
    task: int,
    item: int,
    waiting: Waiting,
    output: bytes | None,
    failure: Failure | None,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> None:
    """Write the result row of a wait that is over."""
    status = _COMPLETED if failure is None else _TIMED_OUT
    outcome = Outcome(
        task,
        item,
        waiting.try_,
        status,
        output,
        None,
        failure,
        "",
        0,
        0,
        waiting.since_us,
        now_us,
    )
    units, index = state.unit(task, item)
    take(state, units, index, outcome, now_us, chance, effects)
