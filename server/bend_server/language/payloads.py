"""JSON values in expressions and templates: parsed lazily, written compactly.

Integers keep all their digits where no arithmetic touches them.
"""

import base64
import json
from typing import Any

import orjson

from bend_server.core.plan import ExpressionError, Scope

_ZEROS = bytes(48 if 48 <= byte <= 57 else byte for byte in range(256))
_LONG = b"0" * 19
_NAMES_SHOWN = 20


def load(data: bytes) -> Any:
    """Parse JSON that was checked when it came in. Raises ExpressionError when it is none."""
    try:
        if _LONG in data.translate(_ZEROS):
            return json.loads(data)
        return orjson.loads(data)
    except (ValueError, RecursionError) as error:
        raise ExpressionError("the stored value is not JSON") from error


def dump(value: object) -> bytes:
    """Write compact JSON; integers of any size. The value came from `load` or from CEL."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def as_text(value: object) -> str:
    """Write a value as a template joins it: text raw, the rest compact JSON, null "null"."""
    return value if isinstance(value, str) else dump(value).decode()


def show_fields(value: object) -> str:
    """Name what a value has, for an error's text."""
    if isinstance(value, dict):
        if not value:
            return "it is an empty map"
        names = [str(name)[:40] for name in list(value)[:_NAMES_SHOWN]]
        more = f" and {len(value) - _NAMES_SHOWN} more" if len(value) > _NAMES_SHOWN else ""
        return f"it has: {', '.join(names)}{more}"
    if isinstance(value, list):
        return f"it is a list of {len(value)}"
    return f"it is {_KINDS.get(type(value), 'a value')}"


_KINDS: dict[type, str] = {
    str: "text",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def from_cel(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind of value
    """Turn what CEL answers into JSON values: times become text, bytes base64.

    Raises:
        ExpressionError: a number is not finite, or a map's key is no text, number or boolean.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if value - value != 0:
            raise ExpressionError("the result is not a finite number")
        return value
    if isinstance(value, list):
        return [from_cel(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): from_cel(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).replace("+00:00", "Z")
    if hasattr(value, "total_seconds"):
        seconds = value.total_seconds()
        return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds}s"
    raise ExpressionError("the result has no JSON form")


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int):
        return str(key)
    raise ExpressionError("a map's key has no JSON form")


class Memory:
    """Keeps the last parsed documents of a plan, told apart by the identity of their bytes.

    Ten thousand tasks that read one input parse it once. Values are shared: nobody changes them.
    """

    __slots__ = ("_input", "_item", "_outputs")

    def __init__(self) -> None:
        self._input: tuple[bytes, Any] = (b"", None)
        self._item: tuple[bytes, Any] = (b"", None)
        self._outputs: list[tuple[bytes, Any]] = [(b"", None)] * 8

    def input(self, scope: Scope) -> Any:
        """Return the parsed parameters."""
        data = scope.input
        held = self._input
        if held[0] is data and data:
            return held[1]
        value = load(data)
        self._input = (data, value)
        return value

    def item(self, data: bytes) -> Any:
        """Return the parsed item of a for_each."""
        held = self._item
        if held[0] is data and data:
            return held[1]
        value = load(data)
        self._item = (data, value)
        return value

    def output(self, data: bytes, task: int) -> Any:
        """Return a task's parsed output."""
        slot = task & 7
        held = self._outputs[slot]
        if held[0] is data and data:
            return held[1]
        value = load(data)
        self._outputs[slot] = (data, value)
        return value
