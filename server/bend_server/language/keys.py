"""Every key of the language, once: what the readers accept, and what editors are told.

The readers take the names from these tables, `schema_document.py` makes the JSON Schema of them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from bend_server.core import limits

JsonSchema = Mapping[str, Any]

COMPONENT_PATTERN = r"[a-z][a-z0-9_]{0,62}(?:[.][a-z][a-z0-9_]{0,62}){0,3}"
TASK_ID_PATTERN = r"[A-Za-z_][A-Za-z0-9_]{0,63}"
NAME_PATTERN = r"[a-z0-9][a-z0-9_.-]{0,127}"
REASON_PATTERN = r"[A-Za-z][A-Za-z0-9_.-]{0,63}"
MAJOR_MAX = 999_999
DESCRIPTION_CHARS_MAX = 65_536
REASONS_MAX = 64
MULTIPLIER_MAX = 100.0


class Key(NamedTuple):
    """A key: one sentence for people, the JSON Schema of its value, and whether it has to be."""

    description: str
    schema: JsonSchema
    required: bool = False


def _ref(name: str) -> JsonSchema:
    return {"$ref": f"#/$defs/{name}"}


def _whole(low: int, high: int) -> JsonSchema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _either(*schemas: JsonSchema) -> JsonSchema:
    return {"anyOf": list(schemas)}


TEXT: JsonSchema = {"type": "string"}
FLAG: JsonSchema = {"type": "boolean"}
MAP: JsonSchema = {"type": "object"}
DURATION = _ref("duration")
TEMPLATE = _ref("template")
EXPRESSION = _ref("expression")
LABELS: JsonSchema = {
    "type": "object",
    "maxProperties": limits.LABELS_MAX,
    "propertyNames": {"minLength": 1, "maxLength": limits.LABEL_KEY_CHARS_MAX},
    "additionalProperties": {"type": "string", "maxLength": limits.LABEL_VALUE_CHARS_MAX},
}
REASONS: JsonSchema = {
    "type": "array",
    "maxItems": REASONS_MAX,
    "items": {"type": "string", "pattern": f"^{REASON_PATTERN}$"},
}
VERSION = _either(_whole(0, MAJOR_MAX), {"type": "string", "pattern": "^[0-9]{1,6}$"})

RETRY: Mapping[str, Key] = {
    "max_attempts": Key(
        "Attempts, the first one counted; default 3.", _whole(1, limits.ATTEMPTS_MAX)
    ),
    "initial": Key("Backoff before the second attempt; default 1s.", DURATION),
    "multiplier": Key(
        "Factor from one backoff to the next; default 2.",
        {"type": "number", "minimum": 1, "maximum": MULTIPLIER_MAX},
    ),
    "max": Key("The longest backoff; default 60s.", DURATION),
    "jitter": Key("Draw each backoff between zero and its bound; default true.", FLAG),
    "budget": Key("No attempt starts later than this after the first one.", DURATION),
    "on": Key("Only these reasons are retried; without it, all retryable ones.", REASONS),
    "not_on": Key("These reasons are not retried.", REASONS),
}
DEFAULTS: Mapping[str, Key] = {
    "retry": Key("Retry policy of tasks that do not say otherwise.", _ref("retry")),
    "timeout": Key("Timeout of an attempt of tasks that do not say otherwise.", DURATION),
}
REPEAT: Mapping[str, Key] = {
    "while": Key("CEL over `output` and `iteration`: true goes on.", EXPRESSION),
    "until": Key("CEL over `output` and `iteration`: true ends the loop.", EXPRESSION),
    "max": Key(
        "Rounds at most; the loop ends after them, whatever the condition says.",
        _whole(1, limits.ROUNDS_MAX),
        required=True,
    ),
    "delay": Key("Pause between two rounds; default none.", DURATION),
}
CACHE: Mapping[str, Key] = {
    "ttl": Key("How long an output serves equal inputs; default 24h.", DURATION),
    "key": Key("Template; without it, the component's input is the key.", TEMPLATE),
    "scope": Key(
        "Whom it serves: executions of this workflow (default), or of the namespace.",
        {"enum": ["workflow", "namespace"]},
    ),
}
WORKFLOW_CONCURRENCY: Mapping[str, Key] = {
    "key": Key(
        "Template over `input` and `workflow`; executions with one key are counted together. "
        "Default: all executions of the workflow.",
        TEMPLATE,
    ),
    "limit": Key(
        "Executions with one key that run at once.",
        _whole(1, limits.CONCURRENCY_MAX),
        required=True,
    ),
    "strategy": Key(
        "What happens to one too many: it waits (queue, the default), the oldest one is cancelled, "
        "or it is itself.",
        {"enum": ["queue", "cancel_oldest", "cancel_newest"]},
    ),
}
TASK_CONCURRENCY: Mapping[str, Key] = {
    "key": Key("Template; tries with one key are counted together.", TEMPLATE, required=True),
    "limit": Key(
        "Tries with one key that run at once, in the whole namespace.",
        _whole(1, limits.CONCURRENCY_MAX),
        required=True,
    ),
}
RATE_LIMIT: Mapping[str, Key] = {
    "key": Key("Template; tries with one key are counted together.", TEMPLATE, required=True),
    "limit": Key(
        "Tries with one key that start within `per`.",
        _whole(1, limits.CONCURRENCY_MAX),
        required=True,
    ),
    "per": Key("The span in which they are counted.", DURATION, required=True),
}

_RETRIES = Key("How a failed attempt is followed by another.", _ref("retry"))
_TIMEOUT = Key("Timeout of one attempt; default 5m.", DURATION)
_SCHEDULE = Key("How long an attempt may wait for a worker; default 1h.", DURATION)
_HEARTBEAT = Key("Longest gap between heartbeats of components that send them.", DURATION)
_REQUIRES = Key("Labels of the instances that may take it.", LABELS)
_UNREGISTERED = Key("The component may be unknown when the workflow is created.", FLAG)
_VERSION = Key("The component's major version.", VERSION)
_WITH = Key("The input as one map, for inputs whose names collide with a key here.", MAP)

COMPENSATE: Mapping[str, Key] = {
    "type": Key(
        "A component, or `workflow`.",
        {"type": "string", "pattern": f"^{COMPONENT_PATTERN}(?:@[0-9]{{1,6}})?$"},
        required=True,
    ),
    "timeout": _TIMEOUT,
    "schedule_timeout": _SCHEDULE,
    "heartbeat_timeout": _HEARTBEAT,
    "retry": _RETRIES,
    "requires": _REQUIRES,
    "allow_unregistered": _UNREGISTERED,
    "version": _VERSION,
    "with": _WITH,
}
TASK: Mapping[str, Key] = {
    "id": Key(
        "Unique in the workflow; expressions name the task's output by it.",
        {"type": "string", "pattern": f"^{TASK_ID_PATTERN}$"},
        required=True,
    ),
    "type": Key(
        "A component (`http`, `vision.detect`, `vision.detect@2`), or one of the engine's own: "
        "`workflow`, `wait`, `signal`, `approval`.",
        {"type": "string", "pattern": f"^{COMPONENT_PATTERN}(?:@[0-9]{{1,6}})?$"},
        required=True,
    ),
    "depends_on": Key(
        "Tasks that end before; those that expressions name are added.",
        {"type": "array", "items": TEXT},
    ),
    "condition": Key("CEL; false skips the task.", _either(EXPRESSION, FLAG)),
    "run_if": Key(
        "When it runs, over the tasks it depends on; default success.",
        {"enum": ["success", "failure", "always"]},
    ),
    "for_each": Key(
        "A list, or an expression that gives one: the task runs once per `item`, with `index`.",
        _either(EXPRESSION, {"type": "array", "maxItems": limits.ITEMS_MAX}),
    ),
    "max_parallel": Key(
        f"Items of `for_each` at once; default {limits.PARALLEL_DEFAULT}.",
        _whole(1, limits.ITEMS_MAX),
    ),
    "repeat": Key("A loop over the task.", _ref("repeat")),
    "timeout": _TIMEOUT,
    "schedule_timeout": _SCHEDULE,
    "heartbeat_timeout": _HEARTBEAT,
    "retry": _RETRIES,
    "cacheable": Key("Equal inputs share one output; the same as `cache`.", _ref("cache")),
    "cache": Key("Equal inputs share one output.", _ref("cache")),
    "allow_failure": Key("A failure does not fail the execution; dependents run.", FLAG),
    "compensate": Key(
        "A task that undoes this one when the execution fails or is cancelled.", _ref("compensate")
    ),
    "rate_limit": Key("How many tries start in a span, per key.", _ref("rate_limit")),
    "concurrency": Key("How many tries run at once, per key.", _ref("task_concurrency")),
    "requires": _REQUIRES,
    "allow_unregistered": _UNREGISTERED,
    "version": _VERSION,
    "with": _WITH,
}
WORKFLOW: Mapping[str, Key] = {
    "name": Key(
        "Unique in its namespace.",
        {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
        required=True,
    ),
    "description": Key("Text for people.", {"type": "string", "maxLength": DESCRIPTION_CHARS_MAX}),
    "labels": Key("Short strings, usable in list filters.", LABELS),
    "input": Key("JSON Schema (2020-12) of the parameters.", {"type": ["object", "boolean"]}),
    "output": Key(
        "Templates of the result; default: outputs of the tasks without dependents, by id.", MAP
    ),
    "timeout": Key("Timeout of the whole execution; default 24h.", DURATION),
    "concurrency": Key("How many executions run at once, per key.", _ref("workflow_concurrency")),
    "priority": Key("1 (first) to 9; default 5.", _whole(1, 9)),
    "defaults": Key("Settings of tasks that do not say otherwise.", _ref("defaults")),
    "on_failure": Key(
        "What follows a failure: `fail` (default), `pause`, or tasks that run then.",
        _either({"enum": ["fail", "pause"]}, {"$ref": "#/$defs/tasks"}),
    ),
    "tasks": Key("The tasks, in any order.", {"$ref": "#/$defs/tasks"}, required=True),
}

_FILLED: JsonSchema = {"type": "string", "pattern": r"\{\{"}
_TEMPLATED_DURATION = _either(DURATION, _FILLED)
# The inputs of the engine's own types; there are no others.
ENGINE_INPUTS: Mapping[str, Mapping[str, Key]] = {
    "workflow": {
        "workflow": Key(
            "Name of the workflow that runs as a child.",
            _either({"type": "string", "pattern": f"^{NAME_PATTERN}$"}, _FILLED),
            required=True,
        ),
        "revision": Key(
            "Its revision; default: the newest.", _either(_whole(1, 2**31 - 1), _FILLED)
        ),
        "input": Key("The child's parameters.", _either(MAP, _FILLED)),
    },
    "wait": {
        "duration": Key("How long.", _TEMPLATED_DURATION),
        "until": Key("A time, RFC 3339.", TEXT),
    },
    "signal": {
        "name": Key(
            "The signal's name.",
            {"type": "string", "minLength": 1, "maxLength": limits.SIGNAL_NAME_CHARS_MAX},
            required=True,
        ),
        "timeout": Key("How long to wait; default: as long as the execution.", _TEMPLATED_DURATION),
    },
    "approval": {
        "title": Key("What people are asked.", TEXT, required=True),
        "assignees": Key(
            "Who may decide; default: whoever may at all.",
            _either({"type": "array", "items": TEXT}, _FILLED),
        ),
        "form": Key("JSON Schema of the data that a decision carries.", MAP),
        "timeout": Key("How long to wait; default: as long as the execution.", _TEMPLATED_DURATION),
    },
}
