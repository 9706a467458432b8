"""Durations on the command line, as the workflow language writes them."""

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    SpanBase = click.ParamType[float]
else:
    # Generic only since click 8.2.
    SpanBase = click.ParamType

SECONDS_MAX = 366 * 86_400.0
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def seconds(text: str) -> float:
    """Return a duration such as `500ms`, `5s`, `1h30m`, `7d` in seconds; a bare number is seconds.

    Raises:
        ValueError: it is no duration, or longer than a year.
    """
    parts = _PART.findall(text)
    if _NUMBER.fullmatch(text):
        total = float(text)
    elif parts and "".join(number + unit for number, unit in parts) == text:
        total = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    else:
        raise ValueError(f"{text!r} is no duration such as 500ms, 5s or 1h30m")
    if total > SECONDS_MAX:
        raise ValueError(f"{text!r} is longer than a year")
    return total


class Span(SpanBase):
    """An option that is a duration, in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        if isinstance(value, int | float):
            return float(value)
        try:
            return seconds(str(value).strip())
        except ValueError as error:
            self.fail(str(error), param, ctx)
