"""Filling the holes of a task's input: once, and never looking into what was filled in.

A value that comes from a secret or a blob may contain anything, also what looks like a
template or a hole; it is spliced in as JSON and not read again.
"""

import json
import re
from typing import Any

import orjson

from bend.internal.v1 import frames_pb2
from bend_server.core import limits
from bend_server.core.errors import DependencyDown, NotFound
from bend_server.executor.secrets import Traces, traces
from bend_server.ports.blobs import Blobs
from bend_server.ports.links import Secrets


class Unfillable(Exception):
    """A hole has no value: `reason` and text for the task's failure."""

    def __init__(self, reason: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.retryable = retryable


async def fill(
    queued: frames_pb2.QueuedTask, namespace: str, blobs: Blobs, secrets: Secrets, nonce: int
) -> tuple[bytes, Traces]:
    """Return the input with its holes filled, and the traces of the secrets in it.

    Args:
        queued: the task.
        namespace: whose secrets.
        blobs: the blob store.
        secrets: the secret store.
        nonce: random; marks the places to splice at, so that no value can look like one.

    Raises:
        Unfillable: a secret or blob is missing or away, a path does not exist, or the
            result is too large.
    """
    values: list[bytes] = []
    used: list[str] = []
    # Integers keep their digits: orjson would turn large ones into floats.
    document: Any = json.loads(queued.input or b"null")
    room = limits.BLOB_BYTES_MAX
    for index, hole in enumerate(queued.holes):
        value = await _value(hole, namespace, blobs, secrets, used)
        room -= len(value)
        if room < 0:
            # Before they are put together: a blob in each of many holes would fill the memory.
            raise _too_large(limits.BLOB_BYTES_MAX - room)
        values.append(value)
        document = _place(document, hole.path, f"{nonce:016x}-{index}")
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )
    marks = re.compile(b'"%016x-([0-9]+)"' % nonce)
    filled = marks.sub(lambda match: values[int(match[1])], text)
    if len(filled) > limits.BLOB_BYTES_MAX:
        raise _too_large(len(filled))
    return filled, traces(used)


def _too_large(size: int) -> Unfillable:
    return Unfillable(
        "INPUT_TOO_LARGE",
        f"the input has at least {size} bytes, the limit is {limits.BLOB_BYTES_MAX}",
    )


def secret_names(queued: frames_pb2.QueuedTask) -> list[str]:
    """Return the names of the secrets in a task's holes, each once, in order."""
    names = (part.secret for hole in queued.holes for part in hole.parts if part.secret)
    return list(dict.fromkeys(names))


async def traces_of(names: list[str], namespace: str, secrets: Secrets) -> Traces | None:
    """Return the traces of secrets by name; None when one of them cannot be read now."""
    try:
        return traces([await _secret(name, namespace, secrets) for name in names])
    except Unfillable:
        return None


async def _value(
    hole: frames_pb2.Hole, namespace: str, blobs: Blobs, secrets: Secrets, used: list[str]
) -> bytes:
    pieces: list[str] = []
    for part in hole.parts:
        kind = part.WhichOneof("part")
        if kind == "text":
            pieces.append(part.text)
        elif kind == "secret":
            value = await _secret(part.secret, namespace, secrets)
            used.append(value)
            pieces.append(value)
        elif kind == "blob":
            data = await _blob(part.blob.key, namespace, blobs)
            if len(hole.parts) == 1:
                return data
            pieces.append(_text(data))
        else:
            raise Unfillable("INVALID_INPUT", f"the hole at {hole.path!r} has an empty part")
    return orjson.dumps("".join(pieces))


async def _secret(name: str, namespace: str, secrets: Secrets) -> str:
    try:
        value = await secrets.get(namespace, name)
    except DependencyDown as error:
        raise Unfillable("DEPENDENCY_DOWN", "the secret store is away", retryable=True) from error
    if value is None:
        raise Unfillable("SECRET_NOT_FOUND", f"there is no secret {name!r}")
    return value


async def _blob(key: str, namespace: str, blobs: Blobs) -> bytes:
    if key.partition("/")[0] != namespace:
        raise Unfillable("INVALID_INPUT", "the blob belongs to another namespace")
    try:
        return await blobs.get(key)
    except NotFound as error:
        raise Unfillable("BLOB_NOT_FOUND", f"blob {key} is gone") from error
    except DependencyDown as error:
        raise Unfillable("DEPENDENCY_DOWN", "the blob store is away", retryable=True) from error


def _text(data: bytes) -> str:
    """Return JSON as templates show it: text raw, other values as compact JSON."""
    value = json.loads(data)
    return value if isinstance(value, str) else data.decode()


def _place(document: Any, path: str, mark: str) -> Any:
    """Put a mark at a JSON pointer; return the document."""
    if not path:
        return mark
    parts = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]
    try:
        place = document
        for part in parts[:-1]:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list):
            place[int(parts[-1])] = mark
        else:
            place[parts[-1]] = mark
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise Unfillable("INVALID_INPUT", f"the input has no place {path!r}") from error
    return document
