"""Decisions that waited for a blob."""

from bend_server.core import compensation
from bend_server.core.effects import FINISH, BlobWait, Effects
from bend_server.core.failures import fail_undone, fail_whole
from bend_server.core.history import decide_doubt
from bend_server.core.model import Failure, Phase, TaskStatus
from bend_server.core.readiness import judge, settle
from bend_server.core.rows import write_decision
from bend_server.core.state import ExecutionState, Unit

_PENDING = int(TaskStatus.PENDING)
_COMPENSATION = int(Phase.COMPENSATION)


def loaded(
    state: ExecutionState, wait: BlobWait, data: bytes | None, now_us: int, effects: Effects
) -> bool:
    """Decide what waited for a blob; see `machine.blob_loaded`."""
    if state.terminal or state.quarantined or state.paused:
        return False
    if data is not None:
        state.hold_blob(wait.source, data, wait.item)
    waits = len(effects.blobs)
    failure = None
    if data is None:
        failure = Failure("BLOB_MISSING", f"the blob store has lost {wait.key}")
    decided = _decide(state, wait, failure, now_us, effects)
    if decided and len(effects.blobs) == waits:
        state.drop_blobs()
    return decided


def _decide(
    state: ExecutionState, wait: BlobWait, failure: Failure | None, now_us: int, effects: Effects
) -> bool:
    task = wait.task
    if task == FINISH:
        return _decide_finish(state, failure, now_us, effects)
    if not state.has_unit(task, wait.asker):
        return False
    units, index = state.unit(task, wait.asker)
    if units.in_doubt(index):
        lost = None if failure is None else wait.key
        return decide_doubt(state, task, wait.asker, lost, now_us, effects)
    if units.statuses[index] != _PENDING:
        return False
    if state.plan.tasks[task].phase == _COMPENSATION:
        return _decide_compensation(state, (task, wait.asker), failure, now_us, effects)
    return _decide_task(state, task, failure, now_us, effects)


def _decide_finish(
    state: ExecutionState, failure: Failure | None, now_us: int, effects: Effects
) -> bool:
    if state.unfinished or state.ending:
        return False
    ended = [] if failure is None else fail_whole(state, failure, now_us, effects)
    settle(state, ended, now_us, effects)
    return True


def _decide_compensation(
    state: ExecutionState, unit: Unit, failure: Failure | None, now_us: int, effects: Effects
) -> bool:
    undoing = state.undoing()
    if undoing is None or compensation.undoer(state, undoing) != unit:
        return False
    if failure is not None:
        task, item = unit
        write_decision(state, task, TaskStatus.FAILED, failure, now_us, effects, item=item)
    settle(state, [], now_us, effects)
    return True


def _decide_task(
    state: ExecutionState, task: int, failure: Failure | None, now_us: int, effects: Effects
) -> bool:
    if state.remaining[task] or task >= state.taking_part:
        return False
    ended: list[int] = []
    if failure is not None:
        fail_undone(state, task, failure, ended, now_us, effects)
    else:
        judge(state, task, ended, now_us, effects)
    settle(state, ended, now_us, effects)
    return True
