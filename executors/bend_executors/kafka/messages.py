"""Messages of a task's input as bytes."""

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypedDict

from bend import TerminalError, payloads

Encoding = Literal["json", "text", "base64"]

MESSAGES_MAX = 10_000
HEADERS_MAX = 100
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
IDEMPOTENCY_HEADER = "bend-idempotency-key"


class Message(TypedDict, total=False):
    """One message; `timestamp` is RFC 3339 or milliseconds since 1970."""

    value: Any
    key: str | int | None
    headers: dict[str, str] | None
    partition: int | None
    timestamp: int | datetime | None


class Encoded(NamedTuple):
    """One message as librdkafka takes it; partition -1: by key, timestamp 0: now."""

    value: bytes | None
    key: bytes | None
    headers: list[tuple[str, str | bytes | None]]
    partition: int
    timestamp_ms: int


def encoded(
    messages: list[Message], encoding: Encoding, idempotency_key: str, bytes_max: int
) -> list[Encoded]:
    """Encode all messages before the first is sent, so that a wrong one stops them all.

    Each has the header `bend-idempotency-key`, the same in every attempt of its task.

    Raises TerminalError INVALID_INPUT or KAFKA_MESSAGE_TOO_LARGE, naming the message.
    """
    if not 1 <= len(messages) <= MESSAGES_MAX:
        raise _wrong("messages", f"1 to {MESSAGES_MAX} are wanted, not {len(messages)}")
    found = []
    for at, message in enumerate(messages):
        one = _encoded(message, encoding, f"messages[{at}]", f"{idempotency_key}/{at}")
        size = len(one.value or b"") + len(one.key or b"")
        size += sum(len(name) + len(value or b"") for name, value in one.headers)
        if size > bytes_max:
            raise TerminalError(
                "KAFKA_MESSAGE_TOO_LARGE", f"messages[{at}] has {size} bytes, at most {bytes_max}"
            )
        found.append(one)
    return found


def _encoded(message: Message, encoding: Encoding, place: str, idempotency_key: str) -> Encoded:
    key = message.get("key")
    headers = dict(message.get("headers") or {})
    if len(headers) > HEADERS_MAX:
        raise _wrong(f"{place}.headers", f"at most {HEADERS_MAX} are taken")
    headers.setdefault(IDEMPOTENCY_HEADER, idempotency_key)
    partition = message.get("partition")
    if partition is not None and partition < 0:
        raise _wrong(f"{place}.partition", "must not be negative")
    return Encoded(
        value=_bytes(message.get("value"), encoding, f"{place}.value"),
        key=None if key is None else str(key).encode(),
        headers=[(name, value.encode()) for name, value in headers.items()],
        partition=-1 if partition is None else partition,
        timestamp_ms=_milliseconds(message.get("timestamp"), f"{place}.timestamp"),
    )


def _bytes(value: Any, encoding: Encoding, place: str) -> bytes | None:
    """Return a value's bytes; null is a message without a value, a tombstone."""
    if value is None:
        return None
    if encoding == "json":
        return payloads.dumps(value)
    if not isinstance(value, str):
        raise _wrong(place, f"with the encoding {encoding} a text is wanted")
    if encoding == "text":
        return value.encode()
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise _wrong(place, "is no base64") from None


def _milliseconds(value: int | datetime | None, place: str) -> int:
    if value is None:
        return 0
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _wrong(place, "needs an offset from UTC, such as Z")
        value = int(value.timestamp() * 1000)
    if value <= 0:
        raise _wrong(place, "must be after 1970")
    return value


def rfc3339(timestamp_ms: int) -> str:
    """Return a time as RFC 3339 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _wrong(place: str, text: str) -> TerminalError:
    return TerminalError("INVALID_INPUT", f"{place}: {text}", details={"field": place})
