"""The state of one execution in memory: flat arrays, no object per task.

Only `evolve` writes it. What few executions need (errors, backoffs, blobs) lives in dicts that
are made when first needed.
"""

from array import array

from bend_server.core.model import ITEM_NONE, ExecutionStatus, Failure, RunIf, StartRow, TaskStatus
from bend_server.core.plan import Plan

_OPEN_FIRST = int(TaskStatus.SCHEDULED)
_OPEN_LAST = int(TaskStatus.RUNNING)
_TERMINAL_FIRST = int(TaskStatus.COMPLETED)


class BlobOutput:
    """An output in the blob store; `data` is there only while somebody evaluates with it."""

    __slots__ = ("data", "key")

    def __init__(self, key: str, data: bytes | None = None) -> None:
        self.key = key
        self.data = data


class ExecutionState:
    """One execution.

    Attributes:
        plan: the compiled revision.
        start: the row it was started with.
        run: number of the current run, from 1 (as in the start row).
        status: an ExecutionStatus.
        seq: seq of the newest row; 0 while there is only the start. The next row takes seq + 1.
        statuses: a TaskStatus per task.
        remaining: per task, how many dependencies are not terminal yet.
        tries: per task, the last try that was opened or written; 0 before the first.
        outputs: per task bytes, BlobOutput or None; the list is None before the first output.
        times: started and finished of the last try per task, Unix microseconds, at 2i and 2i + 1.
        unfinished: how many tasks are not terminal.
        ending: 0, or the terminal status that the run is heading for (FAILED, CANCELLED,
            TIMED_OUT) and will get when all tasks are terminal.
        grace_us: when tasks that were asked to stop are given up; 0 unless ending.
        quarantined: whether the execution is out of service; nothing but a cancel moves it.
        error: the first failure, with `task` set where a task was the cause.
        result: the output of a completed execution, as the finish row has it.
        errors: JSON of the last failure per task; None before the first.
        due: per WAITING task, when its next try opens; None before the first.
        firsts: start of the first attempt, per task that was retried; None before the first.
        attempts: attempt of the last try where it is not equal to the try.
    """

    __slots__ = (
        "attempts",
        "due",
        "ending",
        "error",
        "errors",
        "firsts",
        "grace_us",
        "outputs",
        "plan",
        "quarantined",
        "remaining",
        "result",
        "run",
        "seq",
        "start",
        "status",
        "statuses",
        "times",
        "tries",
        "unfinished",
    )

    def __init__(self, plan: Plan, start: StartRow, status: int) -> None:
        size = len(plan.tasks)
        self.plan = plan
        self.start = start
        self.run = start.run
        self.status = status
        self.seq = 0
        self.statuses = bytearray(b"\x01" * size)
        self.remaining = plan.dependency_counts[:]
        self.tries = array("I", bytes(4 * size))
        self.outputs: list[bytes | BlobOutput | None] | None = None
        self.times: array[int] | None = None
        self.unfinished = size
        self.ending = 0
        self.grace_us = 0
        self.quarantined = False
        self.error: Failure | None = None
        self.result: bytes | None = None
        self.errors: dict[int, bytes] | None = None
        self.due: dict[int, int] | None = None
        self.firsts: dict[int, int] | None = None
        self.attempts: dict[int, int] | None = None

    @property
    def id(self) -> int:
        """The internal id."""
        return self.start.id

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return self.start.public_id

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self.start.namespace

    @property
    def input(self) -> bytes:
        """The parameters, JSON."""
        return self.start.input

    @property
    def labels(self) -> bytes:
        """The labels, JSON object of strings."""
        return self.start.labels

    @property
    def started_us(self) -> int:
        """When it was accepted, Unix microseconds."""
        return self.start.started_us

    @property
    def deadline_us(self) -> int:
        """When it times out, Unix microseconds; 0: never."""
        return self.start.deadline_us

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
        return self.status >= ExecutionStatus.COMPLETED

    def task_status(self, task: int) -> TaskStatus:
        """Return a task's status."""
        return TaskStatus(self.statuses[task])

    def output(self, task: int) -> bytes | BlobOutput | None:
        """Return a completed task's output: JSON, or a reference; None when there is none."""
        return None if self.outputs is None else self.outputs[task]

    def open_try(self, task: int, item: int = ITEM_NONE) -> int:
        """Return the try whose result will count; 0 when no try of the task is open."""
        if item != ITEM_NONE or not _OPEN_FIRST <= self.statuses[task] <= _OPEN_LAST:
            return 0
        return self.tries[task]

    def attempt(self, task: int) -> int:
        """Return the attempt of the task's last try, from 1; 0 when it never ran."""
        if self.attempts is not None and task in self.attempts:
            return self.attempts[task]
        return self.tries[task]

    def task_terminal(self, task: int) -> bool:
        """Return whether a task has its final status."""
        return self.statuses[task] >= _TERMINAL_FIRST

    def stopping(self, task: int) -> bool:
        """Return whether a task may not start any more, and is asked to stop if it did.

        An execution that is failing still runs its `run_if: failure | always` tasks; one that is
        cancelled or timed out runs nothing.
        """
        if not self.ending:
            return False
        if self.ending == ExecutionStatus.FAILED:
            return self.plan.tasks[task].run_if == RunIf.SUCCESS
        return True

    def hold_blob(self, task: int, data: bytes) -> None:
        """Lend a blob's data to evaluations, until `drop_blobs`. No part of the history."""
        output = self.output(task)
        if isinstance(output, BlobOutput):
            output.data = data

    def drop_blobs(self) -> None:
        """Forget all blob data that was lent."""
        for output in self.outputs or ():
            if isinstance(output, BlobOutput):
                output.data = None
