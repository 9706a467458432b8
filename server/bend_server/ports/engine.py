"""The engine as the API sees it: the use cases that rpc calls. `bend_server.engine` offers them.

Reads of committed state come from `ports.store.ReadStore`; what only an owner's memory knows
(who runs what now, why something waits) is an overlay and may be missing at any time.
"""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from bend_server.core.errors import DomainError
from bend_server.core.model import ExecutionStatus, FinishRow
from bend_server.ports.control import ApprovalSummary, BulkRow, ExecutionFilter


class StartCommand(NamedTuple):
    """One wished start, checked by the caller against the revision's input schema.

    `revision` is resolved; `current` tells that the caller asked for the newest one, so that the
    start statement checks that it still is. `input` and `labels` (the workflow's and the
    request's together) are JSON objects. Empty `request_id`, `execution_id`, `trace`: none.
    `request_hash` covers everything that the request said; None without a request id. `rerun_of` is
    the internal id of the execution that this one repeats, 0: none.
    """

    namespace: str
    workflow: str
    revision: int
    current: bool
    input: bytes
    labels: bytes
    request_id: str
    request_hash: bytes | None
    execution_id: str
    actor: str
    trace: str
    rerun_of: int = 0


class StartOutcome(NamedTuple):
    """What came of one start.

    Accepted: `execution` (internal id) and `public_id`; `created` is False when the request id
    was known with the same hash. Refused: `error`; NotFound WORKFLOW_NOT_FOUND, WrongState
    WORKFLOW_ARCHIVED, Conflict OWNERSHIP_MOVED (the revision is no longer the current one: resolve
    again), AlreadyExists REQUEST_ID_REUSED or EXECUTION_EXISTS, LimitExceeded OVERLOADED,
    InvalidInput INVALID_PARAMETERS (the concurrency key cannot be evaluated).
    """

    execution: int
    public_id: str
    created: bool
    started_us: int
    error: DomainError | None = None


class TaskOverlay(NamedTuple):
    """What the owner's memory knows of one task beyond its rows.

    `status` is SCHEDULED, RUNNING or WAITING (core.model.TaskStatus); `waiting` says why in one
    sentence ("no instance of vision.detect@2", "retry at 2026-01-01T00:00:00Z") or is empty. It
    follows from rows up to the seq `after`, which may not be durable yet; 0: they are.
    """

    task: int
    item: int
    status: int
    attempt: int
    try_: int
    worker: str
    since_us: int
    waiting: str
    after: int = 0


class Ended(NamedTuple):
    """An execution that is terminal and committed; `finish` is None when only SQL has the row."""

    execution: int
    finish: FinishRow | None


class RunOpened(NamedTuple):
    """What a retry or a reset led to: the execution's status, and the run that was opened."""

    status: ExecutionStatus
    run: int


class Decision(NamedTuple):
    """What somebody decided about the approval (execution, task, item, try).

    `data` is JSON, checked by the caller against the approval's form; empty: null.
    """

    execution: int
    task: int
    item: int
    try_: int
    approved: bool
    comment: str
    data: bytes
    actor: str


class BulkCommand(NamedTuple):
    """A wished bulk job. `action` as bend.v1.Bulk; empty `request_id`: not idempotent."""

    namespace: str
    action: int
    filter: ExecutionFilter
    reason: str
    actor: str
    dry_run: bool
    request_id: str


class EngineUseCases(Protocol):
    """The engine's use cases. All raise DependencyDown while SQL or the queue is away."""

    @property
    def ready(self) -> bool:
        """Whether this engine has its lease, owns partitions and has recovered them."""
        ...

    async def start_executions(self, commands: Sequence[StartCommand]) -> list[StartOutcome]:
        """Start many; answer in order, after the commit. Each is judged alone."""
        ...

    async def cancel(
        self, execution: int, *, reason: str, actor: str, request_id: str
    ) -> ExecutionStatus:
        """Cancel; return the status after the wish is durable, wherever the owner is.

        Idempotent. Raises WrongState when the execution ended otherwise, NotFound.
        """
        ...

    async def pause(
        self, execution: int, *, reason: str, actor: str, request_id: str = ""
    ) -> ExecutionStatus:
        """Pause: nothing new is handed out; return the status once that is durable.

        Idempotent. Raises WrongState when the execution has ended or is ending, NotFound.
        """
        ...

    async def resume(self, execution: int, *, actor: str, request_id: str = "") -> ExecutionStatus:
        """Let a paused execution go on; return the status once that is durable.

        One that runs already is answered with its status. Raises WrongState when it has ended or
        is quarantined, NotFound.
        """
        ...

    async def retry(
        self, execution: int, *, reason: str, actor: str, request_id: str = ""
    ) -> RunOpened:
        """Open a new run with what did not complete. A known request id gets the same answer.

        Raises WrongState (it runs, has completed, was compensated, or is a child: then its root has
        to be retried), NotFound, LimitExceeded OVERLOADED.
        """
        ...

    async def reset(
        self, execution: int, *, task: str, reason: str, actor: str, request_id: str = ""
    ) -> RunOpened:
        """Open a new run from a task (its id) on; like `retry`, for completed executions too.

        Raises InvalidInput for a task that the workflow does not have.
        """
        ...

    async def signal(
        self, execution: int, *, name: str, payload: bytes, actor: str, request_id: str = ""
    ) -> bool:
        """Give a signal; return whether it completed a waiting task (else it is kept).

        `payload` is JSON. A known request id gets the same answer. Raises WrongState (it has
        ended), LimitExceeded (too many signals of that name are kept), NotFound.
        """
        ...

    async def decide_approval(self, decision: Decision, *, request_id: str = "") -> ApprovalSummary:
        """Decide; return the approval as stored. The same decision again gets the same answer.

        Raises NotFound APPROVAL_NOT_FOUND, WrongState (decided otherwise, or closed), and
        NotPermitted when the approval has assignees and the actor is none of them (an assignee is
        the actor's name, with or without `user/`).
        """
        ...

    async def bulk(self, command: BulkCommand) -> BulkRow:
        """Store a bulk job and set it going; a dry run is done when this returns.

        A known request id gets the stored job. Raises InvalidInput for statuses that the action
        does not allow.
        """
        ...

    async def wait(self, execution: int, timeout_s: float) -> Ended | None:
        """Return when the execution is terminal and committed; None after `timeout_s` seconds.

        An execution that is terminal already is answered at once (looked up in SQL if need be).
        """
        ...

    def ended(self, executions: Sequence[int]) -> AsyncIterator[list[Ended]]:
        """Yield executions as they end, in batches; ends when all have.

        Those terminal already come first. Closing the iterator forgets the interest.
        """
        ...

    def watch(self, execution: int) -> AsyncIterator[list[TaskOverlay]]:
        """Yield after every commit that concerns the execution, and on transient changes.

        Each yield means: rows may have been added, read them from SQL after the last seq; the
        list holds the transient states that changed since the last yield (often empty). Wake-ups
        are merged, never lost; the first comes at once. It does not end by itself.
        """
        ...

    def waiting(self, execution: int) -> list[TaskOverlay]:
        """Return the overlay of all open tasks; [] when the execution is not in memory here."""
        ...
