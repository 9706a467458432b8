"""What to start: the gRPC message as it is, or REST's raw JSON body made into one."""

import hashlib
import json

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.duration_pb2 import Duration

from bend.v1 import engine_service_pb2 as pb
from bend_server.core import limits
from bend_server.core.errors import InvalidInput
from bend_server.language.durations import parse_duration
from bend_server.rpc import validation
from bend_server.rpc.parameters import invalid, members

START_KEYS = frozenset(
    ("workflow", "parameters", "revision", "request_id", "execution_id", "labels")
)
RUN_KEYS = START_KEYS | {"wait_timeout"}


def start_from_body(body: HttpBody) -> pb.StartRequest:
    """Return the start that a REST body asks for.

    Raises:
        InvalidInput: not a JSON object, unknown keys (with their place), wrong types, limits.
        LimitExceeded: TOO_LARGE.
    """
    return _start(members(body.data, START_KEYS))


def run_from_body(body: HttpBody) -> tuple[pb.StartRequest, Duration]:
    """Return the start and the waiting time that a REST body asks for. Raises as above."""
    raw = members(body.data, RUN_KEYS)
    wait = Duration()
    if "wait_timeout" in raw:
        wait_us = parse_duration(json.loads(raw.pop("wait_timeout")))
        if wait_us is None:
            raise InvalidInput(
                'wait_timeout must be a duration such as "30s", or seconds', field="wait_timeout"
            )
        wait.FromMicroseconds(wait_us)
    return _start(raw), wait


def _start(raw: dict[str, str]) -> pb.StartRequest:
    start = pb.StartRequest()
    for key, text in raw.items():
        if key == "parameters":
            start.parameters = text.encode()
            continue
        value = json.loads(text)
        if key == "revision":
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
                raise invalid("revision must be a whole number from 0", field=key)
            start.revision = value
        elif key == "labels":
            if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
                raise invalid("labels must be an object of strings", field=key)
            start.labels.update(value)
        elif isinstance(value, str):
            setattr(start, key, value)
        else:
            raise invalid(f"{key} must be a string", field=key)
    validation.check(start)
    return start


def check_texts(start: pb.StartRequest) -> None:
    """Check what the proto's rules cannot say: no NUL, and labels within their limits.

    Raises:
        InvalidInput: INVALID_REQUEST.
    """
    if not start.workflow:
        raise InvalidInput("workflow is missing", field="workflow")
    if "\0" in start.workflow or "\0" in start.request_id:
        field = "workflow" if "\0" in start.workflow else "request_id"
        raise InvalidInput(f"{field} holds a NUL character", field=field)
    if not start.labels:
        return
    for key, value in start.labels.items():
        check_label(key, value)


def check_label(key: str, value: str) -> None:
    """Check one label. Raises InvalidInput."""
    if not 0 < len(key) <= limits.LABEL_KEY_CHARS_MAX or "\0" in key or "=" in key:
        raise InvalidInput(
            f"label {key[:80]!r}: a key has 1 to {limits.LABEL_KEY_CHARS_MAX} characters, no '='",
            field="labels",
        )
    if len(value) > limits.LABEL_VALUE_CHARS_MAX or "\0" in value:
        raise InvalidInput(
            f"label {key!r}: a value has at most {limits.LABEL_VALUE_CHARS_MAX} characters, no NUL",
            field="labels",
        )


def content_hash(start: pb.StartRequest) -> bytes:
    """Return a digest of all that a start says: the same request id must come with the same."""
    labels = sorted(start.labels.items()) if start.labels else ()
    head = repr((start.workflow, start.revision, start.execution_id, labels)).encode()
    return hashlib.sha256(head + b"\0" + (start.parameters or b"{}")).digest()
