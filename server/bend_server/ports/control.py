"""What control flow keeps in SQL beside the rows of executions, and the reads that it needs.

`EngineStore` and `ReadStore` in `ports.store` include these protocols.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from bend_server.core.model import CacheRow

BULK_RUNNING = 1
BULK_DONE = 2

APPROVAL_PENDING = 1


class RequestRow(NamedTuple):
    """A command that must not be carried out twice; written in the commit of its rows.

    `request_id` has the command's verb and execution in front, so that it meets no start's id.
    `hash` is what the request said (32 bytes), then the answer that a repetition gets.
    """

    namespace: str
    request_id: str
    hash: bytes
    execution: int
    public_id: str
    expires_us: int


class Letter(NamedTuple):
    """Something that one partition tells another; `dedupe_key` makes it arrive once."""

    partition: int
    dedupe_key: str
    kind: int
    body: bytes


class StoredLetter(NamedTuple):
    """A letter that waits for its receiver."""

    id: int
    partition: int
    kind: int
    body: bytes


class Contender(NamedTuple):
    """An unfinished execution with a concurrency key.

    It holds a slot unless its `status` is PENDING: then it is parked in the queue.
    """

    execution: int
    namespace: str
    workflow: str
    key: str
    status: int
    priority: int


class ChildRow(NamedTuple):
    """A child as its parent sees it; output, blob and error are those of its last run."""

    execution: int
    parent: int
    parent_task: int
    status: int
    run: int
    output: bytes | None
    blob: str | None
    error: bytes | None
    finished_us: int | None


class ExecutionFilter(NamedTuple):
    """Which executions a bulk job means; empty or None: any. Times are Unix microseconds."""

    workflow: str | None = None
    statuses: tuple[int, ...] = ()
    label: tuple[str, str] | None = None
    started_after_us: int | None = None
    started_before_us: int | None = None


class BulkRow(NamedTuple):
    """A bulk job as the table has it.

    `action` and `state` as bend.v1.Bulk. `filter` is JSON (engine.bulk writes it), `sample` a JSON
    list of public ids, `cursor` the last execution that was looked at, as text.
    """

    id: int
    namespace: str
    partition: int
    action: int
    filter: bytes
    reason: str
    actor: str
    dry_run: int
    state: int
    matched: int
    done: int
    refused: int
    cursor: bytes
    sample: bytes
    request_id: str | None
    created_us: int
    updated_us: int


class ApprovalSummary(NamedTuple):
    """An approval's row. `status` as bend.v1.Approval; `assignees` is a JSON list of names.

    `form` is a JSON Schema, empty for any. `expires_us` 0: never.
    """

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
    status: int
    decided_by: str
    decided_us: int | None
    comment: str


class ControlStore(Protocol):
    """The engine's reads and rare writes of control flow. Raises DependencyDown."""

    async def cached(
        self, wanted: Sequence[tuple[str, bytes]], now_us: int
    ) -> dict[tuple[str, bytes], CacheRow]:
        """Return the entries of (namespace, key) that have not expired; at most 1,000 keys."""
        ...

    async def forget_cached(self, before_us: int, limit: int) -> list[CacheRow]:
        """Delete entries that expired before a time; return them, for their blobs."""
        ...

    async def contenders(self, partitions: Sequence[int]) -> list[Contender]:
        """Return who holds slots of concurrency keys (not PENDING), by id."""
        ...

    async def queued(self, namespace: str, workflow: str, key: str, limit: int) -> list[Contender]:
        """Return who waits for a slot of one key: by priority, then by id."""
        ...

    async def queues(self, partitions: Sequence[int]) -> list[tuple[str, str, str, int]]:
        """Return (namespace, workflow, key, how many wait) of all keys with a queue."""
        ...

    async def unadmitted(self, partitions: Sequence[int], limit: int) -> list[int]:
        """Return PENDING executions without a concurrency key: by priority, then by id."""
        ...

    async def unadmitted_count(self, partitions: Sequence[int]) -> int:
        """Return how many PENDING executions without a concurrency key there are."""
        ...

    async def children(self, ids: Sequence[int]) -> list[ChildRow]:
        """Return these executions as children; unknown ones are missing."""
        ...

    async def tree_size(self, root: int) -> int:
        """Return how many executions have this root, itself not counted."""
        ...

    async def put_bulk(self, row: BulkRow) -> tuple[BulkRow, bool]:
        """Store a job; a known request id answers the stored one and False."""
        ...

    async def open_bulks(self, partitions: Sequence[int], limit: int) -> list[BulkRow]:
        """Return the jobs of the partitions that are not done, by id."""
        ...

    async def advance_bulk(self, row: BulkRow, cursor: bytes) -> bool:
        """Store a job's progress if its cursor is still the given one; False: somebody else did."""
        ...

    async def matching(
        self, namespace: str, wanted: ExecutionFilter, after: int, limit: int
    ) -> list[tuple[int, str]]:
        """Return (id, public id) of executions that a filter names, by id, after one id."""
        ...

    async def unretryable(self, executions: Sequence[int]) -> set[int]:
        """Return those of some executions that refuse a retry, as far as their rows tell.

        Children, compensated runs, those that are paused but not because a task failed, and those
        whose history is full.
        """
        ...

    async def find_approval(
        self, execution: int, task: int, item: int, try_: int
    ) -> ApprovalSummary | None:
        """Read one approval."""
        ...

    async def has_letter(self, dedupe_key: str) -> bool:
        """Return whether a letter waits for its receiver."""
        ...

    async def letters(self, partitions: Sequence[int], limit: int) -> list[StoredLetter]:
        """Return the letters of the partitions, by id."""
        ...


class ControlReads(Protocol):
    """Reads of control flow for the API."""

    async def approvals(
        self,
        namespace: str,
        *,
        execution: int | None,
        status: int,
        assignee: str | None,
        after: tuple[int, int, int, int] | None,
        limit: int,
    ) -> list[ApprovalSummary]:
        """List oldest first, strictly after (created_us, execution, task, item).

        `assignee` keeps those that this user may decide: named, or without assignees.
        """
        ...

    async def approval(
        self, namespace: str, execution: int, task: int, item: int, try_: int
    ) -> ApprovalSummary | None:
        """Read one approval."""
        ...

    async def bulk(self, namespace: str, bulk: int) -> BulkRow | None:
        """Read one bulk job."""
        ...
