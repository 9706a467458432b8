"""Whether a pool may start instances again after some ended by themselves: pure."""

from collections import deque

from bend_server.executor.pools.spec import Restarts


class Crashes:
    """A pool's memory of ends. Times are the caller's seconds and never go back.

    After an end the pool waits, twice as long with each one. So many within the window are a
    crash loop: then one instance is tried at a time, after a long pause, until one has stayed up
    for the window.
    """

    def __init__(self, rules: Restarts) -> None:
        self.rules = rules
        self.looping = False
        self._ends: deque[float] = deque(maxlen=max(1, rules.crashes))
        self._in_row = 0
        self._not_before = 0.0

    def ended(self, now: float) -> None:
        """An instance ended by itself, or did not connect in time."""
        rules = self.rules
        self._ends.append(now)
        self._in_row += 1
        full = len(self._ends) == self._ends.maxlen
        if self.looping or (full and now - self._ends[0] <= rules.window_s):
            self.looping = True
            self._not_before = now + rules.pause_s
            return
        # Bounded: 2 to a power over 1,000 is no float.
        pause = rules.backoff_s * 2 ** min(self._in_row - 1, 32)
        self._not_before = now + min(pause, rules.backoff_max_s)

    def steady(self, now: float) -> None:
        """An instance has been connected for the whole window: all is well again."""
        self.looping = False
        self._in_row = 0
        self._ends.clear()
        self._not_before = min(self._not_before, now)

    def allowed(self, now: float, starting: int) -> int | None:
        """Return how many instances may be started now; None: any number.

        Args:
            starting: instances that are up in this pool and have not proved themselves.
        """
        if now < self._not_before:
            return 0
        if self.looping:
            return max(0, 1 - starting)
        return None

    def wait_s(self, now: float) -> float:
        """Return for how many seconds nothing may be started."""
        return max(0.0, self._not_before - now)
