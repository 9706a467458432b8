"""What a call's status means for the task."""

from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from bend import RetryableError, TerminalError
from bend.errors import ComponentError

# As http's 5xx: INTERNAL and UNKNOWN are also what a crash or a broken proxy looks like.
RETRYABLE = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    )
)
DETAILS_BYTES_MAX = 8 * 1024
RETRY_S_MAX = 86_400.0
# What the library itself says when the answer is over the channel's bound.
TOO_LARGE = "CLIENT: Received message larger than max"
KNOWN = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.QuotaFailure,
    error_details_pb2.ResourceInfo,
)


def failure(error: grpc.aio.AioRpcError, method: str) -> ComponentError:
    """Return the task's error of a call that failed: `GRPC_<CODE>`, with what the server said.

    RetryInfo and grpc-retry-pushback-ms say when; a negative pushback says never.
    """
    code = error.code()
    said = (error.details() or "")[:2000]
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and TOO_LARGE in said:
        return TerminalError("RESPONSE_TOO_LARGE", f"{method}: {said}")
    reason = f"GRPC_{code.name}"
    trailing = dict(error.trailing_metadata() or ())
    more, wait = rich(trailing.get("grpc-status-details-bin"))
    details: dict[str, Any] = {"code": code.name, "method": method}
    if more:
        details["details"] = more
    pushback = trailing.get("grpc-retry-pushback-ms")
    if pushback is not None:
        try:
            asked = int(pushback)
        except ValueError:
            asked = -1
        if asked < 0:
            return TerminalError(reason, f"{method}: {said or code.name}", details=details)
        wait = asked / 1000
    if code in RETRYABLE:
        return RetryableError(
            reason,
            f"{method}: {said or code.name}",
            retry_after=None if wait is None else min(wait, RETRY_S_MAX),
            details=details,
        )
    return TerminalError(reason, f"{method}: {said or code.name}", details=details)


def rich(data: Any) -> tuple[list[dict[str, Any]], float | None]:
    """Return (known details as JSON, seconds of a RetryInfo) of a serialized google.rpc.Status."""
    if not isinstance(data, bytes) or len(data) > DETAILS_BYTES_MAX:
        return [], None
    found: list[dict[str, Any]] = []
    wait: float | None = None
    try:
        for packed in status_pb2.Status.FromString(data).details:
            one = unpacked(packed)
            if isinstance(one, error_details_pb2.RetryInfo):
                wait = max(0.0, one.retry_delay.seconds + one.retry_delay.nanos / 1e9)
            elif one is not None:
                found.append({"type": one.DESCRIPTOR.name} | MessageToDict(one))
    except DecodeError:
        return [], None
    return found, wait


def unpacked(packed: any_pb2.Any) -> Any:
    """Return a detail of a type that we know, else None."""
    for kind in (*KNOWN, error_details_pb2.RetryInfo):
        if packed.Is(kind.DESCRIPTOR):
            one = kind()
            packed.Unpack(one)
            return one
    return None
