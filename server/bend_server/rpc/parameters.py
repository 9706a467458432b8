"""Parameters and bodies as callers send them: raw JSON, checked strictly, digits kept."""

import json
import re

import orjson

from bend_server.core import limits
from bend_server.core.errors import InvalidInput, LimitExceeded
from bend_server.core.plan import Plan
from bend_server.language.cel_library import Programs
from bend_server.language.json_source import BadText, decode_text, parse_json
from bend_server.language.parameters import check_parameters
from bend_server.language.schemas import Schema

SPACE = re.compile(r"[ \t\r\n]*")
NESTED_MAX = 64
SCHEMAS_MAX = 512

_DECODER = json.JSONDecoder()


def invalid(message: str, **metadata: object) -> InvalidInput:
    """Return an INVALID_PARAMETERS error."""
    return InvalidInput(message, reason="INVALID_PARAMETERS", **metadata)


def strict_json(data: bytes, field: str) -> object:
    """Parse JSON and refuse what would be read two ways: repeated keys, NUL, infinite numbers.

    Args:
        data: UTF-8 JSON.
        field: what the error calls it.

    Raises:
        InvalidInput: INVALID_PARAMETERS with line, column and path.
    """
    try:
        return parse_json(decode_text(data))
    except BadText as error:
        raise invalid(
            f"{field}: {error.line}:{error.column}: {error.message}",
            field=field,
            line=error.line,
            column=error.column,
            finding=error.reason,
        ) from None


def checked_object(
    data: bytes, field: str = "parameters", bytes_max: int = limits.PARAMETERS_BYTES_MAX
) -> object:
    """Check that `data` is a JSON object as `strict_json` wants it; return it parsed.

    The usual case costs about a microsecond: only what could hide a fault is parsed slowly. The
    bytes themselves are what counts afterwards, so that numbers keep their digits.

    Raises:
        InvalidInput: INVALID_PARAMETERS.
        LimitExceeded: TOO_LARGE, over `bytes_max`.
    """
    if len(data) > bytes_max:
        raise LimitExceeded(
            f"{field} has {len(data)} bytes, the limit is {bytes_max}",
            field=field,
            size=len(data),
            limit=bytes_max,
        )
    value: object
    try:
        value = orjson.loads(data)
    except ValueError:
        value = strict_json(data, field)
    else:
        if not _plain(data, value):
            value = strict_json(data, field)
    if not isinstance(value, dict):
        raise invalid(f"{field} must be a JSON object", field=field)
    return value


def _plain(data: bytes, value: object) -> bool:
    """Tell whether fast parsing could not have hidden anything.

    Every key costs one colon, so as many colons as keys means that no key was repeated.
    """
    if b"\\u" in data or data.count(b"[") + data.count(b"{") > NESTED_MAX:
        return False
    if len(data) > 300 and _LONG_NUMBER.search(data) is not None:
        return False
    if b"e" in data and _EXPONENT.search(data) is not None:
        return False
    return data.count(b":") == _keys(value)


_LONG_NUMBER = re.compile(rb"[0-9]{300}")
_EXPONENT = re.compile(rb"[0-9][eE]\+?[0-9]{3}")


def _keys(value: object) -> int:
    if isinstance(value, dict):
        count = len(value)
        for inner in value.values():
            if isinstance(inner, dict | list):
                count += _keys(inner)
        return count
    if isinstance(value, list):
        return sum(_keys(inner) for inner in value if isinstance(inner, dict | list))
    return 0


def members(data: bytes, allowed: frozenset[str] | None, field: str = "body") -> dict[str, str]:
    """Return the members of a JSON object as raw JSON texts by key.

    Args:
        data: the whole body.
        allowed: keys that may stand there; None: any.
        field: what errors call it.

    Raises:
        InvalidInput: INVALID_PARAMETERS: not an object, or an unknown key, with its place.
        LimitExceeded: TOO_LARGE.
    """
    checked_object(data, field, limits.BODY_BYTES_MAX)
    text = decode_text(data)
    found: dict[str, str] = {}
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        key, end = _DECODER.raw_decode(text, at)
        if allowed is not None and key not in allowed:
            line = text.count("\n", 0, at) + 1
            column = at - text.rfind("\n", 0, at)
            raise invalid(
                f"{field}: {line}:{column}: unknown key {key[:80]!r}; "
                f"known are {', '.join(sorted(allowed))}",
                field=key[:80],
                line=line,
                column=column,
                finding="UNKNOWN_KEY",
            )
        start = _skip(text, _skip(text, end) + 1)
        _, end = _DECODER.raw_decode(text, start)
        found[key] = text[start:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at


class Schemas:
    """Checks parameters against workflows' input schemas; checkers are kept per revision."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, int], Schema] = {}

    def checked(self, plan: Plan, data: bytes) -> bytes:
        """Return the parameters of a start as they are stored.

        Without an input schema these are the very bytes; with one, defaults of top-level
        properties are filled in.

        Args:
            plan: of the revision that starts.
            data: JSON; empty means no parameters.

        Raises:
            InvalidInput: INVALID_PARAMETERS, naming the first place that does not fit.
            LimitExceeded: TOO_LARGE.
        """
        data = data or b"{}"
        checked_object(data)
        if plan.input_schema is None:
            return data
        key = (plan.namespace, plan.workflow, plan.revision)
        schema = self._kept.get(key)
        if schema is None:
            schema = Schema(plan.input_schema, Programs())
            if len(self._kept) >= SCHEMAS_MAX:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = schema
        return check_parameters(data, schema)
