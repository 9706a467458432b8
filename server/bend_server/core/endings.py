"""The end of a run: its output, its error, its finish row."""

import orjson

from bend_server.core import limits
from bend_server.core.effects import FINISH, BlobWait, Effects
from bend_server.core.failures import expression_failure
from bend_server.core.model import ExecutionStatus, Failure, TaskStatus
from bend_server.core.plan import ExpressionError, NeedsBlob
from bend_server.core.rows import write_finish
from bend_server.core.scope import ExecutionScope
from bend_server.core.state import ExecutionState


def complete(state: ExecutionState, now_us: int, effects: Effects) -> Failure | None:
    """Write the finish row of an execution whose tasks all ended well.

    When the output needs a blob that is not loaded, a BlobWait is added instead and the execution
    stays RUNNING until `machine.blob_loaded`. Returns why there is no output, else None.
    """
    try:
        output = execution_output(state)
    except NeedsBlob as need:
        effects.blobs.append(BlobWait(state, FINISH, need.task, need.key, need.item))
        return None
    except ExpressionError as error:
        return expression_failure(error)
    if len(output) > limits.BLOB_BYTES_MAX:
        return Failure(
            "TOO_LARGE",
            f"the execution's output has {len(output)} bytes, the limit is {limits.BLOB_BYTES_MAX}",
        )
    write_finish(state, ExecutionStatus.COMPLETED, output, None, now_us, effects)
    return None


def finish_ending(state: ExecutionState, now_us: int, effects: Effects) -> None:
    """Write the finish row of an execution that failed, was cancelled or timed out."""
    write_finish(state, state.ending, None, state.error, now_us, effects)


def execution_output(state: ExecutionState) -> bytes:
    """Return the output template's value, or the map of leaf id to output.

    The map has every completed leaf, also when there is only one; skipped leaves are absent.
    Raises NeedsBlob, ExpressionError.
    """
    plan = state.plan
    scope = ExecutionScope(state)
    if plan.output is not None:
        return bytes(memoryview(plan.output(scope)))
    parts: list[bytes] = []
    for leaf in plan.leaves:
        if state.statuses[leaf] == TaskStatus.COMPLETED:
            output = scope.output(leaf)
            name = orjson.dumps(plan.tasks[leaf].id)
            parts.append(name + b":" + (b"null" if output is None else output))
    return b"{" + b",".join(parts) + b"}"
