"""The engine as the API sees it: the use cases that rpc calls. `bend_server.engine` offers them.

Reads of committed state come from `ports.store.ReadStore`; what only an owner's memory knows
(who runs what now, why something waits) is an overlay and may be missing at any time.
"""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from bend_server.core.errors import DomainError
from bend_server.core.model import ExecutionStatus, FinishRow


class StartCommand(NamedTuple):
    """One wished start, checked by the caller against the revision's input schema.

    `revision` is resolved; `current` tells that the caller asked for the newest one, so that the
    start statement checks that it still is. `input` and `labels` (the workflow's and the
    request's together) are JSON objects. Empty `request_id`, `execution_id`, `trace`: none.
    `request_hash` covers everything that the request said; None without a request id.
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


class StartOutcome(NamedTuple):
    """What came of one start.

    Accepted: `execution` (internal id) and `public_id`; `created` is False when the request id
    was known with the same hash. Refused: `error`; NotFound WORKFLOW_NOT_FOUND, WrongState
    WORKFLOW_ARCHIVED, Conflict OWNERSHIP_MOVED (the revision is no longer the current one: resolve
    again), AlreadyExists REQUEST_ID_REUSED or EXECUTION_EXISTS, LimitExceeded OVERLOADED.
    """

    execution: int
    public_id: str
    created: bool
    started_us: int
    error: DomainError | None = None


class TaskOverlay(NamedTuple):
    """What the owner's memory knows of one task beyond its rows.

    `status` is SCHEDULED, RUNNING or WAITING (core.model.TaskStatus); `waiting` says why in one
    sentence ("no instance of vision.detect@2", "retry at 2026-01-01T00:00:00Z") or is empty.
    """

    task: int
    item: int
    status: int
    attempt: int
    try_: int
    worker: str
    since_us: int
    waiting: str


class Ended(NamedTuple):
    """An execution that is terminal and committed; `finish` is None when only SQL has the row."""

    execution: int
    finish: FinishRow | None


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
