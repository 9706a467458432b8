"""Time and chance of a real process: implements ports.clock."""

import random
import secrets
import time


class SystemClock:
    """The machine's wall clock, moved by the offset to the database's when one is known."""

    def __init__(self, offset_us: int = 0) -> None:
        self._offset_us = offset_us

    def now_us(self) -> int:
        """See ports.clock.Clock."""
        return time.time_ns() // 1000 + self._offset_us


class SystemChance:
    """Chance of the operating system for ids; a generator seeded by it for jitter."""

    def __init__(self) -> None:
        self._random = random.Random(secrets.randbits(128))  # noqa: S311 - jitter

    def u64(self) -> int:
        """See ports.clock.Chance."""
        return secrets.randbits(64) or 1

    def uniform(self, low: float, high: float) -> float:
        """See ports.clock.Chance."""
        return self._random.uniform(low, high)
