"""Events of a watch: what they hold, their opaque cursor, and their gRPC, SSE and NDJSON forms."""

import base64
import struct
from typing import NamedTuple, cast

import orjson
from google.api.httpbody_pb2 import HttpBody

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import execution_pb2
from bend_server.core.errors import InvalidInput
from bend_server.core.times import rfc3339
from bend_server.rpc.messages import run_id_text
from bend_server.rpc.times import stamp

EXECUTION, TASK, PARTIAL, LOG, GAP, KEEPALIVE = range(1, 7)
TYPE_WORDS = ("", "execution", "task", "partial", "log", "gap", "keepalive")
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
RECONNECT_MS = 2000

_CURSOR = struct.Struct(">BQqQQ")
_VERSION = 1


class Position(NamedTuple):
    """Where a watch is: the last durable seq, and the last frame of which making of CHUNKS.

    `seq` -1: only the first event (the execution's start) was shown.
    """

    seq: int
    stream: int
    sequence: int

    def cursor(self, execution: int) -> str:
        """Return the opaque text for a client."""
        packed = _CURSOR.pack(_VERSION, execution, self.seq, self.stream, self.sequence)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def read_cursor(text: str, execution: int) -> Position:
    """Return the position in a cursor.

    Raises:
        InvalidInput: INVALID_CURSOR, garbled or of another execution.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        version, owner, seq, stream, sequence = _CURSOR.unpack(raw)
    except (ValueError, struct.error):
        version = owner = 0
        seq = stream = sequence = 0
    if version != _VERSION or owner != execution or seq < -1:
        raise InvalidInput(
            "the cursor does not belong to this execution", reason="INVALID_CURSOR", field="cursor"
        )
    return Position(seq, stream, sequence)


class Event(NamedTuple):
    """One thing that happened. `data` is JSON or empty; `run_id` 0: none."""

    cursor: str
    time_us: int
    kind: int
    task: str = ""
    item: int = -1
    attempt: int = 0
    run_id: int = 0
    status: str = ""
    data: bytes = b""
    terminal: bool = False


def to_message(event: Event) -> pb.WatchExecutionResponse:
    """Return the gRPC form."""
    response = pb.WatchExecutionResponse()
    message = response.event
    message.cursor = event.cursor
    message.type = cast("execution_pb2.WatchEvent.Type", event.kind)
    message.task = event.task
    message.item = event.item
    message.attempt = event.attempt
    message.run_id = run_id_text(event.run_id)
    message.status = event.status
    message.data = event.data
    message.terminal = event.terminal
    stamp(message.time, event.time_us)
    return response


def to_json(event: Event) -> bytes:
    """Return the JSON that REST shows, one line."""
    return orjson.dumps(
        {
            "cursor": event.cursor,
            "time": rfc3339(event.time_us),
            "type": TYPE_WORDS[event.kind],
            "task": event.task,
            "item": event.item,
            "attempt": event.attempt,
            "run_id": run_id_text(event.run_id),
            "status": event.status,
            "data": orjson.Fragment(_one_line(event.data)) if event.data else None,
            "terminal": event.terminal,
        }
    )


def _one_line(data: bytes) -> bytes:
    """Payloads are kept as they came, and pretty-printed JSON would break a line-based stream.

    Outside of strings a line break is white space; inside them JSON forbids it.
    """
    if b"\n" in data or b"\r" in data:
        return data.replace(b"\r", b" ").replace(b"\n", b" ")
    return data


class Framing:
    """The form of a watch that came by REST: SSE or NDJSON, by what the client accepts."""

    def __init__(self, accept: str) -> None:
        self._sse = SSE in accept
        self._type = SSE if self._sse else NDJSON
        self._first = True

    def frame(self, event: Event) -> pb.WatchExecutionResponse:
        """Return one event as a piece of the HTTP body."""
        if not self._sse:
            data = to_json(event) + b"\n"
        elif event.kind == KEEPALIVE:
            data = b": keepalive\n\n"
        else:
            data = b"id: %b\ndata: %b\n\n" % (event.cursor.encode(), to_json(event))
        if self._first and self._sse:
            data = b"retry: %d\n\n" % RECONNECT_MS + data
        self._first = False
        return pb.WatchExecutionResponse(body=HttpBody(content_type=self._type, data=data))
