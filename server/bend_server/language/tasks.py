"""One task of a document: the engine's keys are read and checked, the rest is its input."""

import re
from collections.abc import Callable, Mapping

from bend_server.core import limits
from bend_server.core.model import Phase, RunIf, TaskKind
from bend_server.core.plan import RetryPolicy
from bend_server.language.cel_library import Programs
from bend_server.language.control import (
    check_combinations,
    read_cache,
    read_concurrency,
    read_for_each,
    read_max_parallel,
    read_rate_limit,
    read_repeat,
)
from bend_server.language.engine_types import KINDS, UNFIT, WORDS, check_inputs
from bend_server.language.findings import Path, cut
from bend_server.language.keys import (
    COMPENSATE,
    COMPONENT_PATTERN,
    ENGINE_INPUTS,
    MAJOR_MAX,
    TASK,
    TASK_ID_PATTERN,
    Key,
)
from bend_server.language.names import RESERVED_IDS
from bend_server.language.reader import Reader
from bend_server.language.retries import read_retry
from bend_server.language.sources import TaskSource

TASK_ID = re.compile(TASK_ID_PATTERN)
COMPONENT = re.compile(COMPONENT_PATTERN)
RUN_IF: Mapping[str, RunIf] = {
    "success": RunIf.SUCCESS,
    "failure": RunIf.FAILURE,
    "always": RunIf.ALWAYS,
}


class TaskDefaults:
    """What the document says for every task, and what reading one needs."""

    __slots__ = ("programs", "reader", "retry", "timeout_us")

    def __init__(self, reader: Reader, programs: Programs) -> None:
        self.reader = reader
        self.programs = programs
        self.retry = RetryPolicy()
        self.timeout_us = limits.TASK_TIMEOUT_US


def read_task(
    defaults: TaskDefaults, value: object, index: int, path: Path, phase: Phase
) -> TaskSource:
    """Read one task; what is wrong becomes a finding and keeps its default."""
    reader = defaults.reader
    task = TaskSource(index, path, phase, defaults.retry, defaults.timeout_us)
    found = reader.map(value, path)
    if found is None:
        return task
    for key in ("id", "type"):
        if key not in found:
            reader.findings.add("MISSING_KEY", f"a task needs '{key}'", path)
    _read_keys(defaults, task, found, _READERS)
    if task.control is not None:
        check_combinations(reader, found, path)
    if "compensate" in found:
        _compensate(defaults, task, found["compensate"], (*path, "compensate"))
    return task


def _read_keys(
    defaults: TaskDefaults,
    task: TaskSource,
    found: dict[str, object],
    readers: Mapping[str, Callable[[Reader, TaskSource, object, Path], None]],
) -> None:
    """Read the keys of a task or of a compensation; all others are its input."""
    reader, path = defaults.reader, task.path
    word = found.get("type")
    kind = KINDS.get(word) if isinstance(word, str) else None
    own: Mapping[str, Key] = {} if kind is None else ENGINE_INPUTS[str(word)]
    if kind is not None:
        task.kind = kind
        task.timeout_us = limits.ATTEMPT_TIMEOUT_US_MAX
    for key, entry in found.items():
        read = readers.get(key)
        if read is None or key in own:
            task.inputs[key] = entry
        else:
            read(reader, task, entry, (*path, key))
    for key, place in task.places.items():
        if key in found and (key not in readers or key in own):
            reader.findings.add(
                "DUPLICATE_KEY", f"'{key}' stands in the task and in 'with'", place, at_key=True
            )
    if kind is not None:
        for key, why in UNFIT[kind].items():
            if key in found and key not in own:
                reader.findings.add(
                    "OUT_OF_PLACE",
                    f"'{key}' has no place in type '{word}': {why}",
                    (*path, key),
                    at_key=True,
                )
        check_inputs(kind, task.inputs, task.place_of, reader, defaults.programs)


def _compensate(defaults: TaskDefaults, owner: TaskSource, value: object, path: Path) -> None:
    """Read `compensate`: a task without a place of its own in the graph."""
    reader = defaults.reader
    if owner.phase != Phase.MAIN:
        reader.findings.add("OUT_OF_PLACE", "tasks of on_failure are not undone", path, at_key=True)
        return
    found = reader.map(value, path)
    if found is None:
        return
    task = TaskSource(-1, path, Phase.COMPENSATION, defaults.retry, defaults.timeout_us)
    task.id = f"{owner.id}.compensate"
    task.compensates = owner.index
    if "type" not in found:
        reader.findings.add("MISSING_KEY", "compensate needs 'type'", path)
    for key in found:
        if key in TASK and key not in COMPENSATE:
            reader.findings.add(
                "OUT_OF_PLACE", f"'{key}' has no place in compensate", (*path, key), at_key=True
            )
    _read_keys(defaults, task, found, _UNDO_READERS)
    if task.kind not in {TaskKind.COMPONENT, TaskKind.WORKFLOW}:
        reader.findings.add(
            "BAD_VALUE",
            f"a component or a workflow can undo, '{WORDS[task.kind]}' cannot",
            (*path, "type"),
        )
    owner.controlled().compensation = task


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
    if name in KINDS:
        if at:
            reader.findings.add("BAD_VALUE", f"type '{name}' is the engine's: no version", path)
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


def _later(_reader: Reader, _task: TaskSource, _value: object, _path: Path) -> None:
    """Leave a key to somebody who knows more than the reader."""


_READERS: Mapping[str, Callable[[Reader, TaskSource, object, Path], None]] = {
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
    "for_each": read_for_each,
    "max_parallel": read_max_parallel,
    "repeat": read_repeat,
    "cacheable": read_cache,
    "cache": read_cache,
    "rate_limit": read_rate_limit,
    "concurrency": read_concurrency,
    "compensate": _later,
}
# Keys that a compensation does not take are findings already: they are read as nothing.
_UNDO_READERS = {key: read if key in COMPENSATE else _later for key, read in _READERS.items()}
