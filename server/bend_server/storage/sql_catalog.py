"""Workflows and the registry, in SQL that both databases run."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, insert, or_, select, update

from bend_server.ports.store import ComponentRow, VersionPolicy, WorkflowSummary
from bend_server.storage.database import Database
from bend_server.storage.policies import read_policies, write_deprecated, write_weights
from bend_server.storage.rules import judge_revision, judge_version
from bend_server.storage.sql_reads import find_workflow
from bend_server.storage.tables import component, component_version, workflow, workflow_revision
from bend_server.storage.versions import version_key

_VERSIONS = select(*(component_version.c[name] for name in ComponentRow._fields))
_FLAGS = ("long_running", "heartbeats", "deprecated")


class SqlWorkflowStore:
    """`ports.store.WorkflowStore` over a SQL database."""

    def __init__(self, database: Database) -> None:
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

        def put(connection: Connection) -> tuple[WorkflowSummary, bool]:
            _lock(connection, namespace, name)
            known = find_workflow(connection, namespace, name)
            if known is not None:
                same = _digest(connection, known) == digest
                judge_revision(known, same, create_only)
                if same:
                    return known, False
            summary = WorkflowSummary(
                name=name,
                namespace=namespace,
                revision=1 if known is None else known.revision + 1,
                description=description,
                labels=labels,
                archived=False,
                task_count=task_count,
                created_us=now_us if known is None else known.created_us,
                updated_us=now_us,
            )
            _write_workflow(connection, summary, new=known is None)
            connection.execute(
                insert(workflow_revision).values(
                    namespace=namespace,
                    workflow=name,
                    revision=summary.revision,
                    document=document,
                    digest=digest,
                    plan_format=plan_format,
                    pins=pins,
                    created_us=now_us,
                )
            )
            return summary, True

        return await self._db.write(put)

    async def set_archived(
        self, namespace: str, name: str, archived: bool, now_us: int
    ) -> WorkflowSummary | None:
        """Archive or restore."""

        def change(connection: Connection) -> WorkflowSummary | None:
            _lock(connection, namespace, name)
            known = find_workflow(connection, namespace, name)
            if known is None or known.archived == archived:
                return known
            changed = known._replace(archived=archived, updated_us=now_us)
            _write_workflow(connection, changed, new=False)
            return changed

        return await self._db.write(change)


def _lock(connection: Connection, namespace: str, name: str) -> None:
    """Let revisions of one workflow be written one after the other."""
    connection.execute(
        select(workflow.c.revision)
        .where(workflow.c.namespace == namespace, workflow.c.name == name)
        .with_for_update()
    )


def _digest(connection: Connection, known: WorkflowSummary) -> str:
    columns = workflow_revision.c
    return str(
        connection.execute(
            select(columns.digest).where(
                columns.namespace == known.namespace,
                columns.workflow == known.name,
                columns.revision == known.revision,
            )
        ).scalar_one()
    )


def _write_workflow(connection: Connection, summary: WorkflowSummary, *, new: bool) -> None:
    values = summary._asdict() | {"archived": int(summary.archived)}
    if new:
        connection.execute(insert(workflow).values(**values))
        return
    connection.execute(
        update(workflow)
        .where(workflow.c.namespace == summary.namespace, workflow.c.name == summary.name)
        .values(**values)
    )


class SqlRegistryStore:
    """`ports.store.RegistryStore` over a SQL database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def put_version(self, row: ComponentRow) -> tuple[ComponentRow, bool]:
        """Store a version."""

        def put(connection: Connection) -> tuple[ComponentRow, bool]:
            versions = _versions(connection, row.namespace, row.name)
            known = next((one for one in versions if one.version == row.version), None)
            if known is not None:
                judge_version(known, row)
                return known, False
            values = row._asdict() | {name: int(getattr(row, name)) for name in _FLAGS}
            connection.execute(insert(component_version).values(**values))
            newest = max([row, *versions], key=lambda one: version_key(one.version)).version
            _write_component(connection, row, newest, len(versions) + 1)
            return row, True

        return await self._db.write(put)

    async def component_versions(self, namespace: str, name: str) -> list[ComponentRow]:
        """Return all versions, newest first."""
        found = await self._db.query(lambda connection: _versions(connection, namespace, name))
        return sorted(found, key=lambda row: version_key(row.version), reverse=True)

    async def components(
        self, namespace: str, *, query: str, after: str | None, limit: int
    ) -> list[tuple[ComponentRow, int]]:
        """List newest versions by name."""
        columns, newest = component.c, component_version.c
        wanted = (
            _VERSIONS.add_columns(columns.versions)
            .join_from(
                component,
                component_version,
                (columns.namespace == newest.namespace)
                & (columns.name == newest.name)
                & (columns.newest == newest.version),
            )
            .where(columns.namespace == namespace)
        )
        if query:
            wanted = wanted.where(
                or_(
                    func.lower(newest.name).contains(query.lower(), autoescape=True),
                    func.lower(newest.description).contains(query.lower(), autoescape=True),
                )
            )
        if after is not None:
            wanted = wanted.where(columns.name > after)
        wanted = wanted.order_by(columns.name).limit(limit)
        found = await self._db.query(lambda connection: connection.execute(wanted).all())
        return [(_component(row[:-1]), int(row[-1])) for row in found]

    async def set_deprecated(
        self, namespace: str, name: str, version: str, deprecated: bool
    ) -> ComponentRow | None:
        """Deprecate a version, or take that back."""

        def mark(connection: Connection) -> ComponentRow | None:
            if not write_deprecated(connection, namespace, name, version, deprecated):
                return None
            versions = _versions(connection, namespace, name)
            return next(row for row in versions if row.version == version)

        return await self._db.write(mark)

    async def set_weights(
        self, namespace: str, name: str, weights: Mapping[str, int], now_us: int
    ) -> list[str]:
        """Replace a component's weights."""
        return await self._db.write(
            lambda connection: write_weights(connection, namespace, name, weights, now_us)
        )

    async def policies(self, namespace: str = "", name: str = "") -> list[VersionPolicy]:
        """Return the policies."""
        return await self._db.query(lambda connection: read_policies(connection, namespace, name))


def _component(values: tuple[object, ...]) -> ComponentRow:
    row = ComponentRow._make(values)
    return row._replace(
        long_running=bool(row.long_running),
        heartbeats=bool(row.heartbeats),
        deprecated=bool(row.deprecated),
    )


def _versions(connection: Connection, namespace: str, name: str) -> list[ComponentRow]:
    columns = component_version.c
    found = connection.execute(
        _VERSIONS.where(columns.namespace == namespace, columns.name == name)
    )
    return [_component(tuple(row)) for row in found]


def _write_component(connection: Connection, row: ComponentRow, newest: str, count: int) -> None:
    changed = connection.execute(
        update(component)
        .where(component.c.namespace == row.namespace, component.c.name == row.name)
        .values(newest=newest, versions=count)
    )
    if changed.rowcount == 0:
        connection.execute(
            insert(component).values(
                namespace=row.namespace, name=row.name, newest=newest, versions=count
            )
        )
