"""Retention: whole trees of executions go, a page at a time."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, select, text

from bend_server.core.ids import public_id
from bend_server.storage.database import among, listed
from bend_server.storage.rows import TERMINAL_FROM, labels_of
from bend_server.storage.tables import (
    approval,
    execution,
    execution_event,
    task_result,
    tombstone,
)

_ROWS = (task_result.c.execution, execution_event.c.execution, approval.c.execution)
_COLUMNS = (
    execution.c.id,
    execution.c.namespace,
    execution.c.workflow,
    execution.c.public_id,
    execution.c.labels,
)


def forget(connection: Connection, before_us: int, limit: int, kind: str) -> list[tuple[int, str]]:
    """Delete trees whose root finished before a time, with every row of theirs.

    A page has at most `limit` roots and `limit` children; a root goes with or after the last of its
    children.
    """
    child = execution.alias()
    roots = connection.execute(
        select(*_COLUMNS)
        .where(
            execution.c.finished_us.is_not(None),
            execution.c.finished_us < before_us,
            execution.c.root.is_(None),
            ~exists().where(child.c.root == execution.c.id, child.c.status < TERMINAL_FROM),
        )
        .order_by(execution.c.finished_us, execution.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=execution)
    ).all()
    if not roots:
        return []
    found = connection.execute(
        select(*_COLUMNS)
        .where(among(execution.c.root, kind))
        .order_by(execution.c.root, execution.c.id)
        .limit(limit),
        listed([row.id for row in roots], kind),
    ).all()
    if len(found) < limit:
        found = [*found, *roots]
    _delete(connection, found, kind)
    return [(row.id, row.namespace) for row in found]


def _delete(connection: Connection, found: Sequence[Any], kind: str) -> None:
    ids = [row.id for row in found]
    for column in (*_ROWS, execution.c.id):
        connection.execute(delete(column.table).where(among(column, kind)), listed(ids, kind))
    pairs = [
        {"n": row.namespace, "k": key, "v": value, "e": row.id}
        for row in found
        for key, value in labels_of(row.labels)
    ]
    if pairs:
        connection.execute(
            text(
                "DELETE FROM label WHERE namespace = :n AND key = :k AND value = :v "
                "AND execution = :e"
            ),
            pairs,
        )
    chosen = [
        {"namespace": row.namespace, "public_id": row.public_id, "execution": row.id}
        for row in found
        if row.public_id != public_id(row.workflow, row.id)
    ]
    if chosen:
        connection.execute(insert(tombstone), chosen)
