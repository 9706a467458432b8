"""Which status of a task may follow which, as data. What is not in the table is a fault of ours."""

from bend_server.core.errors import InvariantBroken
from bend_server.core.model import TaskStatus

_P = TaskStatus

TRANSITIONS: dict[TaskStatus, tuple[TaskStatus, ...]] = {
    # Judged: it runs, or a decision ends it (FAILED: its condition cannot be evaluated).
    # RUNNING: the items of its for_each are counted.
    _P.PENDING: (_P.SCHEDULED, _P.RUNNING, _P.SKIPPED, _P.CANCELLED, _P.FAILED),
    # Handed out: an outcome, or the end of the cancel grace.
    _P.SCHEDULED: (
        _P.RUNNING,
        _P.WAITING,
        _P.COMPLETED,
        _P.FAILED,
        _P.CANCELLED,
        _P.TIMED_OUT,
    ),
    _P.RUNNING: (_P.WAITING, _P.COMPLETED, _P.FAILED, _P.CANCELLED, _P.TIMED_OUT),
    # Backoff, or between two rounds: the next try opens, or the execution ends before. COMPLETED:
    # a loop that was in doubt is over.
    _P.WAITING: (_P.SCHEDULED, _P.COMPLETED, _P.CANCELLED),
    _P.COMPLETED: (),
    _P.FAILED: (),
    _P.SKIPPED: (),
    _P.CANCELLED: (),
    _P.TIMED_OUT: (),
}

WIDTH = 16
ALLOWED = bytearray(WIDTH * WIDTH)
for _source, _targets in TRANSITIONS.items():
    for _target in _targets:
        ALLOWED[_source * WIDTH + _target] = 1


def check(execution: int, task: int, source: int, target: int) -> None:
    """Raise InvariantBroken unless a task may go from one status to the other."""
    if not ALLOWED[source * WIDTH + target]:
        raise InvariantBroken(
            f"task {task} of execution {execution} cannot go from "
            f"{TaskStatus(source).name} to {TaskStatus(target).name}",
            execution=execution,
            task=task,
            source=TaskStatus(source).name,
            target=TaskStatus(target).name,
        )
