"""An event loop whose clock jumps: hours of waiting run in milliseconds, the same way each time.

Real asyncio code runs on it unchanged. When nothing is ready, time jumps to the next timer; when
there is no timer either, nothing can ever happen again, and the loop says so.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

EPOCH_US = 1_750_000_000_000_000
STUCK_TURNS_MAX = 200_000

T = TypeVar("T")


class Stuck(Exception):
    """The loop cannot make progress: nobody waits for time, or time no longer moves."""


class _JumpingSelector(selectors.SelectSelector):
    """Polls; the time that it should have waited is added to the loop's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return at once, later."""
        if timeout is None:
            raise Stuck(f"nothing can happen any more at {self.now:.3f} s")
        if timeout > 0:
            self.now += timeout
            self.turns = 0
        else:
            self.turns += 1
            if self.turns > STUCK_TURNS_MAX:
                raise Stuck(f"time stands still at {self.now:.3f} s")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. Threads are refused: they would bring real time in."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._jumping.now

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> NoReturn:
        """Refuse."""
        raise RuntimeError(f"{func} would run in a thread: no virtual time there")


class VirtualClock:
    """`ports.clock.Clock` over a loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now_us(self) -> int:
        """Return Unix microseconds."""
        return EPOCH_US + round(self._loop.time() * 1_000_000)


def run_virtual(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a loop of its own, then drop whatever it left running.

    Raises Stuck, and what `main` raises.
    """
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, _context: None)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        _drop_tasks(loop)
        asyncio.set_event_loop(None)
        loop.close()


def _drop_tasks(loop: VirtualLoop) -> None:
    for _ in range(3):
        left = asyncio.all_tasks(loop)
        if not left:
            return
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=1.0))
