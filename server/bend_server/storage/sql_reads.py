"""Committed state for the API, in SQL that both databases run."""

from collections.abc import Sequence

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    Text,
    and_,
    bindparam,
    null,
    or_,
    select,
)

from bend_server.core.model import EventRow
from bend_server.ports.store import ExecutionSummary, History, StoredRevision, WorkflowSummary
from bend_server.storage import tables
from bend_server.storage.database import Database, among, listed
from bend_server.storage.rows import EVENT_COLUMNS, RESULT_COLUMNS, result_rows
from bend_server.storage.sql_control_reads import SqlControlReads
from bend_server.storage.tables import execution, execution_event, label, task_result

RESULTS = select(*(task_result.c[name] for name in RESULT_COLUMNS))
EVENTS = select(*(execution_event.c[name] for name in EVENT_COLUMNS))
REVISIONS = select(*(tables.workflow_revision.c[name] for name in StoredRevision._fields))
_WORKFLOWS = select(*(tables.workflow.c[name] for name in WorkflowSummary._fields))
_PAYLOADS = ("input", "output")


def _summaries(*, payloads: bool) -> Select[tuple[object, ...]]:
    return select(
        *(
            null().cast(LargeBinary).label(name)
            if name in _PAYLOADS and not payloads
            else execution.c[name]
            for name in ExecutionSummary._fields
        )
    )


_WITH_PAYLOADS = _summaries(payloads=True)
_WITHOUT_PAYLOADS = _summaries(payloads=False)

# The reads of every answered call are built once: SQLAlchemy then finds their text by identity.
_NAMESPACE: BindParameter[str] = bindparam("namespace", type_=Text)
_NAMED = _WITH_PAYLOADS.where(
    execution.c.namespace == _NAMESPACE, execution.c.public_id == bindparam("public_id")
)
_RESULTS_AFTER = RESULTS.where(
    task_result.c.execution == bindparam("number"), task_result.c.seq > bindparam("after")
).order_by(task_result.c.seq)
_EVENTS_AFTER = EVENTS.where(
    execution_event.c.execution == bindparam("number"),
    execution_event.c.seq > bindparam("after"),
).order_by(execution_event.c.seq)
_WORKFLOW = _WORKFLOWS.where(
    tables.workflow.c.namespace == _NAMESPACE, tables.workflow.c.name == bindparam("workflow")
)


def workflow_row(row: Sequence[object]) -> WorkflowSummary:
    """Make a workflow's summary of its columns."""
    summary = WorkflowSummary._make(row)
    return summary._replace(archived=bool(summary.archived))


def find_workflow(connection: Connection, namespace: str, name: str) -> WorkflowSummary | None:
    """Read one workflow."""
    found = connection.execute(_WORKFLOW, {"namespace": namespace, "workflow": name}).first()
    return None if found is None else workflow_row(found)


def find_revision(
    connection: Connection, namespace: str, workflow: str, revision: int | None
) -> StoredRevision | None:
    """Read a revision; None means the current one."""
    columns = tables.workflow_revision.c
    wanted: ColumnElement[bool] = columns.revision == revision
    if revision is None:
        current = tables.workflow.c
        wanted = columns.revision == (
            select(current.revision)
            .where(current.namespace == namespace, current.name == workflow)
            .scalar_subquery()
        )
    found = connection.execute(
        REVISIONS.where(columns.namespace == namespace, columns.workflow == workflow, wanted)
    ).first()
    return None if found is None else StoredRevision._make(found)


class SqlReadStore(SqlControlReads):
    """`ports.store.ReadStore` over a SQL database."""

    def __init__(self, database: Database) -> None:
        self._db = database
        own = (execution.c.namespace == _NAMESPACE, among(execution.c.id, database.kind))
        self._by_id = {
            payloads: query.where(*own).order_by(execution.c.id)
            for payloads, query in ((True, _WITH_PAYLOADS), (False, _WITHOUT_PAYLOADS))
        }

    async def execution(self, namespace: str, public_id: str) -> ExecutionSummary | None:
        """Read one execution with payloads."""
        values = {"namespace": namespace, "public_id": public_id}
        found = await self._db.query(lambda connection: connection.execute(_NAMED, values).first())
        return None if found is None else ExecutionSummary._make(found)

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
        """List newest first, strictly before (started_us, id)."""
        columns = execution.c
        query = _WITHOUT_PAYLOADS.where(columns.namespace == namespace)
        if workflow is not None:
            query = query.where(columns.workflow == workflow)
        if statuses:
            query = query.where(columns.status.in_([int(status) for status in statuses]))
        if label is not None:
            query = query.where(labelled(namespace, label))
        if before is not None:
            started_us, number = before
            query = query.where(
                or_(
                    columns.started_us < started_us,
                    and_(columns.started_us == started_us, columns.id < number),
                )
            )
        query = query.order_by(columns.started_us.desc(), columns.id.desc()).limit(limit)
        found = await self._db.query(lambda connection: connection.execute(query).all())
        return [ExecutionSummary._make(row) for row in found]

    async def executions_by_id(
        self, namespace: str, ids: Sequence[int], *, payloads: bool
    ) -> list[ExecutionSummary]:
        """Read many by internal id, in its order."""
        query = self._by_id[payloads]
        values = {"namespace": namespace, **listed(ids, self._db.kind)}
        found = await self._db.query(lambda connection: connection.execute(query, values).all())
        return [ExecutionSummary._make(row) for row in found]

    async def children(
        self, namespace: str, parent: int, after: int, limit: int
    ) -> list[ExecutionSummary]:
        """List the children of an execution by id."""
        columns = execution.c
        query = (
            _WITHOUT_PAYLOADS.where(
                columns.parent == parent, columns.id > after, columns.namespace == namespace
            )
            .order_by(columns.id)
            .limit(limit)
        )
        found = await self._db.query(lambda connection: connection.execute(query).all())
        return [ExecutionSummary._make(row) for row in found]

    async def history(self, execution: int, after_seq: int = -1) -> History:
        """Read an execution's rows after a seq, on one snapshot."""
        values = {"number": execution, "after": after_seq}

        def read(connection: Connection) -> History:
            results = connection.execute(_RESULTS_AFTER, values).all()
            events = connection.execute(_EVENTS_AFTER, values).all()
            return History(result_rows(results), [EventRow._make(row) for row in events])

        return await self._db.read(read)

    async def revision(
        self, namespace: str, workflow: str, revision: int | None
    ) -> StoredRevision | None:
        """Read a revision with its document."""
        return await self._db.query(
            lambda connection: find_revision(connection, namespace, workflow, revision)
        )

    async def revisions(
        self, namespace: str, workflow: str, before: int | None, limit: int
    ) -> list[StoredRevision]:
        """List revisions newest first; documents left empty."""
        columns = tables.workflow_revision.c
        fields = [name for name in StoredRevision._fields if name != "document"]
        query = select(*(columns[name] for name in fields)).where(
            columns.namespace == namespace, columns.workflow == workflow
        )
        if before is not None:
            query = query.where(columns.revision < before)
        query = query.order_by(columns.revision.desc()).limit(limit)
        found = await self._db.query(lambda connection: connection.execute(query).mappings().all())
        return [StoredRevision(document=b"", **row) for row in found]

    async def workflow(self, namespace: str, name: str) -> WorkflowSummary | None:
        """Read one workflow."""
        return await self._db.query(lambda connection: find_workflow(connection, namespace, name))

    async def workflows(
        self, namespace: str, *, archived: bool, after: str | None, limit: int
    ) -> list[WorkflowSummary]:
        """List by name, strictly after one."""
        columns = tables.workflow.c
        query = _WORKFLOWS.where(columns.namespace == namespace, columns.archived == int(archived))
        if after is not None:
            query = query.where(columns.name > after)
        query = query.order_by(columns.name).limit(limit)
        found = await self._db.query(lambda connection: connection.execute(query).all())
        return [workflow_row(row) for row in found]

    async def ping(self) -> None:
        """Ask for one row."""
        query = select(tables.counter.c.value).limit(1)
        await self._db.query(lambda connection: connection.execute(query).first(), timeout_s=5.0)


def labelled(namespace: str, pair: tuple[str, str]) -> ColumnElement[bool]:
    """Return the condition that an execution carries a label."""
    key, value = pair
    columns = label.c
    return execution.c.id.in_(
        select(columns.execution).where(
            columns.namespace == namespace, columns.key == key, columns.value == value
        )
    )
