"""Pause: nothing is opened, what comes is stored, and time does not count."""

import orjson

from bend_server.core.effects import Effects
from bend_server.core.failures import write_pause
from bend_server.core.history import revive
from bend_server.core.model import EventKind, ExecutionStatus, Reopen
from bend_server.core.retries import Jitter
from bend_server.core.rows import write_event
from bend_server.core.state import ExecutionState


def pause(
    state: ExecutionState, reason: str, actor: str, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Pause: nothing is opened until `unpause`. False: not RUNNING, or it is ending.

    Open tries run on; their outcomes are stored.
    """
    if state.status != ExecutionStatus.RUNNING or state.ending:
        return False
    write_pause(state, reason, actor, -1, now_us, effects)
    return True


def unpause(
    state: ExecutionState, actor: str, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Go on after a pause; adds a Reopen with the moved deadline. False: it is not paused.

    What became due meanwhile is opened or judged now; every open try is announced again. After a
    pause because of a failed task (on_failure: pause) the failure takes its course.
    """
    control = state.control
    if not state.paused or control is None:
        return False
    deadline_us = state.deadline_us
    if deadline_us:
        deadline_us += max(0, now_us - control.paused_us)
    let_fail = control.paused_by >= 0
    body = orjson.dumps({"deadline_us": deadline_us})
    write_event(state, EventKind.RESUMED, body, now_us, effects, actor=actor)
    effects.reopen(Reopen(state.start.id, state.run, deadline_us))
    revive(state, now_us, chance, effects, let_fail=let_fail)
    return True
