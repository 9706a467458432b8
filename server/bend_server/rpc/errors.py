"""The only table from domain errors to gRPC status; REST shows the same through the gateway."""

import secrets

import grpc
import structlog
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from bend_server.core.errors import (
    AlreadyExists,
    Conflict,
    CorruptHistory,
    DependencyDown,
    DomainError,
    Finding,
    InvalidDocument,
    InvalidInput,
    InvariantBroken,
    LimitExceeded,
    NotFound,
    NotPermitted,
    Unauthenticated,
    WrongState,
)
from bend_server.ports.queue import QueueDown

DOMAIN = "bend.v1"
DETAILS_KEY = "grpc-status-details-bin"
# gRPC cuts a call whose trailers are over 16 KiB and some peers warn above 8.
DETAILS_BYTES_MAX = 5000
MESSAGE_CHARS_MAX = 900
FIELD_CHARS_MAX = 300
RETRY_MS = {"DEPENDENCY_DOWN": 500, "OVERLOADED": 1000, "OWNERSHIP_MOVED": 50}

CODES: dict[type[DomainError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    Conflict: grpc.StatusCode.ABORTED,
    LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    DependencyDown: grpc.StatusCode.UNAVAILABLE,
    CorruptHistory: grpc.StatusCode.DATA_LOSS,
    InvariantBroken: grpc.StatusCode.INTERNAL,
}

_log = structlog.get_logger(__name__)


class InvalidRequest(InvalidInput):
    """Fields of the request break their limits; `findings` name each with its path."""

    def __init__(self, findings: list[Finding]) -> None:
        first = findings[0]
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        super().__init__(f"{first.path}: {first.message}{more}", field=first.path)
        self.findings = findings


def code_of(error: DomainError) -> grpc.StatusCode:
    """Return the gRPC code of an error: that of its nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.INTERNAL


def status_of(error: DomainError) -> status_pb2.Status:
    """Return the whole status: code, text, ErrorInfo, and what else helps the caller.

    Findings that do not fit into a trailer are left out from the end; the text says how many
    there are.
    """
    code = code_of(error)
    status = status_pb2.Status(code=code.value[0], message=error.message[:MESSAGE_CHARS_MAX])
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in error.metadata.items():
        info.metadata[key] = value[:FIELD_CHARS_MAX]
    _add(status, info)
    if error.reason in RETRY_MS:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(RETRY_MS[error.reason])
        _add(status, retry)
    if isinstance(error, WrongState):
        failure = error_details_pb2.PreconditionFailure()
        failure.violations.add(
            type=error.reason,
            subject=next(iter(error.metadata.values()), "")[:FIELD_CHARS_MAX],
            description=error.message[:FIELD_CHARS_MAX],
        )
        _add(status, failure)
    if isinstance(error, InvalidDocument | InvalidRequest):
        _add(status, _bad_request(error.findings, DETAILS_BYTES_MAX - status.ByteSize()))
    elif isinstance(error, InvalidInput) and "field" in error.metadata:
        finding = Finding(error.reason, error.message, error.metadata["field"])
        _add(status, _bad_request([finding], DETAILS_BYTES_MAX - status.ByteSize()))
    return status


def _add(status: status_pb2.Status, detail: object) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)  # type: ignore[arg-type]
    if status.ByteSize() + packed.ByteSize() <= DETAILS_BYTES_MAX:
        status.details.append(packed)


def _bad_request(findings: list[Finding], room: int) -> error_details_pb2.BadRequest:
    request = error_details_pb2.BadRequest()
    for finding in findings:
        place = f"{finding.line}:{finding.column}: " if finding.line else ""
        request.field_violations.add(
            field=finding.path[:FIELD_CHARS_MAX],
            description=(place + finding.message)[:FIELD_CHARS_MAX],
            reason=finding.reason,
        )
        if request.ByteSize() > room - 100:
            del request.field_violations[-1]
            break
    return request


def neutral(error: BaseException, method: str) -> status_pb2.Status:
    """Log a fault of ours in full, and return a status that tells nothing but the log's id."""
    log_id = secrets.token_hex(8)
    _log.error("rpc_failed", method=method, log_id=log_id, exc_info=error)
    status = status_pb2.Status(
        code=grpc.StatusCode.INTERNAL.value[0],
        message=f"internal error; the log has it under {log_id}",
    )
    _add(
        status,
        error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"log_id": log_id}),
    )
    return status


def late(method: str) -> status_pb2.Status:
    """Return the status of a call that the server ended at its own bound."""
    status = status_pb2.Status(
        code=grpc.StatusCode.DEADLINE_EXCEEDED.value[0],
        message=f"{method} did not end in time; its outcome is unknown",
    )
    info = error_details_pb2.ErrorInfo(reason="DEPENDENCY_DOWN", domain=DOMAIN)
    _add(status, info)
    return status


def translate(error: BaseException, method: str) -> status_pb2.Status:
    """Return the status for whatever a servicer raised."""
    if isinstance(error, InvariantBroken):
        return neutral(error, method)
    if isinstance(error, DomainError):
        return status_of(error)
    if isinstance(error, QueueDown):
        return status_of(DependencyDown("the queue cannot be reached", dependency="queue"))
    if isinstance(error, TimeoutError):
        return late(method)
    return neutral(error, method)
