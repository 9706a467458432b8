"""Words that all rooms share: statuses, failures, and the rows that make up an execution.

Rows are tuples in the order of their table's columns (storage/tables.py), so that the hot
statements bind them as they are. Times are Unix microseconds, UTC.
"""

from enum import IntEnum
from typing import NamedTuple

import orjson

ITEM_NONE = -1


class ExecutionStatus(IntEnum):
    """Status of an execution; the numbers are those of bend.v1.Execution.Status."""

    PENDING = 1
    RUNNING = 2
    PAUSED = 3
    COMPLETED = 4
    FAILED = 5
    CANCELLED = 6
    TIMED_OUT = 7


class TaskStatus(IntEnum):
    """Status of a task; the numbers are those of bend.v1.TaskRun.Status."""

    PENDING = 1
    SCHEDULED = 2
    RUNNING = 3
    WAITING = 4
    COMPLETED = 5
    FAILED = 6
    SKIPPED = 7
    CANCELLED = 8
    TIMED_OUT = 9


EXECUTION_TERMINAL = frozenset(
    (
        ExecutionStatus.COMPLETED,
        ExecutionStatus.FAILED,
        ExecutionStatus.CANCELLED,
        ExecutionStatus.TIMED_OUT,
    )
)
TASK_TERMINAL = frozenset(
    (
        TaskStatus.COMPLETED,
        TaskStatus.FAILED,
        TaskStatus.SKIPPED,
        TaskStatus.CANCELLED,
        TaskStatus.TIMED_OUT,
    )
)


class RunIf(IntEnum):
    """When a task runs, judged over the tasks it depends on."""

    SUCCESS = 0
    FAILURE = 1
    ALWAYS = 2


class TaskKind(IntEnum):
    """Who does a task: a component, or the engine itself."""

    COMPONENT = 0
    WORKFLOW = 1
    WAIT = 2
    SIGNAL = 3
    APPROVAL = 4


class Phase(IntEnum):
    """When in an execution a task has its turn."""

    MAIN = 0
    ON_FAILURE = 1
    COMPENSATION = 2


class EventKind(IntEnum):
    """Kinds of execution_event rows. Numbers are stored: never change one, only add."""

    CANCEL_REQUESTED = 1
    QUARANTINED = 2
    PAUSED = 3
    RESUMED = 4
    SIGNALLED = 5
    DECIDED = 6
    RESET = 7
    RETRIED = 8
    TIMER_FIRED = 9
    ITEMS_COUNTED = 10
    LOOP_ENDED = 11
    FAILING = 12
    EXECUTION_TIMED_OUT = 13
    WAITING = 14
    CHILD_STARTED = 15
    COMPENSATING = 16
    HANDLING_FAILURE = 17


class Failure(NamedTuple):
    """Why a task or an execution did not complete; stored as JSON."""

    reason: str
    message: str = ""
    retryable: bool = False
    retry_after_us: int | None = None
    details: bytes = b""
    task: str = ""

    def to_json(self) -> bytes:
        """Return the stored form."""
        body: dict[str, object] = {"reason": self.reason, "message": self.message}
        if self.retryable:
            body["retryable"] = True
        if self.retry_after_us is not None:
            body["retry_after_us"] = self.retry_after_us
        if self.details:
            body["details"] = orjson.Fragment(self.details)
        if self.task:
            body["task"] = self.task
        return orjson.dumps(body)

    @classmethod
    def from_json(cls, data: bytes) -> "Failure":
        """Read the stored form."""
        body = orjson.loads(data)
        details = body.get("details")
        return cls(
            body["reason"],
            body.get("message", ""),
            body.get("retryable", False),
            body.get("retry_after_us"),
            b"" if details is None else orjson.dumps(details),
            body.get("task", ""),
        )


class StartRow(NamedTuple):
    """One accepted execution: what a start writes."""

    id: int
    public_id: str
    namespace: str
    workflow: str
    revision: int
    partition: int
    run: int
    status: int
    priority: int
    concurrency_key: str | None
    parent: int | None
    parent_task: int | None
    root: int | None
    rerun_of: int | None
    request_id: str | None
    request_hash: bytes | None
    actor: str
    input: bytes
    labels: bytes
    trace: str
    started_us: int
    deadline_us: int


class ResultRow(NamedTuple):
    """One finished try, or one decision about a task (a skip, a cancel): append only.

    `retry_at_us` is set when the try failed and another one is due then: the task is not
    terminal. `output` is JSON; an output over limits.INLINE_BYTES_MAX lives in the blob store,
    then `output` is None and `blob` its key.
    """

    execution: int
    seq: int
    run: int
    task: int
    item: int
    try_: int
    iteration: int
    attempt: int
    status: int
    output: bytes | None
    blob: str | None
    error: bytes | None
    retry_at_us: int | None
    worker: str
    run_id: int
    chunks: int
    started_us: int
    finished_us: int


class EventRow(NamedTuple):
    """What is neither a start nor a result: append only."""

    execution: int
    seq: int
    run: int
    kind: int
    task: int
    item: int
    actor: str
    body: bytes
    at_us: int


class FinishRow(NamedTuple):
    """What the end of a run writes into the execution's row."""

    execution: int
    run: int
    seq: int
    status: int
    output: bytes | None
    blob: str | None
    error: bytes | None
    finished_us: int


class StatusChange(NamedTuple):
    """A change of an execution's status that is not its end (PAUSED, RUNNING)."""

    execution: int
    status: int
    pause_reason: str | None


class Reopen(NamedTuple):
    """A run that begins or goes on: RUNNING, with this run and deadline, and no finish."""

    execution: int
    run: int
    deadline_us: int


class ApprovalRow(NamedTuple):
    """An approval that a task waits for, as the table has it. `expires_us` 0: never."""

    execution: int
    task: int
    item: int
    try_: int
    namespace: str
    public_id: str
    workflow: str
    task_id: str
    title: str
    assignees: bytes
    form: bytes
    created_us: int
    expires_us: int


class ApprovalEnd(NamedTuple):
    """How an approval ended. `status`: 2 approved, 3 rejected, 4 closed otherwise."""

    execution: int
    task: int
    item: int
    try_: int
    status: int
    decided_by: str
    decided_us: int
    comment: str


class CacheRow(NamedTuple):
    """An output kept for equal inputs; it owns its copy of a large one (`blob`)."""

    namespace: str
    key: bytes
    output: bytes | None
    blob: str | None
    execution: int
    created_us: int
    expires_us: int


class Outcome(NamedTuple):
    """What came of one try, as the executor (or the engine itself) reports it."""

    task: int
    item: int
    try_: int
    status: int
    output: bytes | None
    blob: str | None
    failure: Failure | None
    worker: str
    run_id: int
    chunks: int
    started_us: int
    finished_us: int
