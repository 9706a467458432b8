"""The engine's own types (`workflow`, `wait`, `signal`, `approval`): what they take and give."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from bend_server.core import limits
from bend_server.core.model import TaskKind
from bend_server.language.cel_library import Programs
from bend_server.language.findings import Path, cut, nearest
from bend_server.language.keys import ENGINE_INPUTS, NAME_PATTERN, TASK, JsonSchema
from bend_server.language.reader import Reader
from bend_server.language.schemas import BadSchema, Schema
from bend_server.language.templates import OPEN

KINDS: Mapping[str, TaskKind] = {
    "workflow": TaskKind.WORKFLOW,
    "wait": TaskKind.WAIT,
    "signal": TaskKind.SIGNAL,
    "approval": TaskKind.APPROVAL,
}
WORDS: Mapping[TaskKind, str] = {kind: word for word, kind in KINDS.items()}
# What their outputs look like; True: anything.
OUTPUTS: Mapping[TaskKind, JsonSchema | bool] = {
    TaskKind.WORKFLOW: True,
    TaskKind.WAIT: {"type": "null"},
    TaskKind.SIGNAL: True,
    TaskKind.APPROVAL: {
        "type": "object",
        "properties": {
            "approved": {"type": "boolean"},
            "comment": {"type": "string"},
            "data": True,
            "decided_by": {"type": "string"},
            "decided_at": {"type": "string"},
        },
        "additionalProperties": False,
    },
}
_WORKER = {
    "schedule_timeout": "no worker takes it",
    "heartbeat_timeout": "no worker takes it",
    "requires": "no worker takes it",
    "version": "the engine's own types have no versions",
    "allow_unregistered": "it is always known",
    "cacheable": "only a component's output can be kept",
    "cache": "only a component's output can be kept",
}
_NO_SLOT = "only components are limited; a sub-workflow has its own 'concurrency'"
_SLOTS = {"rate_limit": _NO_SLOT, "concurrency": _NO_SLOT}
# Keys of a task that make no sense on a type, and why.
UNFIT: Mapping[TaskKind, Mapping[str, str]] = {
    TaskKind.COMPONENT: {},
    TaskKind.WORKFLOW: {**_WORKER, **_SLOTS},
    TaskKind.WAIT: {
        **_WORKER,
        **_SLOTS,
        "timeout": "it ends when its time comes",
        "retry": "it cannot fail",
        "repeat": "write the whole duration",
        "compensate": "there is nothing to undo",
    },
    TaskKind.SIGNAL: {**_WORKER, **_SLOTS},
    TaskKind.APPROVAL: {**_WORKER, **_SLOTS, "repeat": "a decision is taken once"},
}
_TIME = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d{1,9})?"
    r"(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
)
_NAME = re.compile(NAME_PATTERN)
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def is_time(text: str) -> bool:
    """Tell whether a text is a time of RFC 3339."""
    match = _TIME.fullmatch(text)
    if match is None or not text.isascii():
        return False
    year, month, day = (int(part) for part in match.groups())
    if not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1]:
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return leap or (month, day) != (2, 29)


def is_template(value: object) -> bool:
    """Tell whether a value is text with a template in it: known only when the task runs."""
    return isinstance(value, str) and OPEN in value


def check_inputs(
    kind: TaskKind,
    inputs: Mapping[str, Any],
    place_of: Callable[[Path], Path],
    reader: Reader,
    programs: Programs,
) -> None:
    """Add a finding for each input that one of the engine's own types does not take.

    Args:
        place_of: turns a path in the input into one in the document.
    """
    word = WORDS[kind]
    keys = ENGINE_INPUTS[word]
    findings = reader.findings
    for key in inputs:
        if key not in keys:
            near = nearest(key, [*keys, *TASK])
            findings.add(
                "UNKNOWN_KEY",
                f"type '{word}' has no key '{cut(key, 80)}'{near}",
                place_of((key,)),
                at_key=True,
            )
    for key, entry in keys.items():
        if entry.required and key not in inputs:
            findings.add("MISSING_KEY", f"type '{word}' needs '{key}'", place_of(()))
    for key, value in inputs.items():
        if key in keys and not is_template(value):
            _CHECKS[word, key](reader, value, place_of((key,)), programs)
    if kind == TaskKind.WAIT:
        given = [key for key in ("duration", "until") if key in inputs]
        if not given:
            findings.add("MISSING_KEY", "type 'wait' needs 'duration' or 'until'", place_of(()))
        elif len(given) == 2:
            findings.add(
                "BAD_VALUE", "'duration' and 'until' exclude each other", place_of(("until",))
            )


def _workflow(reader: Reader, value: object, path: Path, _programs: Programs) -> None:
    reader.matching(value, path, _NAME, "workflow name")


def _revision(reader: Reader, value: object, path: Path, _programs: Programs) -> None:
    reader.integer(value, path, 1, 2**31 - 1)


def _input(reader: Reader, value: object, path: Path, _programs: Programs) -> None:
    reader.map(value, path)


def _duration(reader: Reader, value: object, path: Path, _programs: Programs) -> None:
    reader.duration(value, path)


def _until(reader: Reader, value: object, path: Path, _programs: Programs) -> None:
    if not isinstance(value, str):
        reader.wrong(path, "a time such as 2026-01-31T09:00:00Z", value)
    elif not is_time(value):
        reader.findings.add(
            "BAD_VALUE",
            f"'{cut(value, 40)}' is no time; write RFC 3339: 2026-01-31T09:00:00Z",
            path,
        )


def _signal_name(reader: Reader, value: object, path: Path, _programs: Programs) -> None:
    if reader.text(value, path, limits.SIGNAL_NAME_CHARS_MAX) == "":
        reader.findings.add("BAD_NAME", "a signal's name is not empty", path)


def _title(reader: Reader, value: object, path: Path, _programs: Programs) -> None:
    reader.text(value, path, limits.TITLE_CHARS_MAX)


def _assignees(reader: Reader, value: object, path: Path, _programs: Programs) -> None:
    if not isinstance(value, list):
        reader.wrong(path, "a list", value)
    elif len(value) > limits.ASSIGNEES_MAX:
        reader.findings.add(
            "TOO_LARGE", f"{len(value)} assignees; {limits.ASSIGNEES_MAX} are allowed", path
        )
    else:
        for number, entry in enumerate(value):
            reader.text(entry, (*path, number), limits.LABEL_VALUE_CHARS_MAX)


def _form(reader: Reader, value: object, path: Path, programs: Programs) -> None:
    if not isinstance(value, dict):
        reader.wrong(path, "a JSON Schema", value)
        return
    try:
        Schema(value, programs)
    except BadSchema as error:
        reader.findings.add(
            "BAD_SCHEMA", f"not a JSON Schema: {error.message}", (*path, *error.path)
        )


_CHECKS: Mapping[tuple[str, str], Callable[[Reader, object, Path, Programs], None]] = {
    ("workflow", "workflow"): _workflow,
    ("workflow", "revision"): _revision,
    ("workflow", "input"): _input,
    ("wait", "duration"): _duration,
    ("wait", "until"): _until,
    ("signal", "name"): _signal_name,
    ("signal", "timeout"): _duration,
    ("approval", "title"): _title,
    ("approval", "assignees"): _assignees,
    ("approval", "form"): _form,
    ("approval", "timeout"): _duration,
}
