"""What tasks of the engine's own types ask for, read from their rendered inputs."""

from datetime import UTC, datetime
from typing import Any

import orjson

from bend_server.core.model import TaskKind
from bend_server.core.plan import ExpressionError, Rendered
from bend_server.core.waits import Wait
from bend_server.language.durations import parse_duration
from bend_server.language.payloads import as_text, dump, load
from bend_server.ports.blobs import Blobs

YEAR_MAX_US = 253_402_300_799_000_000
"""The end of the year 9999: no time beyond it can be written down."""


async def whole(rendered: Rendered, blobs: Blobs) -> Any:
    """Return an input with its holes filled.

    Raises ExpressionError (a secret, or a hole where there is no place), NotFound, DependencyDown.
    """
    document = load(rendered.data)
    for hole in rendered.holes:
        pieces: list[Any] = []
        for part in hole.parts:
            if part.secret is not None:
                raise ExpressionError(f"secrets.{part.secret}: the engine reads no secrets")
            if part.blob is not None:
                pieces.append(load(await blobs.get(part.blob)))
            else:
                pieces.append(part.text or "")
        alone = len(pieces) == 1
        value = pieces[0] if alone else "".join(as_text(piece) for piece in pieces)
        document = _put(document, hole.path, value)
    return document


def _put(document: Any, path: str, value: Any) -> Any:
    """Put a value at a JSON pointer; return the document."""
    if not path:
        return value
    steps = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    try:
        place = document
        for step in steps[:-1]:
            place = place[int(step)] if isinstance(place, list) else place[step]
        place[int(steps[-1]) if isinstance(place, list) else steps[-1]] = value
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ExpressionError(f"the input has no place {path!r}") from error
    return document


def wait_of(kind: int, body: Any, now_us: int) -> Wait:
    """Return what a task of kind WAIT, SIGNAL or APPROVAL begins to wait for.

    Raises ExpressionError with what is wrong with the input.
    """
    if not isinstance(body, dict):
        raise ExpressionError("the input is no object")
    if kind == TaskKind.WAIT:
        return Wait(kind, due_us=_wait_until(body, now_us))
    due_us = _timeout(body, now_us)
    if kind == TaskKind.SIGNAL:
        return Wait(kind, due_us=due_us, name=_text(body, "name"))
    assignees = body.get("assignees") or []
    if isinstance(assignees, str):
        assignees = [assignees]
    if not isinstance(assignees, list) or not all(isinstance(one, str) for one in assignees):
        raise ExpressionError("assignees is no list of names")
    form = body.get("form")
    return Wait(
        kind,
        due_us=due_us,
        title=_text(body, "title"),
        assignees=orjson.dumps(assignees),
        form=b"" if form is None else dump(form),
    )


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise ExpressionError(f"{name} is no text")
    return value.replace("\0", "")


def _timeout(body: dict[str, Any], now_us: int) -> int:
    if body.get("timeout") is None:
        return 0
    return _later(now_us, _duration(body["timeout"], "timeout"))


def _wait_until(body: dict[str, Any], now_us: int) -> int:
    if body.get("until") is None:
        return _later(now_us, _duration(body.get("duration"), "duration"))
    text = body["until"]
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError) as error:
        raise ExpressionError(f"until: {text!r} is no time as RFC 3339 writes it") from error
    if moment.tzinfo is None:
        raise ExpressionError(f"until: {text!r} has no time zone")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return max(1, micros)


def _duration(value: object, name: str) -> int:
    duration_us = parse_duration(value)
    if duration_us is None:
        raise ExpressionError(f"{name}: {value!r} is no duration")
    return duration_us


def _later(now_us: int, duration_us: int) -> int:
    return min(now_us + duration_us, YEAR_MAX_US)
