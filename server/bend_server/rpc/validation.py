"""Limits that the protos state, checked before a servicer sees a message."""

from collections.abc import Callable
from typing import Any

import orjson
import protovalidate
from google.protobuf.message import DecodeError, Message

from bend_server.core.errors import Finding
from bend_server.rpc.errors import InvalidRequest

FINDINGS_MAX = 20
UNREADABLE_TEXT = "these bytes are not the message of this RPC, or a text in them is not UTF-8"
UNREADABLE = object()
"""Stands in for a message that could not be parsed: gRPC itself would answer UNKNOWN."""


def reading(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a deserializer that gives UNREADABLE for bytes that `parse` refuses."""

    def read(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return UNREADABLE

    return read


def check_readable(message: object) -> None:
    """Refuse what `reading` could not parse. Raises InvalidRequest."""
    if message is UNREADABLE:
        raise InvalidRequest([Finding("INVALID_REQUEST", UNREADABLE_TEXT, "message")])


def check(message: Message) -> None:
    """Check a message against the limits in its proto (about 1 µs for a small one).

    Raises:
        InvalidRequest: naming each field that breaks its limit, at most 20.
    """
    check_readable(message)
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
