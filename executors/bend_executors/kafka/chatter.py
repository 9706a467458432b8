"""librdkafka's own log lines, as rare as somebody can read them.

A broker that refuses a password is asked again many times a second, for as long as the process
lives, and each time there is a line.
"""

import logging
import time
from collections.abc import Callable

EVERY_S = 60.0
KINDS_MAX = 1000


class Seldom(logging.Filter):
    """Lets a producer's line of one kind through once a minute, with how many came between.

    A line is `FAIL [producer] [thread]: …`: what stands before the colon is its kind.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is logged."""
        text = record.getMessage()
        kind = text.partition("]: ")[0]
        now = self._clock()
        at, dropped = self._seen.get(kind, (now - EVERY_S, 0))
        if now - at < EVERY_S:
            self._seen[kind] = at, dropped + 1
            return False
        if len(self._seen) >= KINDS_MAX:
            self._seen.clear()
        self._seen[kind] = now, 0
        if dropped:
            record.msg, record.args = f"{text} ({dropped} more since the last one)", ()
        return True


def logger() -> logging.Logger:
    """Return where librdkafka logs."""
    found = logging.getLogger(f"{__package__}.librdkafka")
    if not found.filters:
        found.addFilter(Seldom())
    return found
