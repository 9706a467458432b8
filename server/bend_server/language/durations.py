"""Durations as documents write them: `500ms`, `5s`, `1h30m`, `7d`; a bare number is seconds."""

import re
from decimal import Decimal

_PART = r"(?:(\d{1,15}(?:\.\d{1,9})?)%s)?"
_DURATION = re.compile("".join(_PART % unit for unit in ("d", "h", "m(?!s)", "s", "ms")))
_UNITS_US = (86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1000)
_SECONDS = re.compile(r"\d{1,15}(?:\.\d{1,9})?")


def parse_duration(value: object) -> int | None:
    """Return microseconds, or None when the value is no duration.

    Args:
        value: text such as `1h30m`, or a number of seconds, >= 0.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(Decimal(str(value)) * 1_000_000) if 0 <= value < 10**15 else None
    if not isinstance(value, str):
        return None
    if _SECONDS.fullmatch(value):
        return int(Decimal(value) * 1_000_000)
    match = _DURATION.fullmatch(value)
    if match is None or not value or not value.isascii():
        return None
    return sum(
        int(Decimal(part) * unit)
        for part, unit in zip(match.groups(), _UNITS_US, strict=True)
        if part is not None
    )


def show_duration(duration_us: int) -> str:
    """Write microseconds in the largest units that fit: `1h30m`."""
    if duration_us <= 0:
        return "0s"
    text = ""
    for unit_us, unit in zip(_UNITS_US, ("d", "h", "m", "s", "ms"), strict=True):
        count, duration_us = divmod(duration_us, unit_us)
        if count:
            text += f"{count}{unit}"
    return text or "0ms"
