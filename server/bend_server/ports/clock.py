"""Time and chance as inputs.

Waiting is asyncio's (`asyncio.sleep`, `asyncio.timeout`, `loop.call_at`): the simulation replaces
the loop's time, so real code waits on a fake clock without knowing.
"""

from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now_us(self) -> int:
        """Return Unix microseconds, UTC; the database's time where an offset is known."""
        ...


class Chance(Protocol):
    """Gives random values; seeded in tests."""

    def u64(self) -> int:
        """Return a random 64-bit number, never 0."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """Return a float in [low, high]."""
        ...
