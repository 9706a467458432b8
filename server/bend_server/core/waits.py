"""What a task of the engine's own types waits for: a time, a signal, an approval, a child."""

from enum import IntEnum
from typing import NamedTuple

import orjson


class Wait(NamedTuple):
    """What a unit begins to wait for, rendered from its input.

    Args:
        kind: TaskKind.WAIT, SIGNAL or APPROVAL.
        due_us: when the wait is over (WAIT) or times out, Unix microseconds; 0: never.
        name: the signal's.
        title: the approval's.
        assignees: the approval's, a JSON list of texts.
        form: the approval's JSON Schema; empty: none.
    """

    kind: int
    due_us: int = 0
    name: str = ""
    title: str = ""
    assignees: bytes = b"[]"
    form: bytes = b""


class Waiting(NamedTuple):
    """A unit that waits. `seq` is that of its WAITING row: the order in which signals go.

    `payload` is there between a signal and the result row that takes it, in one verb.
    """

    kind: int
    due_us: int
    name: str
    title: str
    seq: int
    try_: int
    since_us: int
    payload: bytes | None = None


class Child(NamedTuple):
    """The child execution of a unit of kind WORKFLOW.

    `run` is the child's run that serves the try: a child whose stored run is lower was asked to
    retry and has not yet heard of it (ask again with the same ChildWish).
    """

    id: int
    public_id: str
    try_: int
    run: int = 1


class SignalTaken(IntEnum):
    """What became of a signal."""

    DELIVERED = 1
    KEPT = 2
    FULL = 3
    ENDED = 4


_PAYLOAD = b',"payload":'


def signal_body(name: str, payload: bytes) -> bytes:
    """Return the body of a SIGNALLED event; the payload is in it byte for byte."""
    return b'{"name":' + orjson.dumps(name) + _PAYLOAD + payload + b"}"


def read_signal(body: bytes) -> tuple[str, bytes]:
    """Return name and payload of a SIGNALLED event's body."""
    name: str = orjson.loads(body)["name"]
    return name, body[len(b'{"name":' + orjson.dumps(name) + _PAYLOAD) : -1]
