"""Lists of tasks that are read page by page: the first page's moment is kept for the others.

A list is a fold of all rows of its execution. Folding again for each page would cost the square of
the number of tasks, and pages would not fit together while the execution goes on.
"""

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from bend_server.ports.clock import Clock
from bend_server.rpc.views import TaskView

KEPT_MAX = 16
BYTES_MAX = 64 * 1024 * 1024
VIEW_BYTES = 600
"""What a view takes beside its output and error: measured, with its strings."""
AGE_US_MAX = 60_000_000


class _Listing(NamedTuple):
    execution: int
    tasks: Sequence[TaskView]
    size: int
    made_us: int


class TaskListings:
    """The lists of which some replica's client has read the first page, the newest ones only.

    Args:
        clock: tells their age.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Numbers of another replica, or of this one before it was started again, find nothing.
        self._numbers = count(clock.now_us())
        self._kept: dict[int, _Listing] = {}
        self._bytes = 0

    def keep(self, execution: int, tasks: Sequence[TaskView]) -> int:
        """Keep a list for a minute, unless room is needed; return its number for `find`."""
        number = next(self._numbers)
        size = sum(VIEW_BYTES + len(task.output or b"") + len(task.error or b"") for task in tasks)
        self._kept[number] = _Listing(execution, tasks, size, self._clock.now_us())
        self._bytes += size
        self._forget()
        return number

    def find(self, execution: int, number: int) -> Sequence[TaskView] | None:
        """Return a list that is still kept; None otherwise: then it has to be made again."""
        self._forget()
        found = self._kept.get(number)
        return found.tasks if found is not None and found.execution == execution else None

    def _forget(self) -> None:
        oldest_us = self._clock.now_us() - AGE_US_MAX
        for number, listing in list(self._kept.items()):
            crowded = len(self._kept) > KEPT_MAX or self._bytes > BYTES_MAX
            if not crowded and listing.made_us > oldest_us:
                return
            del self._kept[number]
            self._bytes -= listing.size
