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

# In place of a blob's key: the output is left out of this answer; it is a list of what lies there.
LEFT_OUT, OF_ITEMS = "left out", "of items"


class TaskView(NamedTuple):
    """One task, or one item of it. Times are Unix microseconds, 0 when there is none.

    `output` is JSON; None while it is not completed or when it lives under the key `blob`, which
    may be LEFT_OUT or OF_ITEMS, too. `child`
    is the internal id of the execution that it started (0: none), `child_name` its public one;
    `items` how many items it has.
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
    child: int = 0
    child_name: str = ""
    items: int = 0
    phase: str = ""


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
    whole: dict[int, ResultRow] = {}
    parts: dict[int, dict[int, ResultRow]] = {}
    for row in rows:
        if row.item == ITEM_NONE:
            whole[row.task] = row
        else:
            parts.setdefault(row.task, {})[row.item] = row
    extra: dict[int, dict[int, TaskOverlay]] = {}
    for entry in overlay if live else ():
        extra.setdefault(entry.task, {})[entry.item] = entry
    views: list[TaskView] = []
    for task in plan.tasks:
        index = task.index
        more = extra.get(index)
        known = whole.get(index)
        if known is not None and (more is None or _ended(known)):
            views.append(_from_row(task.id, known))
        elif more is not None and ITEM_NONE in more:
            views.append(_from_overlay(task.id, more[ITEM_NONE], known))
        else:
            ready = live and all(_done(whole.get(other)) for other in task.dependencies)
            views.append(_without_row(task.id, ITEM_NONE, ready))
        if index in parts or more is not None:
            views.extend(_items(task.id, parts.get(index, {}), more or {}))
    return views


def _items(
    task: str, rows: dict[int, ResultRow], overlay: dict[int, TaskOverlay]
) -> list[TaskView]:
    """Return the items of one task by index, as far as they are known."""
    views = []
    for item in sorted({*rows, *overlay} - {ITEM_NONE}):
        row, more = rows.get(item), overlay.get(item)
        if row is not None and (more is None or _ended(row)):
            views.append(_from_row(task, row))
        elif more is not None:
            views.append(_from_overlay(task, more, row))
    return views


def _done(row: ResultRow | None) -> bool:
    return row is not None and _ended(row)


def _ended(row: ResultRow) -> bool:
    return row.retry_at_us is None and row.status in _TERMINAL_TASK


def _from_row(task: str, row: ResultRow) -> TaskView:
    # By position: this runs once a task, and an execution may have 20,000.
    retry_at_us = row.retry_at_us
    return TaskView(
        task,
        row.item,
        row.status if retry_at_us is None else TaskStatus.WAITING,
        row.attempt,
        row.try_,
        row.iteration,
        row.output,
        row.blob,
        row.error,
        row.worker,
        row.started_us,
        row.finished_us,
        row.run_id,
        row.chunks,
        "" if retry_at_us is None else f"retry at {rfc3339(retry_at_us)}",
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


def queue_sentences(summary: ExecutionSummary) -> list[str]:
    """Return why an execution has not begun, from its row: those that wait are in no memory."""
    if summary.status != ExecutionStatus.PENDING:
        return []
    if summary.concurrency_key is None:
        return ["waits for admission"]
    return [f"concurrency key {summary.concurrency_key}"]


def waiting_sentences(plan: Plan, overlay: Sequence[TaskOverlay]) -> list[str]:
    """Return why an execution's tasks wait, one sentence a task, at most 100."""
    return [
        f"{plan.tasks[entry.task].id}: {entry.waiting}"
        for entry in overlay
        if entry.waiting and 0 <= entry.task < len(plan.tasks)
    ][:100]


def duration_ms(summary: ExecutionSummary, now_us: int) -> int:
    """Return milliseconds from start to finish, or to now; fits an int32."""
    end_us = now_us if summary.finished_us is None else summary.finished_us
    return max(0, min((end_us - summary.started_us) // 1000, 2**31 - 1))
