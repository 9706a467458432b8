"""The JSON Schema of the language, for editors: made of the same tables as the readers.

It says what keys and types there are. What only a compiler knows (cycles, ids, expressions) stays
with `bend validate`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from bend_server.core import limits
from bend_server.core.model import TaskKind
from bend_server.language.engine_types import KINDS, UNFIT
from bend_server.language.keys import (
    CACHE,
    COMPENSATE,
    DEFAULTS,
    ENGINE_INPUTS,
    RATE_LIMIT,
    REPEAT,
    RETRY,
    TASK,
    TASK_CONCURRENCY,
    WORKFLOW,
    WORKFLOW_CONCURRENCY,
    Key,
)

_NUMBER = r"\d{1,15}(?:\.\d{1,9})?"
_DURATION = rf"^(?=\d)(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?$"


def schema_document() -> dict[str, Any]:
    """Return the schema of a workflow document, JSON Schema 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Bend workflow",
        "description": "A workflow of Bend; docs/language.md says what each key means.",
        **_map(WORKFLOW),
        "$defs": _definitions(),
    }


def _map(keys: Mapping[str, Key], *, open_: bool = False) -> dict[str, Any]:
    """Return the schema of a map with these keys, and others when it is open."""
    made: dict[str, Any] = {
        "type": "object",
        "properties": {
            key: {"description": entry.description, **entry.schema} for key, entry in keys.items()
        },
    }
    required = [key for key, entry in keys.items() if entry.required]
    if required:
        made["required"] = required
    made["additionalProperties"] = (
        {"description": "Input of the component; its strings may hold {{ templates }}."}
        if open_
        else False
    )
    return made


def _definitions() -> dict[str, Any]:
    repeat = _map(REPEAT)
    repeat["oneOf"] = [{"required": ["while"]}, {"required": ["until"]}]
    return {
        "duration": {
            "description": "500ms, 5s, 1h30m, 7d, or a number of seconds.",
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": rf"^{_NUMBER}$"},
                {"type": "string", "pattern": _DURATION},
            ],
        },
        "template": {
            "description": "Text; {{ expression }} in it is filled when it is needed.",
            "type": "string",
        },
        "expression": {
            "description": "CEL, bare or as one {{ expression }}.",
            "type": "string",
            "minLength": 1,
            "maxLength": limits.EXPRESSION_BYTES_MAX,
        },
        "retry": _map(RETRY),
        "defaults": _map(DEFAULTS),
        "repeat": repeat,
        "cache": {"anyOf": [{"type": "boolean"}, _map(CACHE)]},
        "rate_limit": _map(RATE_LIMIT),
        "task_concurrency": _map(TASK_CONCURRENCY),
        "workflow_concurrency": _map(WORKFLOW_CONCURRENCY),
        "compensate": _map(COMPENSATE, open_=True),
        "tasks": {
            "type": "array",
            "minItems": 1,
            "maxItems": limits.TASKS_MAX,
            "items": {"$ref": "#/$defs/task"},
        },
        "task": _task(KINDS),
        "component_task": {
            **_map(TASK, open_=True),
            "dependentRequired": {"max_parallel": ["for_each"]},
        },
        **{f"{word}_task": _engine_task(word, kind) for word, kind in KINDS.items()},
    }


def _task(words: Iterable[str]) -> dict[str, Any]:
    """Return the schema that chooses by the type of a task."""
    made: dict[str, Any] = {"$ref": "#/$defs/component_task"}
    for word in reversed(list(words)):
        made = {
            "if": {"properties": {"type": {"const": word}}, "required": ["type"]},
            "then": {"$ref": f"#/$defs/{word}_task"},
            "else": made,
        }
    return made


def _engine_task(word: str, kind: TaskKind) -> dict[str, Any]:
    """Return the schema of a task of one of the engine's own types."""
    inputs = ENGINE_INPUTS[word]
    # An input may stand in `with`, so that none has to be here.
    keys = {key: entry for key, entry in TASK.items() if key not in UNFIT[kind]}
    keys |= {key: entry._replace(required=False) for key, entry in inputs.items()}
    made = _map(keys)
    wanted = [[key for key, entry in inputs.items() if entry.required]]
    if kind == TaskKind.WAIT:
        wanted = [[key] for key in inputs]
    made["anyOf"] = [{"required": names} for names in (*wanted, ["with"])]
    return made
