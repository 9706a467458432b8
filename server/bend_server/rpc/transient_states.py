"""What a watch shows of open tries: after the rows that they follow from, never when it is stale.

The engine's memory tells it, and memory may run ahead of SQL and of the rows that were read. What
a row tells anyway, that a child runs, is left out.
"""

from bend_server.core.model import ResultRow, TaskStatus
from bend_server.ports.engine import TaskOverlay

SPARE = 1000

Unit = tuple[int, int]


class TransientStates:
    """The states of one watch: those that wait to be shown, and what was shown last.

    Args:
        tasks: how many tasks the execution has; bounds what waits.
    """

    def __init__(self, tasks: int) -> None:
        self._kept_max = tasks + SPARE
        self._kept: list[TaskOverlay] = []
        self._index: dict[Unit, list[TaskOverlay]] | None = None
        self._shown: dict[Unit, tuple[int, int, str]] = {}
        self._closed: dict[Unit, int] = {}
        self._ended: set[Unit] = set()

    def add(self, changed: list[TaskOverlay]) -> None:
        """Take in what changed; of too much, the oldest is dropped."""
        self._kept += [
            entry for entry in changed if not entry.waiting or entry.status == TaskStatus.WAITING
        ]
        del self._kept[: -self._kept_max]

    def new_run(self) -> None:
        """Hear that a new run began: tasks that had ended may begin again."""
        self._ended.clear()
        self._shown.clear()

    def closed(self, row: ResultRow) -> list[TaskOverlay]:
        """Hear of a try's end; return the states of that try that stand before it."""
        unit = (row.task, row.item)
        before = [
            entry
            for entry in self._by_unit().get(unit, ())
            if entry.try_ == row.try_ and not entry.waiting
        ]
        self._closed[unit] = row.try_
        if row.retry_at_us is None:
            self._ended.add(unit)
        return [entry for entry in before if self._new(entry)]

    def due(self, seq: int) -> list[TaskOverlay]:
        """Return what is to be shown after the row `seq`; the newest state of a unit counts.

        What follows from a row behind it stays for later.
        """
        kept, self._kept, self._index = self._kept, [], None
        newest = {(entry.task, entry.item): entry for entry in kept}
        shown: list[TaskOverlay] = []
        waits: list[TaskOverlay] = []
        for entry in kept:
            unit = (entry.task, entry.item)
            if unit in self._ended:
                continue
            if entry.after > seq:
                if entry is newest[unit]:
                    self._kept.append(entry)
            elif not entry.waiting:
                if entry.try_ > self._closed.get(unit, 0):
                    shown.append(entry)
            elif entry is newest[unit]:
                waits.append(entry)
        return [entry for entry in [*shown, *waits] if self._new(entry)]

    def _by_unit(self) -> dict[Unit, list[TaskOverlay]]:
        """Return what is kept by unit, made once for all rows of a reading."""
        if self._index is None:
            self._index = {}
            for entry in self._kept:
                self._index.setdefault((entry.task, entry.item), []).append(entry)
        return self._index

    def _new(self, entry: TaskOverlay) -> bool:
        unit = (entry.task, entry.item)
        state = (entry.status, entry.attempt, entry.waiting)
        if self._shown.get(unit) == state:
            return False
        self._shown[unit] = state
        return True
