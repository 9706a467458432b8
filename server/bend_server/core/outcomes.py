"""What came of a try: the verb `apply`, for tasks and items alike."""

from bend_server.core import limits
from bend_server.core.effects import Effects
from bend_server.core.evolve import evolve_open
from bend_server.core.failures import failure_of
from bend_server.core.fans import go_on
from bend_server.core.loops import end_round
from bend_server.core.model import ITEM_NONE, Failure, Outcome, Phase, TaskKind, TaskStatus
from bend_server.core.opening import retry_timer
from bend_server.core.readiness import settle
from bend_server.core.retries import Jitter, next_attempt_us
from bend_server.core.rows import write_outcome
from bend_server.core.state import ExecutionState
from bend_server.core.units import Units

_PENDING = int(TaskStatus.PENDING)
_SCHEDULED = int(TaskStatus.SCHEDULED)
_RUNNING = int(TaskStatus.RUNNING)
_WAITING = int(TaskStatus.WAITING)
_COMPLETED = int(TaskStatus.COMPLETED)
_CANCELLED = int(TaskStatus.CANCELLED)
_FAILED = int(TaskStatus.FAILED)
_TIMED_OUT = int(TaskStatus.TIMED_OUT)
_ENDS = (_COMPLETED, _FAILED, _TIMED_OUT, _CANCELLED)
_COMPONENT = int(TaskKind.COMPONENT)
_COMPENSATION = int(Phase.COMPENSATION)


def apply(
    state: ExecutionState, outcome: Outcome, now_us: int, chance: Jitter, effects: Effects
) -> bool:
    """Take in what came of a try. False: stale or duplicate, nothing changed.

    Only the open try counts, and after a recovery the next one of a unit that waits: its outcome
    proves that it was opened. While an execution is ending, an outcome of a task that was asked
    to stop is stored as it is: COMPLETED stays COMPLETED, and nothing is retried. A CANCELLED
    that nobody asked for is a failure with the reason CANCELLED.

    Args:
        outcome: status COMPLETED, FAILED, TIMED_OUT or CANCELLED. A rendering failure is an
            outcome too, made by the engine: FAILED, EXPRESSION_ERROR, not retryable.
    """
    task = outcome.task
    item = outcome.item
    if state.quarantined or not 0 <= task < len(state.statuses) or outcome.status not in _ENDS:
        return False
    units: Units = state
    index = task
    if item == ITEM_NONE and state.plan.plain:
        if (
            outcome.status == _COMPLETED
            and outcome.try_ == state.tries[task]
            and _SCHEDULED <= state.statuses[task] <= _RUNNING
        ):  # nearly every outcome there is
            write_outcome(state, outcome, _COMPLETED, None, None, effects)
            settle(state, [task], now_us, effects)
            return True
    else:
        if not state.has_unit(task, item) or (item == ITEM_NONE and task in (state.fans or ())):
            return False
        units, index = state.unit(task, item)
    if not _SCHEDULED <= units.statuses[index] <= _RUNNING:
        if not _was_opened(state, units, index, outcome):
            return False
        evolve_open(state, task, item)
    elif outcome.try_ != units.tries[index]:
        return False
    take(state, units, index, outcome, now_us, chance, effects)
    return True


def take(
    state: ExecutionState,
    units: Units,
    index: int,
    outcome: Outcome,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> None:
    """Write the row of an open try's outcome, and follow what it brings about."""
    first = 0
    item = outcome.item
    if item != ITEM_NONE:
        fan = state.fan(outcome.task)
        first = 0 if fan is None else fan.next
    if outcome.status == _COMPLETED:
        repeat = state.plan.tasks[outcome.task].repeat
        over = True
        if repeat is None:
            write_outcome(state, outcome, _COMPLETED, None, None, effects)
        else:
            over = end_round(state, outcome, repeat, now_us, effects)
    else:
        over = _apply_failure(state, units, index, outcome, now_us, chance, effects)
    if over:
        follow(state, outcome.task, item, first, now_us, effects)
    elif state.seq >= limits.HISTORY_ROWS_MAX:
        settle(state, [], now_us, effects)


def follow(
    state: ExecutionState, task: int, item: int, first: int, now_us: int, effects: Effects
) -> None:
    """Follow what a unit that became terminal brings about.

    Args:
        first: for an item, its fan's `next` before: those after it have been admitted by the row.
    """
    ended: list[int] = []
    if item == ITEM_NONE:
        ended.append(task)
    elif state.plan.tasks[task].phase != _COMPENSATION:
        go_on(state, task, first, ended, now_us, effects)
        if not ended and state.seq < limits.HISTORY_ROWS_MAX:
            return
    settle(state, ended, now_us, effects)


def _was_opened(state: ExecutionState, units: Units, index: int, outcome: Outcome) -> bool:
    """Return whether an outcome proves that its try was opened before a recovery.

    A folded execution may not know that yet: the condition waits for its blob again, or a backoff
    ends a moment later by the new owner's clock. The next try has an outcome only if it was open.
    """
    if outcome.try_ != units.tries[index] + 1 or state.terminal:
        return False
    task, item = outcome.task, outcome.item
    status = units.statuses[index]
    if status == _WAITING:
        return state.waiting(task, item) is None and not units.in_doubt(index)
    if status != _PENDING:
        return False
    if state.plan.tasks[task].phase == _COMPENSATION:
        undoing = state.undoing()
        return undoing is not None and undoing == (state.plan.tasks[task].compensates, item)
    if item == ITEM_NONE:
        return (
            not state.remaining[task]
            and task < state.taking_part
            and state.plan.tasks[task].for_each is None
        )
    fan = state.fan(task)
    return fan is not None and item < fan.next


def _apply_failure(
    state: ExecutionState,
    units: Units,
    index: int,
    outcome: Outcome,
    now_us: int,
    chance: Jitter,
    effects: Effects,
) -> bool:
    """Write the row of a try that did not complete; return whether the unit became terminal."""
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
    firsts = units.firsts
    first_us = None if firsts is None else firsts.get(index)
    plan = state.plan.tasks[task]
    judged = failure
    timed_out = status == _TIMED_OUT
    if plan.kind != _COMPONENT:
        # Nothing gets better by itself here: only what `retry.on` names is tried again.
        judged = failure._replace(retryable=failure.reason in plan.retry.on)
        timed_out = False
    due_us = next_attempt_us(
        plan.retry,
        judged,
        timed_out=timed_out,
        attempt=units.unit_attempt(index),
        first_us=first_us or outcome.started_us or outcome.finished_us,
        now_us=now_us,
        chance=chance,
    )
    if due_us is not None and state.seq >= limits.HISTORY_ROWS_MAX:
        due_us = None
    write_outcome(state, outcome, status, failure, due_us, effects)
    if due_us is None:
        return True
    effects.timers.append(retry_timer(state, task, outcome.item, due_us))
    return False
