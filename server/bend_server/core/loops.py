"""`repeat`: rounds over one unit.

After the last round (`max`) the loop ends with the last output. A loop that is asked to stop
between two rounds is CANCELLED, and a retry goes on with its next round.
"""

import orjson

from bend_server.core import limits
from bend_server.core.effects import BlobWait, Effects
from bend_server.core.evolve import IN_DOUBT
from bend_server.core.failures import expression_failure
from bend_server.core.model import EventKind, Failure, Outcome, TaskStatus
from bend_server.core.opening import open_unit, retry_timer
from bend_server.core.plan import ExpressionError, NeedsBlob, RepeatPlan
from bend_server.core.rows import write_decision, write_event, write_outcome
from bend_server.core.scope import unit_scope
from bend_server.core.state import BlobOutput, ExecutionState
from bend_server.core.stops import give_up

_COMPLETED = int(TaskStatus.COMPLETED)
_FAILED = int(TaskStatus.FAILED)


def end_round(
    state: ExecutionState, outcome: Outcome, repeat: RepeatPlan, now_us: int, effects: Effects
) -> bool:
    """Write the row of a completed round; return whether its unit is terminal."""
    task, item = outcome.task, outcome.item
    rounds = state.iteration(task, item) + 1
    full = state.seq >= limits.HISTORY_ROWS_MAX
    if rounds >= min(repeat.rounds_max, limits.ROUNDS_MAX) or full:
        write_outcome(state, outcome, _COMPLETED, None, None, effects)
        return True
    try:
        output = outcome.output if outcome.blob is None else BlobOutput(outcome.blob)
        goes_on = _goes_on(state, task, item, repeat, output)
    except NeedsBlob as need:
        write_outcome(state, outcome, _COMPLETED, None, IN_DOUBT, effects)
        if state.stopping(task):
            give_up(state, task, item, now_us, effects)
            return True
        effects.blobs.append(BlobWait(state, task, need.task, need.key, need.item, item))
        return False
    except ExpressionError as error:
        write_outcome(state, outcome, _FAILED, expression_failure(error), None, effects)
        return True
    if not goes_on:
        write_outcome(state, outcome, _COMPLETED, None, None, effects)
        return True
    write_outcome(state, outcome, _COMPLETED, None, now_us + repeat.delay_us, effects)
    return _next_round(state, task, item, now_us, effects)


def _goes_on(
    state: ExecutionState,
    task: int,
    item: int,
    repeat: RepeatPlan,
    output: bytes | BlobOutput | None,
) -> bool:
    """Ask a loop's expression. Raises NeedsBlob, ExpressionError."""
    if isinstance(output, BlobOutput):
        if output.data is None:
            raise NeedsBlob(task, output.key, item)
        output = output.data
    return repeat.goes_on(unit_scope(state, task, item), output or b"null")


def _next_round(state: ExecutionState, task: int, item: int, now_us: int, effects: Effects) -> bool:
    """Wait for the next round, or open it; True: it was cancelled instead."""
    if state.stopping(task):
        give_up(state, task, item, now_us, effects)
        return True
    if state.paused:
        return False
    units, index = state.unit(task, item)
    due_us = (units.due or {}).get(index, 0)
    if due_us <= now_us:
        open_unit(state, task, item, now_us, effects)
    else:
        effects.timers.append(retry_timer(state, task, item, due_us))
    return False


def decide(
    state: ExecutionState,
    task: int,
    item: int,
    lost: str | None,
    now_us: int,
    effects: Effects,
) -> bool:
    """Decide about a loop that was in doubt; return whether its unit is terminal.

    Args:
        lost: a blob's key when the store no longer has it: the unit fails.
    """
    repeat = state.plan.tasks[task].repeat
    failure: Failure | None = None
    if lost is not None:
        failure = Failure("BLOB_MISSING", f"the blob store has lost {lost}")
    elif repeat is not None:
        try:
            if _goes_on(state, task, item, repeat, state.output(task, item)):
                _write_verdict(state, task, item, now_us, effects, again=True)
                return _next_round(state, task, item, now_us, effects)
        except NeedsBlob as need:
            effects.blobs.append(BlobWait(state, task, need.task, need.key, need.item, item))
            return False
        except ExpressionError as error:
            failure = expression_failure(error)
    if failure is not None:
        write_decision(state, task, TaskStatus.FAILED, failure, now_us, effects, item=item)
        return True
    _write_verdict(state, task, item, now_us, effects, again=False)
    return True


def _write_verdict(
    state: ExecutionState, task: int, item: int, now_us: int, effects: Effects, *, again: bool
) -> None:
    body = orjson.dumps({"again": again})
    write_event(state, EventKind.LOOP_ENDED, body, now_us, effects, task=task, item=item)
