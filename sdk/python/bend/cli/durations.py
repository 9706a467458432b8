"""Durations on the command line."""

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS_MAX = 366 * 86_400.0


def seconds(text: str) -> float:
    """Return a duration such as `500ms`, `5s`, `1h30m` in seconds; a bare number is seconds.

    Raises:
        ValueError: it is no duration, or longer than a year.
    """
    try:
        total = float(text)
    except ValueError:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"{text!r} is no duration such as 500ms, 5s or 1h30m") from None
        total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 <= total <= SECONDS_MAX:
        raise ValueError(f"{text!r} is not between 0 and a year")
    return total
