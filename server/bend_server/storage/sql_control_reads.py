"""Approvals, bulk jobs and children for the API, in SQL that both databases run."""

from typing import Any

import orjson
from sqlalchemy import Connection, Select, select, tuple_

from bend_server.ports.control import ApprovalSummary, BulkRow
from bend_server.storage.database import Database
from bend_server.storage.tables import approval, bulk

APPROVALS = select(
    *(approval.c["try" if name == "try_" else name] for name in ApprovalSummary._fields)
)
_BULKS = select(*(bulk.c[name] for name in BulkRow._fields))
PAGE = 1000


def may_decide(row: ApprovalSummary, assignee: str | None) -> bool:
    """Tell whether a user is among those who may decide; without assignees everybody is."""
    if assignee is None:
        return True
    names = orjson.loads(row.assignees) if row.assignees else []
    return not names or assignee in names


def one_approval(execution: int, task: int, item: int, try_: int) -> Select[Any]:
    """Return the query for one approval."""
    columns = approval.c
    return APPROVALS.where(
        columns.execution == execution,
        columns.task == task,
        columns.item == item,
        columns["try"] == try_,
    )


class SqlControlReads:
    """`ports.control.ControlReads` over a SQL database."""

    _db: Database

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
        """List oldest first; whoever may decide is found out here, page by page."""
        columns = approval.c
        place = (columns.created_us, columns.execution, columns.task, columns.item)
        query = APPROVALS.where(columns.namespace == namespace, columns.status == status)
        if execution is not None:
            query = query.where(columns.execution == execution)
        query = query.order_by(*place).limit(limit if assignee is None else max(limit, PAGE))

        def find(connection: Connection) -> list[ApprovalSummary]:
            found: list[ApprovalSummary] = []
            last = after
            while True:
                page = query if last is None else query.where(tuple_(*place) > tuple_(*last))
                rows = [ApprovalSummary._make(row) for row in connection.execute(page)]
                found += [row for row in rows if may_decide(row, assignee)]
                if assignee is None or len(found) >= limit or len(rows) < PAGE:
                    return found[:limit]
                last = (rows[-1].created_us, rows[-1].execution, rows[-1].task, rows[-1].item)

        return await self._db.read(find)

    async def approval(
        self, namespace: str, execution: int, task: int, item: int, try_: int
    ) -> ApprovalSummary | None:
        """Read one approval."""
        query = one_approval(execution, task, item, try_).where(approval.c.namespace == namespace)
        found = await self._db.query(lambda connection: connection.execute(query).first())
        return None if found is None else ApprovalSummary._make(found)

    async def bulk(self, namespace: str, bulk_id: int) -> BulkRow | None:
        """Read one bulk job."""
        query = _BULKS.where(bulk.c.namespace == namespace, bulk.c.id == bulk_id)
        found = await self._db.query(lambda connection: connection.execute(query).first())
        return None if found is None else BulkRow._make(found)
