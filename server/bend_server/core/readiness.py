"""Which tasks run next: dependency counters, run_if, conditions. Iterative, for long chains."""

from bend_server.core import limits
from bend_server.core.effects import BlobWait, Effects, Ready
from bend_server.core.endings import finish
from bend_server.core.evolve import evolve_open
from bend_server.core.failures import begin_failing, fails_execution
from bend_server.core.model import ITEM_NONE, Failure, RunIf, TaskStatus
from bend_server.core.plan import ExpressionError, NeedsBlob, TaskPlan
from bend_server.core.rows import write_decision
from bend_server.core.scope import ExecutionScope
from bend_server.core.state import ExecutionState
from bend_server.core.stops import CAUSE

_PENDING = int(TaskStatus.PENDING)
_FAILED = int(TaskStatus.FAILED)
_TIMED_OUT = int(TaskStatus.TIMED_OUT)
_CANCELLED = int(TaskStatus.CANCELLED)
_SUCCESS = int(RunIf.SUCCESS)

_FAILURES = (_FAILED, _TIMED_OUT)

_new = tuple.__new__


def settle(state: ExecutionState, ended: list[int], now_us: int, effects: Effects) -> None:
    """Follow what tasks that just became terminal bring about, to the end.

    Successors are judged, skips and cancels cascade, a failure starts the failing phase, and the
    run is finished when nothing is left.

    Args:
        ended: tasks that became terminal; used up by the call.
    """
    tasks = state.plan.tasks
    remaining = state.remaining
    statuses = state.statuses
    for task in ended:  # grows while it is read: first in, first out
        status = statuses[task]
        if status in _FAILURES and not state.ending and fails_execution(state, task):
            ended.extend(begin_failing(state, task, now_us, effects))
        for successor in tasks[task].successors:
            if not remaining[successor] and statuses[successor] == _PENDING:
                judge(state, successor, ended, now_us, effects)
    if not state.unfinished:
        finish(state, now_us, effects)


def judge(
    state: ExecutionState, task: int, ended: list[int], now_us: int, effects: Effects
) -> None:
    """Decide about a PENDING task whose dependencies are all terminal.

    It is opened, skipped, cancelled or failed, or waits for a blob that its condition needs. A
    failure starts the failing phase at once, before anything else is judged.

    Args:
        ended: takes the tasks that became terminal.
    """
    plan = state.plan.tasks[task]
    verdict = _run_if(state, plan)
    if verdict:
        failure = CAUSE.get(state.ending) if verdict == _CANCELLED else None
        write_decision(state, task, verdict, failure, now_us, effects)
        ended.append(task)
        return
    if plan.condition is not None:
        try:
            met = plan.condition(ExecutionScope(state))
        except NeedsBlob as need:
            effects.blobs.append(BlobWait(state, task, need.task, need.key))
            return
        except ExpressionError as error:
            failure = Failure("EXPRESSION_ERROR", str(error)[: limits.MESSAGE_CHARS_MAX])
            fail_undone(state, task, failure, ended, now_us, effects)
            return
        if not met:
            write_decision(state, task, TaskStatus.SKIPPED, None, now_us, effects)
            ended.append(task)
            return
    open_task(state, task, effects)


def fail_undone(
    state: ExecutionState,
    task: int,
    failure: Failure,
    ended: list[int],
    now_us: int,
    effects: Effects,
) -> None:
    """Fail a PENDING task that could not be judged; `ended` takes what became terminal."""
    write_decision(state, task, TaskStatus.FAILED, failure, now_us, effects)
    ended.append(task)
    if not state.ending and fails_execution(state, task):
        ended.extend(begin_failing(state, task, now_us, effects))


def open_task(state: ExecutionState, task: int, effects: Effects) -> None:
    """Open a task's next try and announce it as ready."""
    try_ = evolve_open(state, task)
    ready: Ready = _new(Ready, (state, task, ITEM_NONE, try_, state.attempt(task), 0))
    effects.ready.append(ready)


def _run_if(state: ExecutionState, plan: TaskPlan) -> int:
    """Return 0 when a task's run_if is met, else the status that it gets."""
    if plan.run_if == _SUCCESS:
        # Outside of an ending every terminal dependency lets its dependents run: a failure that
        # may not would have started the failing phase before anything else was judged.
        return _CANCELLED if state.ending else 0
    if state.ending and state.stopping(plan.index):
        return _CANCELLED
    if plan.run_if == RunIf.FAILURE:
        statuses = state.statuses
        for dependency in plan.dependencies:
            if statuses[dependency] in _FAILURES:
                return 0
        return int(TaskStatus.SKIPPED)
    return 0
