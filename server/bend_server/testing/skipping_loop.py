"""An event loop that skips waiting: backoffs and waits of hours pass in milliseconds.

While `skipping` is on and nothing happens outside of the loop (no thread works for it, no socket
is open), time jumps to the next timer. Otherwise it passes as it does on the wall.
"""

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any

# Where the process may be waited for from outside, time must not run away in one go.
REAL_S_MAX = 0.05


class _SkippingSelector(selectors.BaseSelector):
    """A selector that adds the time it did not wait to the loop's clock."""

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()
        self.skipped_s = 0.0
        self.may_skip: Callable[[], bool] = lambda: False

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Any:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; skip the wait where that is allowed."""
        if timeout is None or timeout <= 0:
            return self._inner.select(timeout)
        found = self._inner.select(0)
        if found:
            return found
        if self.may_skip():
            self.skipped_s += timeout
            return []
        return self._inner.select(min(timeout, REAL_S_MAX))


class SkippingLoop(asyncio.SelectorEventLoop):
    """See the module. `busy` tells whether a thread works for what runs here."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        self._threads = 0
        # How many wait for something to end: 0 means that time passes as on the wall.
        self.waiters = 0
        self.busy: Callable[[], bool] = lambda: False
        super().__init__(self._skipping)
        # The loop's own pipe, through which other threads wake it.
        self._own = len(self._skipping.get_map())
        self._skipping.may_skip = self._may_skip

    def time(self) -> float:
        """Return seconds: the machine's, and all that was skipped."""
        return time.monotonic() + self._skipping.skipped_s

    def now_us(self) -> int:
        """Return Unix microseconds on the same terms; see ports.clock.Clock."""
        return time.time_ns() // 1000 + int(self._skipping.skipped_s * 1_000_000)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        """Run in a thread; time passes really until it has ended."""
        self._threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _future: "asyncio.Future[Any]") -> None:
        self._threads -= 1

    def _may_skip(self) -> bool:
        return (
            self.waiters > 0
            and self._threads == 0
            and len(self._skipping.get_map()) <= self._own
            and not self.busy()
        )
