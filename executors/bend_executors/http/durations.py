"""Times in inputs and headers: `5`, `500ms`, `5s`, `1m`, Retry-After."""

import re
import time
from email.utils import parsedate_to_datetime

from bend import TerminalError

DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h)?")
UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
RETRY_AFTER_S_MAX = 86_400.0


def seconds(duration: float | str, name: str = "timeout_connect") -> float:
    """Return seconds of a number, or of a text such as `500ms`, `5s`, `1m`.

    Raises TerminalError INVALID_INPUT naming the input.
    """
    if isinstance(duration, str):
        match = DURATION.fullmatch(duration.strip())
        if match is None:
            raise TerminalError(
                "INVALID_INPUT", f"{name}: {duration!r} is no duration", details={"field": name}
            )
        duration = float(match[1]) * UNITS_S[match[2] or "s"]
    if not 0 < duration < float("inf"):
        raise TerminalError(
            "INVALID_INPUT", f"{name}: must be more than 0", details={"field": name}
        )
    return duration


def retry_after_s(header: str) -> float | None:
    """Return the seconds that a Retry-After header asks for, at most a day; None when unsound."""
    if not header:
        return None
    try:
        asked = float(header)
    except ValueError:
        try:
            asked = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    if asked != asked:  # noqa: PLR0124 - the only thing that differs from itself is NaN
        return None
    return min(RETRY_AFTER_S_MAX, max(0.0, asked))
