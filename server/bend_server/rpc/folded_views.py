"""Tasks of executions with control flow: what each is now follows from the fold of all rows.

A row alone does not tell: a retry takes back what failed, an item waits for its turn, a wait has
an event and no result. Plain executions take the short road of `views`.
"""

from collections.abc import Iterator, Sequence

from bend_server.core import compensation, machine
from bend_server.core.model import (
    ITEM_NONE,
    TASK_TERMINAL,
    EventKind,
    EventRow,
    ExecutionStatus,
    Phase,
    ResultRow,
    StartRow,
    TaskKind,
    TaskStatus,
)
from bend_server.core.plan import ExpressionError, NeedsBlob, Plan
from bend_server.core.scope import ExecutionScope
from bend_server.core.state import ExecutionState
from bend_server.core.times import rfc3339
from bend_server.core.units import BlobOutput, Fan, Units
from bend_server.ports.engine import TaskOverlay
from bend_server.ports.store import ExecutionSummary
from bend_server.rpc.views import LEFT_OUT, OF_ITEMS, TaskView

PHASES = {Phase.MAIN: "", Phase.ON_FAILURE: "on_failure", Phase.COMPENSATION: "compensate"}
KINDS = {
    TaskKind.WAIT: "timer",
    TaskKind.SIGNAL: "signal",
    TaskKind.APPROVAL: "approval",
    TaskKind.WORKFLOW: "child",
}
NEW_RUNS = frozenset((int(EventKind.RETRIED), int(EventKind.RESET)))
_TERMINAL = frozenset(int(status) for status in TASK_TERMINAL)
_PENDING = int(TaskStatus.PENDING)
_RUNNING = int(TaskStatus.RUNNING)
_COMPLETED = int(TaskStatus.COMPLETED)


def folded_state(
    plan: Plan, summary: ExecutionSummary, rows: Sequence[ResultRow], events: Sequence[EventRow]
) -> ExecutionState:
    """Return the state that the rows of an execution give. Raises CorruptHistory."""
    start = StartRow(
        id=summary.id,
        public_id=summary.public_id,
        namespace=summary.namespace,
        workflow=summary.workflow,
        revision=summary.revision,
        partition=0,
        run=1,
        status=ExecutionStatus.RUNNING,
        priority=plan.priority,
        concurrency_key=summary.concurrency_key,
        parent=summary.parent,
        parent_task=None,
        root=summary.root,
        rerun_of=summary.rerun_of,
        request_id=None,
        request_hash=None,
        actor="",
        input=summary.input or b"{}",
        labels=summary.labels,
        trace="",
        started_us=summary.started_us,
        deadline_us=0,
    )
    return machine.fold(plan, start, list(rows), list(events), None)


class FoldedViews:
    """Makes the views of one execution.

    Args:
        rows: all result rows, ordered by seq.
        events: all event rows, ordered by seq.
        overlay: what the owner's memory adds; [] when it is not known here. Then a try that was
            opened is SCHEDULED: that follows from the rows. Who does it, only the owner knows.
    """

    def __init__(
        self,
        plan: Plan,
        summary: ExecutionSummary,
        rows: Sequence[ResultRow],
        events: Sequence[EventRow],
        overlay: Sequence[TaskOverlay],
    ) -> None:
        self._plan = plan
        self._state = folded_state(plan, summary, rows, events)
        self._rows = {(row.task, row.item): row for row in rows}
        self._overlay = {(entry.task, entry.item): entry for entry in overlay}
        self._live = summary.status == ExecutionStatus.RUNNING
        self._touched = {entry.task for entry in overlay}

    def views(self) -> list[TaskView]:
        """Return every task in the document's order, each followed by its items.

        Tasks of a phase that never came are left out.
        """
        return list(self._views())

    def _views(self) -> Iterator[TaskView]:
        state = self._state
        for task in self._plan.tasks:
            index = task.index
            fan = None if state.fans is None else state.fans.get(index)
            if task.phase != Phase.MAIN and not self._came(index, fan):
                continue
            count = 0 if fan is None else max(fan.count, 0)
            whole = self._unit(state, index, index, ITEM_NONE, count)
            if fan is not None and task.phase == Phase.COMPENSATION:
                whole = whole._replace(status=self._undone(fan))
            yield whole
            if fan is not None:
                for item in range(count):
                    known = fan.tries[item] or fan.statuses[item] != _PENDING
                    if known or (index, item) in self._overlay or self._opened(index, item):
                        yield self._unit(fan, index, item, item, 0)

    def _came(self, task: int, fan: Fan | None) -> bool:
        """Tell whether a task of a later phase had its turn."""
        if (task, ITEM_NONE) in self._rows or task in self._touched:
            return True
        if (fan is not None and any(fan.tries)) or self._opened(task, ITEM_NONE):
            return True
        waits = self._state.statuses[task] == _PENDING
        compensates = self._plan.tasks[task].phase == Phase.COMPENSATION
        return not (waits and (compensates or task >= self._state.taking_part))

    def _undone(self, fan: Fan) -> int:
        """Return the status of a compensation as a whole: items are undone one by one."""
        turns = [status for status, try_ in zip(fan.statuses, fan.tries, strict=True) if try_]
        if self._live or any(status not in _TERMINAL for status in turns):
            return TaskStatus.RUNNING
        return TaskStatus.COMPLETED if set(turns) <= {_COMPLETED} else TaskStatus.FAILED

    def _opened(self, task: int, item: int) -> bool:
        """Tell whether a unit has an open try, which has no row: it follows from the others."""
        state = self._state
        if not self._live or state.paused or state.stopping(task):
            return False
        if state.plan.tasks[task].phase == Phase.COMPENSATION:
            unit = state.undoing()
            return unit is not None and compensation.undoer(state, unit) == (task, item)
        if item != ITEM_NONE:
            fan = state.fan(task)
            return fan is not None and state.statuses[task] == _RUNNING and item < fan.next
        return task < state.taking_part and not state.remaining[task]

    def _unit(self, units: Units, task: int, place: int, item: int, count: int) -> TaskView:
        plan = self._plan.tasks[task]
        status, try_, attempt = units.statuses[place], units.tries[place], units.unit_attempt(place)
        entry = self._entry(task, item, status, try_)
        if entry is not None:
            status = entry.status if entry.try_ > try_ else max(status, entry.status)
            try_, attempt = entry.try_, entry.attempt
        elif status == _PENDING and self._opened(task, item):
            status = int(TaskStatus.SCHEDULED)
        row = self._rows.get((task, item))
        ended = row if row is not None and status in _TERMINAL else None
        output = units.outputs[place] if units.outputs is not None else None
        blob = output.key if isinstance(output, BlobOutput) else None
        if count and status == TaskStatus.COMPLETED:
            output, blob = self._list(task)
        started_us, finished_us = (0, 0)
        if units.times is not None:
            started_us, finished_us = units.times[2 * place : 2 * place + 2]
        if entry is not None:
            started_us = entry.since_us if status == TaskStatus.RUNNING else 0
            finished_us = 0
        return TaskView(
            task=plan.id,
            item=item,
            status=status,
            attempt=attempt,
            try_=try_,
            iteration=units.unit_iteration(place),
            output=None if isinstance(output, BlobOutput) else output,
            blob=blob,
            error=None if units.errors is None else units.errors.get(place),
            worker=ended.worker if ended else entry.worker if entry else "",
            started_us=started_us,
            finished_us=finished_us,
            run_id=ended.run_id if ended else 0,
            chunks=ended.chunks if ended else 0,
            waiting="" if ended else self._waiting(units, task, place, item, entry),
            child=self._child(task, item),
            items=count,
            phase=PHASES[plan.phase],
        )

    def _entry(self, task: int, item: int, status: int, try_: int) -> TaskOverlay | None:
        """Return what memory says of a unit's open try, unless the rows know more.

        Memory is read first. That a try was opened has no row: it may be one ahead of them.
        """
        entry = self._overlay.get((task, item))
        return None if entry is None or status in _TERMINAL or entry.try_ < try_ else entry

    def _list(self, task: int) -> tuple[bytes | None, str | None]:
        """Return the list of the items' outputs, or what stands for it."""
        try:
            return ExecutionScope(self._state).output(task), None
        except NeedsBlob:
            return None, OF_ITEMS
        except ExpressionError:
            return None, LEFT_OUT

    def _child(self, task: int, item: int) -> int:
        control = self._state.control
        child = None if control is None else control.children.get((task, item))
        return 0 if child is None else child.id

    def _waiting(
        self, units: Units, task: int, place: int, item: int, entry: TaskOverlay | None
    ) -> str:
        if entry is not None and (entry.waiting or entry.try_ > units.tries[place]):
            return entry.waiting
        due_us = None if units.due is None else units.due.get(place)
        if due_us is not None:
            return f"next try at {rfc3339(due_us)}"
        control = self._state.control
        wait = None if control is None else control.waits.get((task, item))
        if wait is None:
            return ""
        word = KINDS[TaskKind(wait.kind)]
        name = f" {wait.name or wait.title}" if wait.name or wait.title else ""
        until = f" until {rfc3339(wait.due_us)}" if wait.due_us else ""
        return f"{word}{name}{until}"
