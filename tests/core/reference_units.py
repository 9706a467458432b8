"""What the reference model is made of: tasks and items, each an object with all it knows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bend_server.core.model import ExecutionStatus as E
from bend_server.core.model import Phase, RunIf
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


class Facts:
    """What is known of one execution, and what follows from it at a look."""

    def __init__(
        self, tasks: Sequence[Task], now: int, timeout: int, *, pause_on_failure: bool
    ) -> None:
        self.tasks = [Node(spec=task, index=index) for index, task in enumerate(tasks)]
        self.by_id = {node.spec.id: node for node in self.tasks}
        self.now = now
        self.timeout = timeout
        self.deadline = now + timeout
        self.pauses = pause_on_failure
        self.run = 1
        self.status = E.RUNNING
        self.phase = Phase.MAIN
        self.ending: E | None = None
        self.grace = 0
        self.error = ""
        self.result: bytes | None = None
        self.paused_at = 0
        self.paused_by_failure = False
        self.signals: dict[str, list[bytes]] = {}
        self.waited = 0
        self.undo: list[tuple[int, int]] = []
        self.undone = 0
        self.compensated = False
        self.cut = False
        self.cancel_noted = False
        self.queue: list[Node] = []
        self.later: list[Node] = []
        self.lent: set[int] = set()
        self.past: dict[int, list[int]] = {}
        self.failed_over = False

    def main(self) -> list[Node]:
        return [node for node in self.tasks if node.spec.phase == Phase.MAIN]

    def on_failure(self) -> list[Node]:
        return [node for node in self.tasks if node.spec.phase == Phase.ON_FAILURE]

    def having_turn(self) -> list[Node]:
        turn = self.main()
        if self.phase != Phase.MAIN and self.failed_over:
            turn += self.on_failure()
        return turn

    @property
    def terminal(self) -> bool:
        return self.status in (E.COMPLETED, E.FAILED, E.CANCELLED, E.TIMED_OUT)

    @property
    def paused(self) -> bool:
        return self.status == E.PAUSED

    def undoer(self) -> tuple[Node, int] | None:
        """Return the compensation that has its turn, and for which item."""
        if self.phase != Phase.COMPENSATION or self.undone >= len(self.undo):
            return None
        task, item = self.undo[-1 - self.undone]
        return self.undoer_of(self.tasks[task]), item

    def undoer_of(self, undone: Node) -> Node:
        return next(node for node in self.tasks if node.spec.undoes == undone.spec.id)

    def stopping(self, node: Node) -> bool:
        if self.ending is None:
            return False
        if node.spec.phase == Phase.COMPENSATION:
            return self.cut
        if self.ending == E.FAILED:
            return node.spec.phase == Phase.MAIN and node.spec.run_if == RunIf.SUCCESS
        return True

    def dues(self) -> Iterator[tuple[int, int, int]]:
        for node in self.tasks:
            for item, unit in [(NO_ITEM, node), *enumerate(node.items or [])]:
                if unit.due is not None:
                    yield unit.due, node.index, item
                if unit.wait is not None and unit.wait[2]:
                    yield unit.wait[2], node.index, item
