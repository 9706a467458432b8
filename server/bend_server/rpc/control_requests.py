"""What REST's raw JSON bodies say about control: made into the gRPC messages they stand for."""

import json
from typing import Any

from google.api.httpbody_pb2 import HttpBody

from bend.v1 import approval_pb2, execution_control_pb2
from bend_server.core import limits
from bend_server.core.errors import InvalidInput, LimitExceeded
from bend_server.rpc import validation
from bend_server.rpc.parameters import invalid, members, strict_json

RERUN_KEYS = frozenset(("parameters", "merge", "revision", "request_id"))
SIGNAL_KEYS = frozenset(("name", "payload", "request_id"))
DECISION_KEYS = frozenset(("approved", "comment", "data"))


def rerun_from_body(
    execution_id: str, body: HttpBody
) -> execution_control_pb2.RerunExecutionRequest:
    """Return the rerun that a body asks for; an empty body means the same input.

    Raises:
        InvalidInput: not a JSON object, unknown keys (with their place), wrong types.
        LimitExceeded: TOO_LARGE.
    """
    raw = members(body.data or b"{}", RERUN_KEYS)
    request = execution_control_pb2.RerunExecutionRequest(execution_id=execution_id)
    if "parameters" in raw:
        request.parameters = raw["parameters"].encode()
    request.merge = _flag(raw, "merge")
    revision = json.loads(raw.get("revision", "0"))
    if not isinstance(revision, int) or isinstance(revision, bool) or not 0 <= revision < 2**31:
        raise invalid("revision must be a whole number from 0", field="revision")
    request.revision = revision
    request.request_id = _text(raw, "request_id")
    validation.check(request)
    return request


def signal_from_body(
    execution_id: str, body: HttpBody
) -> execution_control_pb2.SignalExecutionRequest:
    """Return the signal that a body gives. Raises as `rerun_from_body`."""
    raw = members(body.data, SIGNAL_KEYS)
    request = execution_control_pb2.SignalExecutionRequest(
        execution_id=execution_id, name=_text(raw, "name"), request_id=_text(raw, "request_id")
    )
    request.payload = _payload(raw, "payload", limits.SIGNAL_BYTES_MAX)
    validation.check(request)
    return request


def decision_from_body(approval_id: str, body: HttpBody) -> approval_pb2.DecideApprovalRequest:
    """Return the decision that a body takes. Raises as `rerun_from_body`."""
    raw = members(body.data, DECISION_KEYS)
    if "approved" not in raw:
        raise invalid("approved is missing: true or false", field="approved")
    request = approval_pb2.DecideApprovalRequest(
        approval_id=approval_id, approved=_flag(raw, "approved"), comment=_text(raw, "comment")
    )
    request.data = _payload(raw, "data", limits.SIGNAL_BYTES_MAX)
    validation.check(request)
    return request


def checked_payload(data: bytes, field: str) -> bytes:
    """Return a JSON value as it came, or `null` for none.

    Raises:
        InvalidInput: INVALID_PARAMETERS: not JSON, with its place.
        LimitExceeded: TOO_LARGE.
    """
    if not data:
        return b"null"
    if len(data) > limits.SIGNAL_BYTES_MAX:
        raise too_large(field, len(data))
    strict_json(data, field)
    return data


def merged_object(old: bytes, new: bytes) -> bytes:
    """Return a JSON object with the members of both, those of `new` first; digits are kept."""
    both = members(old, None) | members(new, None)
    inside = ",".join(f"{json.dumps(key)}:{text}" for key, text in both.items())
    return f"{{{inside}}}".encode()


def too_large(field: str, size: int) -> LimitExceeded:
    """Return the error for a payload over its limit."""
    limit = limits.SIGNAL_BYTES_MAX
    return LimitExceeded(
        f"{field} has {size} bytes, the limit is {limit}", field=field, size=size, limit=limit
    )


def check_name(name: str) -> str:
    """Return a signal's name. Raises InvalidInput when it is empty or has a NUL."""
    if not name or "\0" in name:
        raise InvalidInput("name: a signal's name has 1 to 128 characters, no NUL", field="name")
    return name


def _payload(raw: dict[str, str], key: str, bytes_max: int) -> bytes:
    data = raw.get(key, "").encode()
    if len(data) > bytes_max:
        raise too_large(key, len(data))
    return data


def _text(raw: dict[str, str], key: str) -> str:
    value: Any = json.loads(raw.get(key, '""'))
    if not isinstance(value, str):
        raise invalid(f"{key} must be a string", field=key)
    return value


def _flag(raw: dict[str, str], key: str) -> bool:
    value: Any = json.loads(raw.get(key, "false"))
    if not isinstance(value, bool):
        raise invalid(f"{key} must be true or false", field=key)
    return value
