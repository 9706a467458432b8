"""Which tasks run next: dependency counters, run_if, conditions. Iterative, for long chains."""

from bend_server.core import limits
from bend_server.core.effects import BlobWait, Effects
from bend_server.core.failures import (
    TOO_LONG,
    expression_failure,
    fail,
    fail_undone,
    fail_whole,
    fails_execution,
)
from bend_server.core.fans import begin_items
from bend_server.core.model import ITEM_NONE, ExecutionStatus, Phase, RunIf, TaskStatus
from bend_server.core.opening import open_unit
from bend_server.core.phases import advance
from bend_server.core.plan import ExpressionError, NeedsBlob, TaskPlan
from bend_server.core.rows import write_decision
from bend_server.core.scope import ExecutionScope
from bend_server.core.state import ExecutionState
from bend_server.core.stops import CAUSE

_PENDING = int(TaskStatus.PENDING)
_COMPLETED = int(TaskStatus.COMPLETED)
_FAILED = int(TaskStatus.FAILED)
_SKIPPED = int(TaskStatus.SKIPPED)
_TIMED_OUT = int(TaskStatus.TIMED_OUT)
_CANCELLED = int(TaskStatus.CANCELLED)
_SUCCESS = int(RunIf.SUCCESS)
_PAUSED = int(ExecutionStatus.PAUSED)
_ON_FAILURE = int(Phase.ON_FAILURE)
_COMPENSATION = int(Phase.COMPENSATION)

_FAILURES = (_FAILED, _TIMED_OUT)


def settle(state: ExecutionState, ended: list[int], now_us: int, effects: Effects) -> None:
    """Follow what tasks that just became terminal bring about, to the end.

    Successors are judged, skips and cancels cascade, a failure starts the failing phase, and when
    nothing of a phase is left, the next one begins or the run is finished. While the execution is
    paused, nothing follows: `machine.unpause` makes up for it.

    Args:
        ended: tasks that became terminal; used up by the call.
    """
    tasks = state.plan.tasks
    remaining = state.remaining
    statuses = state.statuses
    while True:
        for task in ended:  # grows while it is read: first in, first out
            if state.status == _PAUSED and not state.ending:
                return
            status = statuses[task]
            if status in _FAILURES and not state.ending and fails_execution(state, task):
                ended.extend(fail(state, task, now_us, effects))
            for successor in tasks[task].successors:
                if not remaining[successor] and statuses[successor] == _PENDING:
                    judge(state, successor, ended, now_us, effects)
        more = state.unfinished and not state.phase and state.seq < limits.HISTORY_ROWS_MAX
        if more or (state.status == _PAUSED and not state.ending):
            return
        if state.seq >= limits.HISTORY_ROWS_MAX and not state.ending and state.unfinished:
            ended = fail_whole(state, TOO_LONG, now_us, effects)
            continue
        if state.unfinished and state.phase != _COMPENSATION:
            return
        ended = []
        for task in advance(state, now_us, effects):
            if statuses[task] == _PENDING:
                judge(state, task, ended, now_us, effects)
        if not ended:
            return


def judge(
    state: ExecutionState, task: int, ended: list[int], now_us: int, effects: Effects
) -> None:
    """Decide about a PENDING task whose dependencies are all terminal.

    It is opened (or its items are), skipped, cancelled or failed, or waits for a blob that its
    condition or its items need. A failure starts the failing phase at once, before anything else
    is judged. A paused execution's tasks are judged when it goes on.

    Args:
        ended: takes the tasks that became terminal.
    """
    if state.status == _PAUSED and not state.ending:
        return
    plan = state.plan.tasks[task]
    # What `_run_if` says of nearly all tasks, without the cost of a call.
    verdict = _run_if(state, plan) if state.ending or plan.run_if != _SUCCESS else 0
    if verdict:
        failure = CAUSE.get(state.ending) if verdict == _CANCELLED else None
        write_decision(state, task, verdict, failure, now_us, effects)
        ended.append(task)
        return
    if plan.condition is None and plan.for_each is None:
        open_unit(state, task, ITEM_NONE, now_us, effects)
        return
    try:
        if plan.condition is not None and not plan.condition(ExecutionScope(state)):
            write_decision(state, task, TaskStatus.SKIPPED, None, now_us, effects)
            ended.append(task)
        elif plan.for_each is not None:
            begin_items(state, task, ended, now_us, effects)
        else:
            open_unit(state, task, ITEM_NONE, now_us, effects)
    except NeedsBlob as need:
        effects.blobs.append(BlobWait(state, task, need.task, need.key, need.item))
    except ExpressionError as error:
        fail_undone(state, task, expression_failure(error), ended, now_us, effects)


def _run_if(state: ExecutionState, plan: TaskPlan) -> int:
    """Return 0 when a task's run_if is met, else the status that it gets."""
    if plan.phase == _ON_FAILURE and state.ending == _FAILED_EXECUTION:
        return _run_if_on_failure(state, plan)
    if plan.run_if == _SUCCESS:
        # Outside of an ending every terminal dependency lets its dependents run: a failure that
        # may not would have started the failing phase before anything else was judged.
        return _CANCELLED if state.ending else 0
    if state.ending and state.stopping(plan.index):
        return _CANCELLED
    if plan.run_if == RunIf.FAILURE:
        return 0 if _has_failure(state, plan) else _SKIPPED
    return 0


_FAILED_EXECUTION = int(ExecutionStatus.FAILED)


def _has_failure(state: ExecutionState, plan: TaskPlan) -> bool:
    return any(state.statuses[dependency] in _FAILURES for dependency in plan.dependencies)


def _run_if_on_failure(state: ExecutionState, plan: TaskPlan) -> int:
    """Judge a task of `on_failure`: a failure among them stops only what depends on it."""
    if plan.run_if == RunIf.ALWAYS:
        return 0
    if plan.run_if == RunIf.FAILURE:
        return 0 if _has_failure(state, plan) else _SKIPPED
    for dependency in plan.dependencies:
        status = state.statuses[dependency]
        allowed = status in _FAILURES and state.plan.tasks[dependency].allow_failure
        if status not in (_COMPLETED, _SKIPPED) and not allowed:
            return _CANCELLED
    return 0
