"""JSON of payloads: fast, and integers keep their digits, also beyond 64 bits."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import orjson

# The fast parser turns integers of more than 64 bits (20 digits) into floats.
_LONG = re.compile(rb"[0-9]{20}")


def loads(data: bytes) -> Any:
    """Parse JSON. Raises ValueError."""
    value = orjson.loads(data)
    return json.loads(data) if _LONG.search(data) else value


def dumps(value: object, default: Callable[[Any], Any] | None = None) -> bytes:
    """Write JSON; `default` turns what is no JSON value into one.

    Raises TypeError, for NaN and infinity too: as null they would go unnoticed.
    """
    try:
        data = orjson.dumps(value, default=default)
    except TypeError as error:
        if "64-bit" not in str(error):
            raise
        return _long_dumps(value, default)
    # The fast writer makes null of both.
    if b"null" in data and _lost_number(value):
        raise TypeError("NaN and infinity are no JSON numbers")
    return data


def _long_dumps(value: object, default: Callable[[Any], Any] | None) -> bytes:
    try:
        text = json.dumps(
            value, default=default, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
    except ValueError as error:
        raise TypeError(str(error)) from None
    return text.encode()


def _lost_number(value: object) -> bool:
    """Tell whether a number that is not finite stands somewhere in lists and dicts."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, float):
            if not math.isfinite(one):
                return True
        elif isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list | tuple):
            left.extend(one)
    return False
