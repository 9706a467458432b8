"""SQL as the engine sees it: fenced group commits, leases, and reads for recovery."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from bend_server.core.model import (
    ApprovalEnd,
    ApprovalRow,
    CacheRow,
    EventRow,
    FinishRow,
    Reopen,
    ResultRow,
    StartRow,
)
from bend_server.core.model import StatusChange as StatusChange  # noqa: PLC0414 (re-exported)
from bend_server.ports.control import ControlReads, ControlStore, Letter, RequestRow


class Lease(NamedTuple):
    """One engine incarnation. `offset_us` = database clock minus the local clock."""

    id: int
    engine: str
    slot: int
    epoch: int
    expires_us: int
    offset_us: int


class PartitionOwner(NamedTuple):
    """Who owns a partition; `live` tells whether that lease has not expired."""

    partition: int
    lease: int | None
    slot: int
    live: bool


class Park(NamedTuple):
    """Leave memory: nothing is dispatched, wake at `wake_at_us` (None: only by an event).

    `wake_at_us` 0 takes it back: the execution is in its owner's memory again, not parked, and
    recovery loads it like any other.
    """

    execution: int
    wake_at_us: int | None


@dataclass(slots=True)
class Batch:
    """One group commit. All of it is written, or nothing.

    `starts` alone are judged one by one (a known request id, a taken public id, an archived or
    changed workflow): a refused start writes nothing and is missing in `Committed.started`.
    The rows of its own in the batch are left out with it. Of starts that share an id, request id or
    public id in one batch only the first is judged. One batch may start and end an execution.
    A start is checked against its workflow's current revision when its `revision_current` flag
    (same position in `starts_current`) is True.

    `reopens`, at most one an execution, are written first: what else the batch has of it belongs
    to the new run, its end too. One with the run that SQL has ends a pause. `requests` are of
    commands; those of starts follow from their rows. `read` are letters that the batch answers:
    they are deleted with it.
    """

    starts: list[StartRow] = field(default_factory=list)
    starts_current: list[bool] = field(default_factory=list)
    results: list[ResultRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    finishes: list[FinishRow] = field(default_factory=list)
    parks: list[Park] = field(default_factory=list)
    changes: list[StatusChange] = field(default_factory=list)
    reopens: list[Reopen] = field(default_factory=list)
    approvals: list[ApprovalRow] = field(default_factory=list)
    approval_ends: list[ApprovalEnd] = field(default_factory=list)
    caches: list[CacheRow] = field(default_factory=list)
    requests: list[RequestRow] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    read: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return (
            len(self.starts)
            + len(self.results)
            + len(self.events)
            + len(self.finishes)
            + len(self.parks)
            + len(self.changes)
            + self.extras()
        )

    def extras(self) -> int:
        """Return how many rows are of the rare kinds, from `reopens` on."""
        return (
            len(self.reopens)
            + len(self.approvals)
            + len(self.approval_ends)
            + len(self.caches)
            + len(self.requests)
            + len(self.letters)
            + len(self.read)
        )


class Committed(NamedTuple):
    """What a commit wrote."""

    started: frozenset[int]


class StoredExecution(NamedTuple):
    """An execution as SQL has it: its start, and all its rows ordered by seq."""

    start: StartRow
    status: int
    run: int
    pause_reason: str | None
    results: list[ResultRow]
    events: list[EventRow]
    finish: FinishRow | None


class StoredRevision(NamedTuple):
    """One immutable document."""

    namespace: str
    workflow: str
    revision: int
    document: bytes
    digest: str
    plan_format: int
    pins: bytes
    created_us: int


class KnownRequest(NamedTuple):
    """What a request id stands for."""

    execution: int
    public_id: str
    hash: bytes


class EngineStore(ControlStore, Protocol):
    """The engine's side of SQL. Raises DependencyDown when SQL cannot be reached."""

    async def acquire_lease(self, engine: str, slots: int, ttl_us: int) -> Lease:
        """Make a lease row for this incarnation, with a free slot below `slots`.

        The epoch is larger than every epoch before, and at least the time in seconds. On SQLite
        the caller owns the database file (an OS lock), so every older lease is void at once.
        """
        ...

    async def renew_lease(self, lease: Lease, ttl_us: int) -> Lease:
        """Extend a lease by the database's clock. Raises LeaseLost when it was taken or is gone."""
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give up the lease and all its partitions. Idempotent."""
        ...

    async def leases(self) -> list[Lease]:
        """Return the leases that are live by the database's clock."""
        ...

    async def partitions(self) -> list[PartitionOwner]:
        """Return all 64 partitions with their owners."""
        ...

    async def claim_partitions(self, lease: Lease, wanted: int) -> list[int]:
        """Take at most `wanted` partitions that have no live owner; return those taken.

        Taking from an expired lease voids that lease in the same transaction, so that a late
        commit of its owner writes nothing.
        """
        ...

    async def give_partitions(self, lease: Lease, partitions: Sequence[int]) -> None:
        """Disown partitions, in a fenced transaction. The caller has dropped their memory first."""
        ...

    async def commit(self, lease: Lease, partitions: frozenset[int], batch: Batch) -> Committed:
        """Write one batch, fenced: only while the lease is valid and owns all `partitions`.

        One transaction. Raises LeaseLost (nothing written), DependencyDown (outcome unknown), or
        another DomainError when a row cannot be written (nothing written).
        """
        ...

    def load_unfinished(
        self, partitions: Sequence[int], page: int
    ) -> AsyncIterator[list[StoredExecution]]:
        """Read every non-terminal, not parked execution of the partitions, in pages, by id."""
        ...

    async def load_due(
        self, partitions: Sequence[int], wake_before_us: int, limit: int
    ) -> list[StoredExecution]:
        """Read parked executions whose wake time comes before a point in time."""
        ...

    async def load(self, execution: int) -> StoredExecution | None:
        """Read one execution, terminal or not; None when unknown."""
        ...

    async def statuses(self, executions: Sequence[int]) -> dict[int, int]:
        """Return the status of each known execution; at most 1,000 ids at once."""
        ...

    async def load_revision(
        self, namespace: str, workflow: str, revision: int | None
    ) -> StoredRevision | None:
        """Read a revision's document (None: the current one); None when unknown."""
        ...

    async def workflow_state(self, namespace: str, workflow: str) -> tuple[int, bool] | None:
        """Return (current revision, archived), or None."""
        ...

    async def find_request(self, namespace: str, request_id: str) -> KnownRequest | None:
        """Return the execution that a request id started in the last 7 days."""
        ...

    async def find_public(self, namespace: str, public_id: str) -> int | None:
        """Return the internal id of a public id."""
        ...

    async def overdue(
        self, partitions: Sequence[int], deadline_before_us: int, after: int, limit: int
    ) -> list[int]:
        """Return unfinished executions past their deadline, by id, after one id; no paused ones."""
        ...

    async def forget_finished(self, before_us: int, limit: int) -> list[tuple[int, str]]:
        """Delete trees whose root finished before a time, with their rows; return (id, namespace).

        Children go before their root, and no tree goes while one of its executions is unfinished.
        """
        ...

    async def forget_requests(self, before_us: int, limit: int) -> int:
        """Delete expired request ids; return how many."""
        ...


class History(NamedTuple):
    """Rows of one execution, each kind ordered by seq."""

    results: list[ResultRow]
    events: list[EventRow]


class ExecutionSummary(NamedTuple):
    """An execution's row as lists show it. Payloads are None in lists."""

    id: int
    public_id: str
    namespace: str
    workflow: str
    revision: int
    run: int
    status: int
    pause_reason: str | None
    labels: bytes
    input: bytes | None
    output: bytes | None
    blob: str | None
    error: bytes | None
    parent: int | None
    started_us: int
    finished_us: int | None
    root: int | None = None
    rerun_of: int | None = None
    concurrency_key: str | None = None


class WorkflowSummary(NamedTuple):
    """A workflow's row."""

    name: str
    namespace: str
    revision: int
    description: str
    labels: bytes
    archived: bool
    task_count: int
    created_us: int
    updated_us: int


class ReadStore(ControlReads, Protocol):
    """Committed state for the API; any replica may ask."""

    async def execution(self, namespace: str, public_id: str) -> ExecutionSummary | None:
        """Read one execution with payloads."""
        ...

    async def executions(
        self,
        namespace: str,
        *,
        workflow: str | None,
        statuses: Sequence[int],
        label: tuple[str, str] | None,
        before: tuple[int, int] | None,
        limit: int,
    ) -> list[ExecutionSummary]:
        """List newest first, strictly before (started_us, id); payloads left out."""
        ...

    async def executions_by_id(
        self, namespace: str, ids: Sequence[int], *, payloads: bool
    ) -> list[ExecutionSummary]:
        """Read many by internal id; unknown ones and those of other namespaces are missing."""
        ...

    async def children(
        self, namespace: str, parent: int, after: int, limit: int
    ) -> list[ExecutionSummary]:
        """List the children of an execution by id, strictly after one; payloads left out."""
        ...

    async def history(self, execution: int, after_seq: int = -1) -> History:
        """Read an execution's rows after a seq, all as of one moment."""
        ...

    async def revision(
        self, namespace: str, workflow: str, revision: int | None
    ) -> StoredRevision | None:
        """Read a revision with its document."""
        ...

    async def revisions(
        self, namespace: str, workflow: str, before: int | None, limit: int
    ) -> list[StoredRevision]:
        """List revisions newest first; documents left empty."""
        ...

    async def workflow(self, namespace: str, name: str) -> WorkflowSummary | None:
        """Read one workflow."""
        ...

    async def workflows(
        self, namespace: str, *, archived: bool, after: str | None, limit: int
    ) -> list[WorkflowSummary]:
        """List by name, strictly after one."""
        ...

    async def ping(self) -> None:
        """Ask the database for anything. Raises DependencyDown."""
        ...


class WorkflowStore(Protocol):
    """Writes of workflows."""

    async def put_revision(
        self,
        namespace: str,
        name: str,
        *,
        document: bytes,
        digest: str,
        description: str,
        labels: bytes,
        task_count: int,
        pins: bytes,
        plan_format: int,
        now_us: int,
        create_only: bool,
    ) -> tuple[WorkflowSummary, bool]:
        """Store a revision unless the newest has the same digest; return (workflow, stored).

        Raises AlreadyExists (create_only and another document is there), WrongState (archived).
        """
        ...

    async def set_archived(
        self, namespace: str, name: str, archived: bool, now_us: int
    ) -> WorkflowSummary | None:
        """Archive or restore; None when unknown."""
        ...


class ComponentRow(NamedTuple):
    """One registered version. `contract` is the JSON of the contract without labels."""

    namespace: str
    name: str
    version: str
    major: int
    description: str
    contract: bytes
    input_schema: bytes
    output_schema: bytes
    long_running: bool
    heartbeats: bool
    deprecated: bool
    digest: str
    created_us: int


class VersionPolicy(NamedTuple):
    """What was decided about the versions of one component.

    `weights` are (version, part of the new tasks), () when the newest takes all.
    """

    namespace: str
    name: str
    weights: tuple[tuple[str, int], ...]
    deprecated: tuple[str, ...]


class RegistryStore(Protocol):
    """Components, versions, and what was decided about them."""

    async def put_version(self, row: ComponentRow) -> tuple[ComponentRow, bool]:
        """Store a version; the same digest again answers the stored row and False.

        Raises WrongState CONTRACT_MISMATCH when the version exists with another digest.
        """
        ...

    async def component_versions(self, namespace: str, name: str) -> list[ComponentRow]:
        """Return all versions, newest (by semantic version) first; [] when unknown."""
        ...

    async def components(
        self, namespace: str, *, query: str, after: str | None, limit: int
    ) -> list[tuple[ComponentRow, int]]:
        """List (newest version, how many versions) by name, strictly after one."""
        ...

    async def set_deprecated(
        self, namespace: str, name: str, version: str, deprecated: bool
    ) -> ComponentRow | None:
        """Deprecate a version, or take that back; None when it is unknown."""
        ...

    async def set_weights(
        self, namespace: str, name: str, weights: Mapping[str, int], now_us: int
    ) -> list[str]:
        """Replace a component's weights in one transaction.

        Returns the versions that are not registered, sorted; then nothing was written. Without
        weights a component that is unknown is named.
        """
        ...

    async def policies(self, namespace: str = "", name: str = "") -> list[VersionPolicy]:
        """Return the policies of all components that have one, or of one component, by name."""
        ...
