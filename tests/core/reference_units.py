"""What the reference model is made of: tasks and items, each an object with all it knows."""

from dataclasses import dataclass, field

from bend_server.core.model import TaskStatus as S
from tests.kit.plans import Task

NO_ITEM = -1
FAILURES = (S.FAILED, S.TIMED_OUT)
ENDED = (S.COMPLETED, S.FAILED, S.SKIPPED, S.CANCELLED, S.TIMED_OUT)


@dataclass(eq=False)
class Unit:
    """A task, or one item of a task."""

    status: S = S.PENDING
    tries: int = 0
    attempt: int = 0
    iteration: int = 0
    output: bytes | None = None
    blob: bool = False
    reason: str = ""
    due: int | None = None
    doubt: bool = False
    finished: int = 0
    wait: tuple[int, str, int] | None = None  # order, name, due
    child: tuple[int, int] | None = None  # id, run
    admitted: bool = False

    @property
    def over(self) -> bool:
        """Whether it has its final status."""
        return self.status in ENDED

    @property
    def open(self) -> bool:
        """Whether an outcome would count now."""
        return self.status in (S.SCHEDULED, S.RUNNING) or self.wait is not None


@dataclass(eq=False)
class Node(Unit):
    """A task with its items; `items` None: not counted."""

    spec: Task = field(default_factory=lambda: Task(id=""))
    index: int = 0
    items: list[Unit] | None = None
    halted: bool = False

    def unit(self, item: int) -> Unit:
        """Return the unit of an item, or of the task."""
        return self if item == NO_ITEM else (self.items or [])[item]

    def active(self) -> list[Unit]:
        """Return the items that run."""
        return [unit for unit in self.items or [] if unit.admitted and not unit.over]
