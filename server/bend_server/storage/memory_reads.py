"""Reads, workflows and the registry in memory: twins of the SQL stores."""

from collections.abc import Mapping, Sequence

from bend_server.ports.store import (
    ComponentRow,
    ExecutionSummary,
    History,
    StoredRevision,
    VersionPolicy,
    WorkflowSummary,
)
from bend_server.storage.memory import MemoryDatabase, Record
from bend_server.storage.memory_control import MemoryControlReads
from bend_server.storage.policies import policies_of, unregistered
from bend_server.storage.rows import labels_of
from bend_server.storage.rules import judge_revision, judge_version
from bend_server.storage.versions import version_key


def _summary(record: Record, *, payloads: bool) -> ExecutionSummary:
    start, finish = record.start, record.finish
    return ExecutionSummary(
        id=start.id,
        public_id=start.public_id,
        namespace=start.namespace,
        workflow=start.workflow,
        revision=start.revision,
        run=record.run,
        status=record.status,
        pause_reason=record.pause_reason,
        labels=start.labels,
        input=start.input if payloads else None,
        output=finish.output if payloads and finish else None,
        blob=finish.blob if finish else None,
        error=finish.error if finish else None,
        parent=start.parent,
        started_us=start.started_us,
        finished_us=finish.finished_us if finish else None,
        root=start.root,
        rerun_of=start.rerun_of,
        concurrency_key=start.concurrency_key,
    )


class MemoryReadStore(MemoryControlReads):
    """`ports.store.ReadStore` over a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    async def execution(self, namespace: str, public_id: str) -> ExecutionSummary | None:
        """Read one execution with payloads."""
        number = self._db.public_ids.get((namespace, public_id))
        record = None if number is None else self._db.executions.get(number)
        return None if record is None else _summary(record, payloads=True)

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
        """List newest first."""
        found = [
            record
            for record in self._db.executions.values()
            if record.start.namespace == namespace
            and (workflow is None or record.start.workflow == workflow)
            and (not statuses or record.status in statuses)
            and (label is None or label in labels_of(record.start.labels))
            and (before is None or (record.start.started_us, record.start.id) < before)
        ]
        found.sort(key=lambda record: (record.start.started_us, record.start.id), reverse=True)
        return [_summary(record, payloads=False) for record in found[:limit]]

    async def executions_by_id(
        self, namespace: str, ids: Sequence[int], *, payloads: bool
    ) -> list[ExecutionSummary]:
        """Read many by internal id, in its order."""
        known = self._db.executions
        return [
            _summary(known[number], payloads=payloads)
            for number in sorted(set(ids))
            if number in known and known[number].start.namespace == namespace
        ]

    async def children(
        self, namespace: str, parent: int, after: int, limit: int
    ) -> list[ExecutionSummary]:
        """List the children of an execution by id."""
        found = [
            _summary(record, payloads=False)
            for number, record in sorted(self._db.executions.items())
            if record.start.parent == parent
            and number > after
            and record.start.namespace == namespace
        ]
        return found[:limit]

    async def history(self, execution: int, after_seq: int = -1) -> History:
        """Read an execution's rows after a seq."""
        record = self._db.executions.get(execution)
        if record is None:
            return History([], [])
        stored = record.stored()
        return History(
            [row for row in stored.results if row.seq > after_seq],
            [row for row in stored.events if row.seq > after_seq],
        )

    async def revision(
        self, namespace: str, workflow: str, revision: int | None
    ) -> StoredRevision | None:
        """Read a revision with its document."""
        if revision is None:
            known = self._db.workflows.get((namespace, workflow))
            revision = 0 if known is None else known.revision
        return self._db.revisions.get((namespace, workflow, revision))

    async def revisions(
        self, namespace: str, workflow: str, before: int | None, limit: int
    ) -> list[StoredRevision]:
        """List revisions newest first."""
        found = [
            row._replace(document=b"")
            for row in self._db.revisions.values()
            if row.namespace == namespace
            and row.workflow == workflow
            and (before is None or row.revision < before)
        ]
        return sorted(found, key=lambda row: -row.revision)[:limit]

    async def workflow(self, namespace: str, name: str) -> WorkflowSummary | None:
        """Read one workflow."""
        return self._db.workflows.get((namespace, name))

    async def workflows(
        self, namespace: str, *, archived: bool, after: str | None, limit: int
    ) -> list[WorkflowSummary]:
        """List by name."""
        found = [
            row
            for row in self._db.workflows.values()
            if row.namespace == namespace
            and row.archived == archived
            and (after is None or row.name > after)
        ]
        return sorted(found, key=lambda row: row.name)[:limit]

    async def ping(self) -> None:
        """Memory is always there."""


class MemoryWorkflowStore:
    """`ports.store.WorkflowStore` over a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

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
        """Store a revision unless the newest has the same digest."""
        known = self._db.workflows.get((namespace, name))
        if known is not None:
            newest = self._db.revisions[namespace, name, known.revision]
            judge_revision(known, newest.digest == digest, create_only)
            if newest.digest == digest:
                return known, False
        revision = 1 if known is None else known.revision + 1
        self._db.revisions[namespace, name, revision] = StoredRevision(
            namespace, name, revision, document, digest, plan_format, pins, now_us
        )
        summary = WorkflowSummary(
            name=name,
            namespace=namespace,
            revision=revision,
            description=description,
            labels=labels,
            archived=False,
            task_count=task_count,
            created_us=now_us if known is None else known.created_us,
            updated_us=now_us,
        )
        self._db.workflows[namespace, name] = summary
        return summary, True

    async def set_archived(
        self, namespace: str, name: str, archived: bool, now_us: int
    ) -> WorkflowSummary | None:
        """Archive or restore."""
        known = self._db.workflows.get((namespace, name))
        if known is None or known.archived == archived:
            return known
        changed = known._replace(archived=archived, updated_us=now_us)
        self._db.workflows[namespace, name] = changed
        return changed


class MemoryRegistryStore:
    """`ports.store.RegistryStore` over a `MemoryDatabase`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    async def put_version(self, row: ComponentRow) -> tuple[ComponentRow, bool]:
        """Store a version."""
        versions = self._db.components.setdefault((row.namespace, row.name), {})
        known = versions.get(row.version)
        if known is not None:
            judge_version(known, row)
            return known, False
        versions[row.version] = row
        return row, True

    async def component_versions(self, namespace: str, name: str) -> list[ComponentRow]:
        """Return all versions, newest first."""
        versions = self._db.components.get((namespace, name), {})
        return sorted(versions.values(), key=lambda row: version_key(row.version), reverse=True)

    async def components(
        self, namespace: str, *, query: str, after: str | None, limit: int
    ) -> list[tuple[ComponentRow, int]]:
        """List newest versions by name."""
        found = []
        for (space, name), versions in sorted(self._db.components.items()):
            newest = max(versions.values(), key=lambda row: version_key(row.version))
            text = f"{name}\n{newest.description}".lower()
            if space == namespace and (after is None or name > after) and query.lower() in text:
                found.append((newest, len(versions)))
        return found[:limit]

    async def set_deprecated(
        self, namespace: str, name: str, version: str, deprecated: bool
    ) -> ComponentRow | None:
        """Deprecate a version, or take that back."""
        versions = self._db.components.get((namespace, name), {})
        if version not in versions:
            return None
        row = versions[version] = versions[version]._replace(deprecated=deprecated)
        return row

    async def set_weights(
        self, namespace: str, name: str, weights: Mapping[str, int], now_us: int
    ) -> list[str]:
        """Replace a component's weights."""
        known = self._db.components.get((namespace, name), {})
        missing = unregistered(name, weights, known)
        if not missing:
            self._db.weights[namespace, name] = dict(weights)
        return missing

    async def policies(self, namespace: str = "", name: str = "") -> list[VersionPolicy]:
        """Return the policies."""
        return policies_of(
            (
                (space, component, version, weight)
                for (space, component), weights in self._db.weights.items()
                for version, weight in weights.items()
                if not name or (space, component) == (namespace, name)
            ),
            (
                (space, component, row.version)
                for (space, component), versions in self._db.components.items()
                for row in versions.values()
                if row.deprecated and (not name or (space, component) == (namespace, name))
            ),
        )
