"""Executions and tasks as the API shows them: committed rows merged with the plan and an overlay.

A view is what both renderings (`messages` for gRPC, `rest_json` for REST) are made from.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bend_server.core.model import (
    EXECUTION_TERMINAL,
    ITEM_NONE,
    TASK_TERMINAL,
    ExecutionStatus,
    ResultRow,
    TaskStatus,
)
from bend_server.core.plan import Plan
from bend_server.core.times import rfc3339
from bend_server.ports.engine import TaskOverlay
from bend_server.ports.store import ExecutionSummary

_TERMINAL_TASK = frozenset(int(status) for status in TASK_TERMINAL)
_TERMINAL_EXECUTION = frozenset(int(status) for status in EXECUTION_TERMINAL)


class TaskView(NamedTuple):
    """One task, or one item of it. Times are Unix microseconds, 0 when there is none.

    `output` is JSON; None while it is not completed or when it lives under the key `blob`.
    """

    task: str
    item: int
    status: int
    attempt: int
    try_: int
    iteration: int
    output: bytes | None
    blob: str | None
    error: bytes | None
    worker: str
    started_us: int
    finished_us: int
    run_id: int
    chunks: int
    waiting: str


def is_terminal(status: int) -> bool:
    """Tell whether an execution's status is an end."""
    return status in _TERMINAL_EXECUTION


def execution_word(status: int) -> str:
    """Return the customer's word for an execution's status."""
    return ExecutionStatus(status).name


def task_word(status: int) -> str:
    """Return the customer's word for a task's status."""
    return TaskStatus(status).name


def task_views(
    plan: Plan, rows: Iterable[ResultRow], overlay: Sequence[TaskOverlay], *, live: bool
) -> list[TaskView]:
    """Return every task of an execution in the document's order, items by index.

    Args:
        rows: the execution's result rows, ordered by seq; the last one of a task counts.
        overlay: what the owner's memory adds; [] when it is not known here.
        live: whether the execution is not terminal.
    """
    last: dict[tuple[int, int], ResultRow] = {}
    for row in rows:
        last[row.task, row.item] = row
    extra = {(entry.task, entry.item): entry for entry in overlay} if live else {}
    items: dict[int, list[int]] = {}
    for task, item in sorted({*last, *extra}):
        if item != ITEM_NONE:
            items.setdefault(task, []).append(item)
    ended = {task for (task, item), row in last.items() if _ended(row) and item == ITEM_NONE}
    views = []
    for entry in plan.tasks:
        for item in (ITEM_NONE, *items.get(entry.index, ())):
            key = (entry.index, item)
            known, more = last.get(key), extra.get(key)
            if known is not None and (more is None or _ended(known)):
                views.append(_from_row(entry.id, known))
            elif more is not None:
                views.append(_from_overlay(entry.id, more, known))
            else:
                ready = live and all(task in ended for task in entry.dependencies)
                views.append(_without_row(entry.id, item, ready))
    return views


def _ended(row: ResultRow) -> bool:
    return row.retry_at_us is None and row.status in _TERMINAL_TASK


def _from_row(task: str, row: ResultRow) -> TaskView:
    ended = _ended(row)
    return TaskView(
        task=task,
        item=row.item,
        status=row.status if ended else TaskStatus.WAITING,
        attempt=row.attempt,
        try_=row.try_,
        iteration=row.iteration,
        output=row.output,
        blob=row.blob,
        error=row.error,
        worker=row.worker,
        started_us=row.started_us,
        finished_us=row.finished_us,
        run_id=row.run_id,
        chunks=row.chunks,
        waiting="" if row.retry_at_us is None else f"retry at {rfc3339(row.retry_at_us)}",
    )


def _from_overlay(task: str, entry: TaskOverlay, row: ResultRow | None) -> TaskView:
    return TaskView(
        task=task,
        item=entry.item,
        status=entry.status,
        attempt=entry.attempt,
        try_=entry.try_,
        iteration=0 if row is None else row.iteration,
        output=None,
        blob=None,
        error=None if row is None else row.error,
        worker=entry.worker,
        started_us=entry.since_us if entry.status == TaskStatus.RUNNING else 0,
        finished_us=0,
        run_id=0,
        chunks=0,
        waiting=entry.waiting,
    )


def _without_row(task: str, item: int, ready: bool) -> TaskView:
    status = TaskStatus.SCHEDULED if ready else TaskStatus.PENDING
    return TaskView(task, item, status, 0, 0, 0, None, None, None, "", 0, 0, 0, 0, "")


def waiting_sentences(plan: Plan, overlay: Sequence[TaskOverlay]) -> list[str]:
    """Return why an execution waits, one sentence a task, at most 100."""
    return [
        f"{plan.tasks[entry.task].id}: {entry.waiting}"
        for entry in overlay
        if entry.waiting and entry.task < len(plan.tasks)
    ][:100]


def duration_ms(summary: ExecutionSummary, now_us: int) -> int:
    """Return milliseconds from start to finish, or to now; fits an int32."""
    end_us = now_us if summary.finished_us is None else summary.finished_us
    return max(0, min((end_us - summary.started_us) // 1000, 2**31 - 1))
