"""New runs of an execution: retry and reset."""

import orjson

from bend_server.core import limits
from bend_server.core.effects import Effects
from bend_server.core.evolve import evolve_queued
from bend_server.core.history import revive
from bend_server.core.model import EventKind, ExecutionStatus, Reopen, StatusChange
from bend_server.core.retries import Jitter
from bend_server.core.rows import write_event
from bend_server.core.state import ExecutionState


def retry(
    state: ExecutionState,
    reason: str,
    actor: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
    *,
    timeout_us: int = 0,
    queued: bool = False,
) -> bool:
    """Open a new run that does again what failed or was cancelled, and all after it.

    `timeout_us` bounds the run besides the workflow's timeout: that of the parent's task; 0: none.
    `queued`: the run is PENDING until `machine.resume`; only after a run that has ended.

    False: the run completed, was compensated, or has not ended (and did not pause because a task
    failed), or its history is full.
    """
    by_failure = state.paused and state.control is not None and state.control.paused_by >= 0
    ended = state.terminal and state.status != ExecutionStatus.COMPLETED
    if not (by_failure or ended) or not _may(state):
        return False
    _open_run(state, EventKind.RETRIED, -1, reason, actor, now_us, effects, timeout_us)
    _begin(state, now_us, chance, effects, queued=queued and ended)
    return True


def reset(
    state: ExecutionState,
    task: int,
    reason: str,
    actor: str,
    now_us: int,
    chance: Jitter,
    effects: Effects,
    *,
    queued: bool = False,
) -> bool:
    """Open a new run that also does a task of the main phase and all after it again.

    False: the run has not ended, was compensated, there is no such task, or its history is full.
    """
    main = state.plan.main_count or len(state.plan.tasks)
    if not state.terminal or not 0 <= task < main or not _may(state):
        return False
    _open_run(state, EventKind.RESET, task, reason, actor, now_us, effects)
    _begin(state, now_us, chance, effects, queued=queued)
    return True


def _may(state: ExecutionState) -> bool:
    return not (state.compensated or state.quarantined or state.seq >= limits.HISTORY_ROWS_MAX)


def _open_run(
    state: ExecutionState,
    kind: EventKind,
    task: int,
    reason: str,
    actor: str,
    now_us: int,
    effects: Effects,
    bound_us: int = 0,
) -> None:
    spans_us = [span_us for span_us in (state.plan.timeout_us, bound_us) if span_us]
    timeout_us = min(spans_us, default=0)
    deadline_us = now_us + timeout_us if timeout_us else 0
    body: dict[str, object] = {
        "reason": reason,
        "deadline_us": deadline_us,
        "finish_seq": state.seq if state.terminal else 0,
    }
    if task >= 0:
        body["task"] = state.plan.tasks[task].id
    write_event(
        state, kind, orjson.dumps(body), now_us, effects, actor=actor, task=task, run=state.run + 1
    )
    effects.reopen(Reopen(state.start.id, state.run, deadline_us))


def _begin(
    state: ExecutionState, now_us: int, chance: Jitter, effects: Effects, *, queued: bool
) -> None:
    """Set a new run going, or let it wait for its turn."""
    if queued:
        evolve_queued(state)
        effects.changes.append(StatusChange(state.start.id, ExecutionStatus.PENDING, None))
    else:
        revive(state, now_us, chance, effects)
