"""One task of a document: the engine's keys are read and checked, the rest is its input."""

import re
from collections.abc import Mapping
from typing import Any

from bend_server.core import limits
from bend_server.core.model import RunIf
from bend_server.core.plan import RetryPolicy
from bend_server.language.expressions import Expression
from bend_server.language.findings import Path, cut
from bend_server.language.names import RESERVED_IDS
from bend_server.language.reader import Reader
from bend_server.language.retries import read_retry
from bend_server.language.templates import Compiled

# Every key of the language that belongs to the engine, and whether it is built.
KEYS: Mapping[str, bool] = {
    **dict.fromkeys(
        (
            "id",
            "type",
            "depends_on",
            "condition",
            "run_if",
            "timeout",
            "schedule_timeout",
            "heartbeat_timeout",
            "retry",
            "allow_failure",
            "requires",
            "allow_unregistered",
            "version",
            "with",
        ),
        True,
    ),
    **dict.fromkeys(
        (
            "for_each",
            "max_parallel",
            "repeat",
            "cacheable",
            "cache",
            "compensate",
            "rate_limit",
            "concurrency",
        ),
        False,
    ),
}
ENGINE_TYPES = frozenset(("workflow", "wait", "signal", "approval"))
TASK_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
COMPONENT = re.compile(r"[a-z][a-z0-9_]{0,62}(?:[.][a-z][a-z0-9_]{0,62}){0,3}")
MAJOR_MAX = 999_999
RUN_IF: Mapping[str, RunIf] = {
    "success": RunIf.SUCCESS,
    "failure": RunIf.FAILURE,
    "always": RunIf.ALWAYS,
}


class TaskSource:
    """One task as the document gives it; what later steps of the compiler add stands last."""

    __slots__ = (
        "allow_failure",
        "allow_unregistered",
        "component",
        "condition",
        "depends_on",
        "expression",
        "heartbeat_timeout_us",
        "id",
        "index",
        "input",
        "inputs",
        "major",
        "never",
        "path",
        "places",
        "requires",
        "retry",
        "run_if",
        "schedule_timeout_us",
        "timeout_us",
    )

    def __init__(self, index: int, retry: RetryPolicy, timeout_us: int) -> None:
        self.index = index
        self.path: Path = ("tasks", index)
        self.id = ""
        self.component = ""
        self.major: int | None = None
        self.depends_on: list[tuple[str, Path]] = []
        self.condition: str | None = None
        self.never = False
        self.run_if = RunIf.SUCCESS
        self.retry = retry
        self.timeout_us = timeout_us
        self.schedule_timeout_us = limits.SCHEDULE_TIMEOUT_US
        self.heartbeat_timeout_us = limits.HEARTBEAT_TIMEOUT_US
        self.allow_failure = False
        self.allow_unregistered = False
        self.requires: tuple[tuple[str, str], ...] = ()
        self.inputs: dict[str, Any] = {}
        self.places: dict[str, Path] = {}
        self.expression: Expression | None = None
        self.input: Compiled | None = None

    def place_of(self, steps: Path) -> Path:
        """Return the document's path of a place inside the input."""
        if not steps:
            return self.path
        first = self.places.get(str(steps[0]))
        return (*self.path, *steps) if first is None else (*first, *steps[1:])


def read_task(
    reader: Reader, value: object, index: int, retry: RetryPolicy, timeout_us: int
) -> TaskSource:
    """Read one task; what is wrong becomes a finding and keeps its default."""
    task = TaskSource(index, retry, timeout_us)
    path = task.path
    found = reader.map(value, path)
    if found is None:
        return task
    for key in ("id", "type"):
        if key not in found:
            reader.findings.add("MISSING_KEY", f"a task needs '{key}'", path)
    for key, entry in found.items():
        built = KEYS.get(key)
        if built is None:
            task.inputs[key] = entry
        elif built:
            _READERS[key](reader, task, entry, (*path, key))
        else:
            reader.not_built(key, (*path, key))
    for key, place in task.places.items():
        if key in found and key not in KEYS:
            reader.findings.add(
                "DUPLICATE_KEY", f"'{key}' stands in the task and in 'with'", place, at_key=True
            )
    return task


def _id(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    text = reader.matching(value, path, TASK_ID, "task id")
    if text is None:
        return
    if text in RESERVED_IDS:
        reader.findings.add("RESERVED_ID", f"'{text}' is a reserved name in expressions", path)
        return
    task.id = text


def _type(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    if not isinstance(value, str):
        reader.wrong(path, "text", value)
        return
    name, at, pin = value.partition("@")
    if value in ENGINE_TYPES:
        reader.findings.add("NOT_BUILT", f"type '{value}' is not built in this release", path)
    elif COMPONENT.fullmatch(name) is None:
        reader.findings.add(
            "BAD_NAME", f"'{cut(value, 80)}' is no component's name, such as vision.detect", path
        )
    else:
        task.component = name
        if at:
            _pin(reader, task, pin, path)


def _version(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    _pin(reader, task, value, path)


def _pin(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if (
        not isinstance(text, str)
        or not (text.isascii() and text.isdigit())
        or len(text) > 6
        or int(text) > MAJOR_MAX
    ):
        shown = cut(str(value), 40)
        reader.findings.add(
            "BAD_VALUE", f"'{shown}' pins no major version; write a number such as 2", path
        )
        return
    major = int(text)
    if task.major is not None and task.major != major:
        reader.findings.add(
            "BAD_VALUE", f"the task pins major {task.major} and major {major}", path
        )
        return
    task.major = major


def _depends_on(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    if not isinstance(value, list):
        reader.wrong(path, "a list of task ids", value)
        return
    for number, entry in enumerate(value):
        if isinstance(entry, str):
            task.depends_on.append((entry, (*path, number)))
        else:
            reader.wrong((*path, number), "a task's id", entry)


def _condition(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    if isinstance(value, bool):
        task.never = not value
    elif isinstance(value, str):
        task.condition = value
    else:
        reader.wrong(path, "an expression", value)


def _run_if(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    task.run_if = reader.choice(value, path, RUN_IF) or RunIf.SUCCESS


def _timeout(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    task.timeout_us = reader.duration(value, path) or task.timeout_us


def _schedule_timeout(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    task.schedule_timeout_us = reader.duration(value, path) or task.schedule_timeout_us


def _heartbeat_timeout(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    task.heartbeat_timeout_us = reader.duration(value, path) or task.heartbeat_timeout_us


def _retry(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    task.retry = read_retry(reader, value, path, task.retry)


def _allow_failure(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    task.allow_failure = reader.boolean(value, path) or False


def _allow_unregistered(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    task.allow_unregistered = reader.boolean(value, path) or False


def _requires(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    task.requires = tuple(sorted(reader.labels(value, path).items()))


def _with(reader: Reader, task: TaskSource, value: object, path: Path) -> None:
    found = reader.map(value, path)
    for key, entry in (found or {}).items():
        task.places[key] = (*path, key)
        task.inputs[key] = entry


_READERS = {
    "id": _id,
    "type": _type,
    "version": _version,
    "depends_on": _depends_on,
    "condition": _condition,
    "run_if": _run_if,
    "timeout": _timeout,
    "schedule_timeout": _schedule_timeout,
    "heartbeat_timeout": _heartbeat_timeout,
    "retry": _retry,
    "allow_failure": _allow_failure,
    "allow_unregistered": _allow_unregistered,
    "requires": _requires,
    "with": _with,
}
