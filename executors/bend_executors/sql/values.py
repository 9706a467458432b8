"""Values of columns as JSON, and JSON as values of parameters.

PostgreSQL's types that JSON has no word for travel as PostgreSQL's own text, in both directions:
a date is "2026-01-31" in the output and may be "2026-01-31" as a parameter, a numeric keeps all its
digits, and infinity is no accident.
"""

import base64
import math
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from bend import TerminalError, payloads

# As PostgreSQL writes it with DateStyle ISO; other texts (infinity, BC) stay as they are.
_TIME_STAMP = re.compile(r"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d(?::\d\d)?)?")

TEXT_TYPES = (
    "numeric", "date", "time", "timetz", "interval", "uuid", "inet", "cidr", "macaddr", "money",
    "xml", "bit", "varbit", "tsvector",
)  # fmt: skip
TIME_STAMPS = ("timestamp", "timestamptz")
JSON_TYPES = ("json", "jsonb")


def time_stamp(text: str) -> str:
    """Return PostgreSQL's text of a point in time as RFC 3339; without a zone none is added."""
    match = _TIME_STAMP.fullmatch(text)
    if match is None:
        return text
    day, clock, zone = match.groups()
    if not zone:
        return f"{day}T{clock}"
    return f"{day}T{clock}{'Z' if zone == '+00' else zone if ':' in zone else zone + ':00'}"


def parameter_text(value: Any) -> str:
    """Return a parameter as the text that PostgreSQL parses. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("a text or a number is wanted")  # noqa: TRY004 - asyncpg's convention
    return str(value)


def parameter_bytes(value: Any) -> bytes:
    """Return a parameter for bytes from base64. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("base64 is wanted")  # noqa: TRY004 - asyncpg's convention
    return base64.b64decode(value, validate=True)


def parameter_json(value: Any) -> str:
    """Return a parameter for json as its text."""
    return payloads.dumps(value).decode()


def base64_text(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode()


class Unreadable:
    """A json column's value that PostgreSQL has and other programs cannot read: 1e400, or its like.

    An error would come out of the driver, in the middle of its work.
    """


def json_value(text: str) -> Any:
    """Return the value of a json column."""
    try:
        return payloads.loads(text.encode())
    except ValueError:
        return Unreadable()


def plain(value: Any) -> Any:
    """Return a column's value as JSON has it. Raises TerminalError SQL_TYPE where there is none."""
    if value is None or type(value) in (str, int, bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64_text(bytes(value))
    if isinstance(value, (list, tuple)) and not hasattr(value, "keys"):
        return [plain(one) for one in value]
    if isinstance(value, Unreadable):
        raise TerminalError(
            "SQL_TYPE",
            "a json value is nested too deeply or has a number beyond all doubles: cast it to text",
        )
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): plain(one) for key, one in value.items()}
    return _named(value)


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _named(value: Any) -> Any:
    """Return values of types that have a form of their own, else their text."""
    forms: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
        ((datetime, date, time), lambda one: one.isoformat()),
        (timedelta, lambda one: one.total_seconds()),
        ((Decimal, UUID), str),
    )
    for kind, form in forms:
        if isinstance(value, kind):
            return form(value)
    if type(value).__module__ == "asyncpg.types" and hasattr(value, "lower_inc"):
        return _range(value)
    return str(value)


def _range(value: Any) -> Any:
    if value.isempty:
        return "empty"
    lower = "" if value.lower is None else plain(value.lower)
    upper = "" if value.upper is None else plain(value.upper)
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"
