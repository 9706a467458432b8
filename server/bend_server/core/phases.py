"""What follows when all tasks of a phase are terminal: on_failure tasks, compensation, the end."""

from bend_server.core import compensation
from bend_server.core.effects import Effects
from bend_server.core.endings import complete, finish_ending
from bend_server.core.model import EventKind, ExecutionStatus, Phase
from bend_server.core.rows import write_event
from bend_server.core.state import ExecutionState

_FAILED = int(ExecutionStatus.FAILED)
_COMPENSATION = int(Phase.COMPENSATION)


def advance(state: ExecutionState, now_us: int, effects: Effects) -> tuple[int, ...]:
    """Go on after a phase: begin the next one, or finish the run.

    Returns the tasks that have to be judged now.
    """
    if state.phase == _COMPENSATION:
        compensation.go_on(state, now_us, effects)
        return ()
    if not state.ending:
        failure = complete(state, now_us, effects)
        if failure is None:
            return ()
        write_event(state, EventKind.FAILING, failure.to_json(), now_us, effects)
    if not state.quarantined:
        if state.ending == _FAILED and state.phase == Phase.MAIN and state.plan.failure_roots:
            write_event(state, EventKind.HANDLING_FAILURE, b"{}", now_us, effects)
            return state.plan.failure_roots
        if state.control is not None and state.control.undo:
            compensation.begin(state, now_us, effects)
            return ()
    finish_ending(state, now_us, effects)
    return ()
