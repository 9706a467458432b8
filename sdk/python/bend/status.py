"""gRPC errors become the SDK's errors, by ErrorInfo's reason first, by status code else."""

from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from bend import errors
from bend.errors import BendError, Finding, InvalidDocument

DETAILS_KEY = "grpc-status-details-bin"
TYPE_PREFIX = "type.googleapis.com/google.rpc."

BY_REASON: dict[str, type[BendError]] = {
    "INVALID_DOCUMENT": errors.InvalidDocument,
    "INVALID_PARAMETERS": errors.InvalidParameters,
    "CONTRACT_MISMATCH": errors.ContractMismatch,
    "PROTOCOL_MISMATCH": errors.ProtocolMismatch,
}

BY_CODE: dict[grpc.StatusCode, type[BendError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.WrongState,
    grpc.StatusCode.ABORTED: errors.Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.LimitExceeded,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.NotPermitted,
    grpc.StatusCode.UNAVAILABLE: errors.Unreachable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unreachable,
}

TORN_CODES = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED)
TORN_SIGNS = ("RST_STREAM", "Stream removed", "GOAWAY", "Socket closed", "Connection reset")


def error_of(failed: Any, url: str = "") -> BendError:
    """Translate a failed call (`grpc.RpcError` of either API) into the SDK's tree.

    Args:
        failed: the error as gRPC raised it.
        url: named in the text when the service did not answer.
    """
    code = failed.code()
    text = failed.details() or ""
    reason, metadata, findings = read_details(failed)
    if not reason and code in TORN_CODES and any(sign in text for sign in TORN_SIGNS):
        # A connection torn in the middle of an answer, which gRPC does not call UNAVAILABLE.
        return errors.Unreachable(
            f"{url} connection lost: {text}".strip(), reason="CONNECTION_LOST", metadata=metadata
        )
    kind = BY_REASON.get(reason) or BY_CODE.get(code, errors.ServerFault)
    if kind is errors.Unreachable and not reason:
        where = f"{url} " if url else ""
        text = text.rpartition("last error: ")[2].removeprefix("UNKNOWN: ")
        problem = (
            "did not answer in time"
            if code is grpc.StatusCode.DEADLINE_EXCEEDED
            else (f"cannot be reached: {text or 'connection failed'}")
        )
        text = f"{where}{problem}".strip()
        reason = code.name
    if code is grpc.StatusCode.UNIMPLEMENTED and not reason:
        text = f"the service does not know this call: {text}"
    if kind is InvalidDocument:
        return InvalidDocument(text, reason=reason, metadata=metadata, findings=findings)
    return kind(text or code.name, reason=reason or code.name, metadata=metadata)


def read_details(failed: Any) -> tuple[str, dict[str, str], list[Finding]]:
    """Return ErrorInfo's reason and metadata, and the field violations as findings."""
    reason, metadata, findings = "", {}, []
    for key, value in failed.trailing_metadata() or ():
        if key != DETAILS_KEY:
            continue
        status = status_pb2.Status.FromString(value)
        for detail in status.details:
            kind = detail.type_url.removeprefix(TYPE_PREFIX)
            if kind == "ErrorInfo":
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                reason, metadata = info.reason, dict(info.metadata)
            elif kind == "BadRequest":
                bad = error_details_pb2.BadRequest.FromString(detail.value)
                findings = [finding_of(violation) for violation in bad.field_violations]
    if not findings and reason == "INVALID_DOCUMENT":
        findings = [
            Finding(
                metadata.get("finding", reason),
                failed.details() or "",
                metadata.get("path", ""),
                int(metadata.get("line") or 0),
                int(metadata.get("column") or 0),
            )
        ]
    return reason, metadata, findings


def finding_of(violation: Any) -> Finding:
    """Read a field violation; a document's has `line:column: text` as its description."""
    line, _, rest = violation.description.partition(":")
    column, _, text = rest.partition(":")
    if line.isdigit() and column.strip().isdigit():
        return Finding(
            violation.reason, text.strip(), violation.field, int(line), int(column.strip())
        )
    return Finding(violation.reason, violation.description, violation.field)
