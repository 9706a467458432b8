"""The engine's reads and rare writes of control flow, in SQL that both databases run."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from bend_server.core import limits
from bend_server.core.failures import TASK_FAILED
from bend_server.core.model import CacheRow, EventKind, ExecutionStatus
from bend_server.ports.control import (
    BULK_RUNNING,
    ApprovalSummary,
    BulkRow,
    ChildRow,
    Contender,
    ExecutionFilter,
    StoredLetter,
)
from bend_server.storage.database import Database, among, listed
from bend_server.storage.rows import CACHE_COLUMNS, TERMINAL_FROM
from bend_server.storage.sql_control_reads import one_approval
from bend_server.storage.sql_reads import labelled
from bend_server.storage.tables import bulk, cache_entry, execution, execution_event, mailbox

_PENDING = 1
_CACHES = select(*(cache_entry.c[name] for name in CACHE_COLUMNS))
_BULKS = select(*(bulk.c[name] for name in BulkRow._fields))
_CONTENDERS = select(
    execution.c.id,
    execution.c.namespace,
    execution.c.workflow,
    execution.c.concurrency_key,
    execution.c.status,
    execution.c.priority,
)
# The partial indexes name the same literal conditions.
_KEYED = text("execution.concurrency_key IS NOT NULL AND execution.status < 4")
_PARKED = text("execution.parked = 1")
_OPEN_BULK = text("bulk.state = 1")
_CHILDREN = {
    kind: select(
        execution.c.id,
        execution.c.parent,
        execution.c.parent_task,
        execution.c.status,
        execution.c.run,
        execution.c.output,
        execution.c.blob,
        execution.c.error,
        execution.c.finished_us,
    ).where(among(execution.c.id, kind), execution.c.parent.is_not(None))
    for kind in ("sqlite", "postgresql")
}


class SqlControl:
    """`ports.control.ControlStore` over a SQL database."""

    _db: Database

    async def cached(
        self, wanted: Sequence[tuple[str, bytes]], now_us: int
    ) -> dict[tuple[str, bytes], CacheRow]:
        """Return entries that have not expired; one query a namespace."""
        keys: dict[str, list[bytes]] = {}
        for namespace, key in wanted:
            keys.setdefault(namespace, []).append(key)

        def find(connection: Connection) -> list[CacheRow]:
            found: list[CacheRow] = []
            for namespace, some in keys.items():
                query = _CACHES.where(
                    cache_entry.c.namespace == namespace,
                    cache_entry.c.key.in_(some),
                    cache_entry.c.expires_us > now_us,
                )
                found += [CacheRow._make(row) for row in connection.execute(query)]
            return found

        rows = await self._db.read(find)
        return {(row.namespace, row.key): row for row in rows}

    async def forget_cached(self, before_us: int, limit: int) -> list[CacheRow]:
        """Delete expired entries."""
        old = _CACHES.where(cache_entry.c.expires_us < before_us).order_by(cache_entry.c.expires_us)

        def forget(connection: Connection) -> list[CacheRow]:
            gone = [CacheRow._make(row) for row in connection.execute(old.limit(limit))]
            for row in gone:
                connection.execute(
                    delete(cache_entry).where(
                        cache_entry.c.namespace == row.namespace,
                        cache_entry.c.key == row.key,
                        cache_entry.c.expires_us == row.expires_us,
                    )
                )
            return gone

        return await self._db.write(forget)

    async def contenders(self, partitions: Sequence[int]) -> list[Contender]:
        """Return who holds slots of concurrency keys, by id."""
        query = _CONTENDERS.where(_KEYED, _of(partitions), execution.c.status > _PENDING).order_by(
            execution.c.id
        )
        return [Contender._make(row) for row in await self._all(query)]

    async def queued(self, namespace: str, workflow: str, key: str, limit: int) -> list[Contender]:
        """Return who waits for a slot of one key: by priority, then by id."""
        query = _CONTENDERS.where(
            _KEYED,
            execution.c.namespace == namespace,
            execution.c.workflow == workflow,
            execution.c.concurrency_key == key,
            execution.c.status == _PENDING,
        ).order_by(execution.c.priority, execution.c.id)
        return [Contender._make(row) for row in await self._all(query.limit(limit))]

    async def queues(self, partitions: Sequence[int]) -> list[tuple[str, str, str, int]]:
        """Return all keys with a queue, and its length."""
        names = (execution.c.namespace, execution.c.workflow, execution.c.concurrency_key)
        query = (
            select(*names, func.count())
            .where(_KEYED, _of(partitions), execution.c.status == _PENDING)
            .group_by(*names)
            .order_by(*names)
        )
        return [(row[0], row[1], row[2], row[3]) for row in await self._all(query)]

    async def unadmitted(self, partitions: Sequence[int], limit: int) -> list[int]:
        """Return PENDING executions without a concurrency key: by priority, then by id."""
        query = (
            select(execution.c.id)
            .where(_unadmitted(partitions))
            .order_by(execution.c.priority, execution.c.id)
        )
        return [row[0] for row in await self._all(query.limit(limit))]

    async def unadmitted_count(self, partitions: Sequence[int]) -> int:
        """Return how many PENDING executions without a concurrency key there are."""
        (row,) = await self._all(select(func.count()).where(_unadmitted(partitions)))
        return int(row[0])

    async def children(self, ids: Sequence[int]) -> list[ChildRow]:
        """Return executions as children."""
        kind = self._db.kind
        values = listed(ids, kind)
        found = await self._db.query(
            lambda connection: connection.execute(_CHILDREN[kind], values).all()
        )
        return [ChildRow._make(row) for row in found]

    async def tree_size(self, root: int) -> int:
        """Return how many executions have this root."""
        (row,) = await self._all(select(func.count()).where(execution.c.root == root))
        return int(row[0])

    async def put_bulk(self, row: BulkRow) -> tuple[BulkRow, bool]:
        """Store a job, or find the one with its request id."""
        same = _BULKS.where(bulk.c.namespace == row.namespace, bulk.c.request_id == row.request_id)
        insert = sqlite.insert if self._db.kind == "sqlite" else postgresql.insert
        statement = insert(bulk).values(row._asdict()).on_conflict_do_nothing()

        def put(connection: Connection) -> tuple[BulkRow, bool]:
            if connection.execute(statement).rowcount == 1:
                return row, True
            return BulkRow._make(connection.execute(same).one()), False

        return await self._db.write(put)

    async def open_bulks(self, partitions: Sequence[int], limit: int) -> list[BulkRow]:
        """Return jobs that are not done, by id."""
        query = _BULKS.where(_OPEN_BULK, bulk.c.partition.in_(sorted(partitions)))
        found = await self._all(query.order_by(bulk.c.id).limit(limit))
        return [BulkRow._make(row) for row in found]

    async def advance_bulk(self, row: BulkRow, cursor: bytes) -> bool:
        """Store a job's progress if nobody else did."""
        statement = (
            update(bulk)
            .where(bulk.c.id == row.id, bulk.c.cursor == cursor, bulk.c.state == BULK_RUNNING)
            .values(
                state=row.state,
                matched=row.matched,
                done=row.done,
                refused=row.refused,
                cursor=row.cursor,
                sample=row.sample,
                updated_us=row.updated_us,
            )
        )
        return bool(await self._db.write(lambda connection: connection.execute(statement).rowcount))

    async def matching(
        self, namespace: str, wanted: ExecutionFilter, after: int, limit: int
    ) -> list[tuple[int, str]]:
        """Return executions that a filter names, by id."""
        columns = execution.c
        query = select(columns.id, columns.public_id).where(
            columns.namespace == namespace, columns.id > after
        )
        if wanted.workflow:
            query = query.where(columns.workflow == wanted.workflow)
        if wanted.statuses:
            query = query.where(columns.status.in_([int(status) for status in wanted.statuses]))
        if wanted.label is not None:
            query = query.where(labelled(namespace, wanted.label))
        if wanted.started_after_us is not None:
            query = query.where(columns.started_us >= wanted.started_after_us)
        if wanted.started_before_us is not None:
            query = query.where(columns.started_us < wanted.started_before_us)
        found = await self._all(query.order_by(columns.id).limit(limit))
        return [(row[0], row[1]) for row in found]

    async def unretryable(self, executions: Sequence[int]) -> set[int]:
        """Return those of some executions that refuse a retry, as far as their rows tell."""
        columns, events, kind = execution.c, execution_event.c, self._db.kind
        compensated = exists().where(
            events.execution == columns.id, events.kind == int(EventKind.COMPENSATING)
        )
        paused = and_(
            columns.status == int(ExecutionStatus.PAUSED),
            func.coalesce(columns.pause_reason, "") != TASK_FAILED,
        )
        query = select(columns.id).where(
            among(columns.id, kind),
            or_(
                columns.parent.is_not(None),
                paused,
                columns.finish_seq >= limits.HISTORY_ROWS_MAX,
                compensated,
            ),
        )
        ids = listed(executions, kind)
        return await self._db.query(
            lambda connection: set(connection.execute(query, ids).scalars())
        )

    async def find_approval(
        self, execution: int, task: int, item: int, try_: int
    ) -> ApprovalSummary | None:
        """Read one approval."""
        query = one_approval(execution, task, item, try_)
        found = await self._db.query(lambda connection: connection.execute(query).first())
        return None if found is None else ApprovalSummary._make(found)

    async def has_letter(self, dedupe_key: str) -> bool:
        """Return whether a letter waits for its receiver."""
        query = select(mailbox.c.id).where(mailbox.c.dedupe_key == dedupe_key)
        return bool(await self._all(query))

    async def letters(self, partitions: Sequence[int], limit: int) -> list[StoredLetter]:
        """Return letters, by id."""
        columns = mailbox.c
        query = select(columns.id, columns.partition, columns.kind, columns.body).where(
            columns.partition.in_(sorted(partitions))
        )
        found = await self._all(query.order_by(columns.id).limit(limit))
        return [StoredLetter._make(row) for row in found]

    async def _all(self, query: Select[Any]) -> Sequence[Any]:
        return await self._db.query(lambda connection: connection.execute(query).all())


def _of(partitions: Sequence[int]) -> ColumnElement[bool]:
    return execution.c.partition.in_(sorted(partitions))


def _unadmitted(partitions: Sequence[int]) -> ColumnElement[bool]:
    return and_(
        _of(partitions),
        _PARKED,
        execution.c.status < TERMINAL_FROM,
        execution.c.status == _PENDING,
        execution.c.concurrency_key.is_(None),
    )
