"""JSON of payloads: fast, and integers keep their digits, also beyond 64 bits."""

import json
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
    """Write JSON; `default` turns what is no JSON value into one. Raises TypeError."""
    try:
        return orjson.dumps(value, default=default)
    except TypeError as error:
        if "64-bit" not in str(error):
            raise
    try:
        text = json.dumps(
            value, default=default, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )
        return text.encode()
    except ValueError as error:
        raise TypeError(str(error)) from None
