"""What components answer, checked and brought into the form of the RESULTS stream.

A component may send anything: a malformed answer becomes a failed task, never a bad message.
"""

import re
from collections.abc import Sequence

import orjson
import structlog

from bend.internal.v1 import frames_pb2
from bend.v1 import executor_service_pb2 as pb
from bend.v1 import failure_pb2
from bend_server.core import limits
from bend_server.executor.holdings import Held
from bend_server.executor.secrets import Traces, scrub, scrub_text

COMPLETED = frames_pb2.QueuedResult.COMPLETED
FAILED = frames_pb2.QueuedResult.FAILED
TIMED_OUT = frames_pb2.QueuedResult.TIMED_OUT
CANCELLED = frames_pb2.QueuedResult.CANCELLED
DETAILS_BYTES_MAX = 16 * 1024
WARNING_BYTES = int(limits.BLOB_BYTES_MAX * limits.PAYLOAD_WARNING_RATIO)
_log = structlog.get_logger(__name__)
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,127}")
_QUEUED = 96


class Outcome:
    """The end of one try, on its way to the engine."""

    __slots__ = ("blob", "chunks", "failure", "finished_us", "held", "output", "status")

    def __init__(
        self,
        held: Held,
        status: int,
        finished_us: int,
        output: bytes = b"",
        failure: failure_pb2.Failure | None = None,
        chunks: int = 0,
    ) -> None:
        self.held = held
        self.status = status
        self.output = output
        self.blob: tuple[str, int] | None = None
        self.failure = failure
        self.chunks = chunks
        self.finished_us = finished_us

    def size(self) -> int:
        """Return about how many bytes it adds to a frame."""
        failure = self.failure
        return _QUEUED + len(self.output) + (failure.ByteSize() if failure is not None else 0)


def failure(reason: str, message: str, *, retryable: bool = False) -> failure_pb2.Failure:
    """Return a failure of the executor's own."""
    return failure_pb2.Failure(reason=reason, message=message, retryable=retryable)


def scheduled_late() -> failure_pb2.Failure:
    """Return the failure of a try that nobody took in time."""
    return failure("SCHEDULE_TIMEOUT", "no instance took it in time", retryable=True)


def stopped() -> failure_pb2.Failure:
    """Return the failure of a cancelled try."""
    return failure("CANCELLED", "stopped on request")


def read(held: Held, result: pb.TaskResult, finished_us: int) -> Outcome:
    """Return the outcome that a component's answer stands for."""
    kind = result.WhichOneof("outcome")
    chunks = result.chunk_count
    if kind == "output":
        output = result.output
        problem = judge(output)
        if problem is None:
            if len(output) > WARNING_BYTES:
                _log.warning(
                    "output_near_limit",
                    execution=held.queued.execution_id,
                    task=held.queued.task_id,
                    size_bytes=len(output),
                    limit_bytes=limits.BLOB_BYTES_MAX,
                )
            if held.secrets.json:
                output = scrub(output, held.secrets)
            return Outcome(held, COMPLETED, finished_us, output, None, chunks)
        return Outcome(held, FAILED, finished_us, b"", problem, chunks)
    if kind == "failure":
        reason = clean(result.failure, held.secrets)
        return Outcome(held, FAILED, finished_us, b"", reason, chunks)
    if kind == "cancelled":
        problem = stopped()
        return Outcome(held, CANCELLED, finished_us, b"", problem, chunks)
    problem = failure("INVALID_OUTPUT", "the component sent a result without an outcome")
    return Outcome(held, FAILED, finished_us, b"", problem, chunks)


def judge(output: bytes) -> failure_pb2.Failure | None:
    """Return why an output cannot be taken; None when it is JSON of a fitting size."""
    if len(output) > limits.BLOB_BYTES_MAX:
        return failure(
            "OUTPUT_TOO_LARGE",
            f"the output has {len(output)} bytes, the limit is {limits.BLOB_BYTES_MAX}",
        )
    try:
        orjson.loads(output)
    except orjson.JSONDecodeError as error:
        return failure("INVALID_OUTPUT", f"the output is not JSON: {error}"[:500])
    return None


def clean(given: failure_pb2.Failure, secrets: Traces) -> failure_pb2.Failure:
    """Return a component's failure within its limits and without secrets."""
    reason = given.reason if _REASON.fullmatch(given.reason) else "COMPONENT_ERROR"
    message = scrub_text(given.message, secrets).replace("\0", "")
    cleaned = failure_pb2.Failure(
        reason=reason,
        message=message.encode()[: limits.MESSAGE_CHARS_MAX].decode("utf-8", "ignore"),
        retryable=given.retryable,
    )
    if given.HasField("retry_after") and given.retry_after.seconds >= 0:
        cleaned.retry_after.CopyFrom(given.retry_after)
    if given.details and len(given.details) <= DETAILS_BYTES_MAX and is_json(given.details):
        cleaned.details = scrub(given.details, secrets)
    return cleaned


def is_json(data: bytes) -> bool:
    """Tell whether bytes are JSON."""
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


def frame_of(executor: str, outcomes: Sequence[Outcome]) -> bytes:
    """Return a message of the RESULTS stream."""
    frame = frames_pb2.ResultFrame(executor=executor)
    add = frame.results.add
    for outcome in outcomes:
        held = outcome.held
        execution, task, item, try_ = held.key
        result = add(
            execution=execution,
            task=task,
            item=item,
            status=outcome.status,
            output=outcome.output,
            run_id=held.run_id,
            chunk_count=outcome.chunks,
            worker=held.worker,
            started_us=held.started_us,
            finished_us=outcome.finished_us,
            **{"try": try_},
        )
        if outcome.failure is not None:
            result.failure.CopyFrom(outcome.failure)
        if outcome.blob is not None:
            result.blob.key, result.blob.size_bytes = outcome.blob
    return frame.SerializeToString()
