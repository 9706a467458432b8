"""What a model's runs were like: how many, how large, how long."""

from collections import Counter
from typing import Any


class Metrics:
    """Counts since the model was loaded; times in microseconds inside, milliseconds shown.

    `batch_rows` counts the runs by the number of samples each had.
    """

    def __init__(self) -> None:
        self.batch_rows: Counter[int] = Counter()
        self.tasks = 0
        self.failures = 0
        self._queue_us = 0
        self._queue_us_max = 0
        self._run_us = 0
        self._run_us_max = 0

    def ran(self, rows: int, took_us: int) -> None:
        """Count one run of the session."""
        self.batch_rows[rows] += 1
        self._run_us += took_us
        self._run_us_max = max(self._run_us_max, took_us)

    def waited(self, queue_us: int) -> None:
        """Count one task that left the queue for a run."""
        self.tasks += 1
        self._queue_us += queue_us
        self._queue_us_max = max(self._queue_us_max, queue_us)

    @property
    def runs(self) -> int:
        """How many times the session ran."""
        return self.batch_rows.total()

    @property
    def items(self) -> int:
        """How many samples all the runs had."""
        return sum(rows * count for rows, count in self.batch_rows.items())

    def shown(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        runs, tasks = self.runs, self.tasks
        return {
            "tasks": tasks,
            "runs": runs,
            "items": self.items,
            "failures": self.failures,
            "batches": {str(rows): self.batch_rows[rows] for rows in sorted(self.batch_rows)},
            "queue_ms_mean": round(self._queue_us / tasks / 1000, 3) if tasks else 0.0,
            "queue_ms_max": round(self._queue_us_max / 1000, 3),
            "run_ms_mean": round(self._run_us / runs / 1000, 3) if runs else 0.0,
            "run_ms_max": round(self._run_us_max / 1000, 3),
        }
