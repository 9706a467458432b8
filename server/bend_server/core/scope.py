"""What expressions see of an execution: `core.plan.Scope` over the state."""

from collections.abc import Mapping

import orjson

from bend_server.core import limits
from bend_server.core.errors import InvariantBroken
from bend_server.core.model import ITEM_NONE, Phase, TaskStatus
from bend_server.core.plan import ExpressionError, NeedsBlob
from bend_server.core.state import BlobOutput, ExecutionState, Unit
from bend_server.core.times import rfc3339
from bend_server.core.units import Fan

_COMPLETED = int(TaskStatus.COMPLETED)


class ExecutionScope:
    """A view of one execution, or of one unit of it (`unit_scope`).

    Attributes:
        unit: for a compensation the unit that it undoes: that task's name stands for this unit.
        task: the task whose expressions see this; -1 for those of no task, or of plain ones.
    """

    __slots__ = ("index", "item", "iteration", "state", "task", "unit")

    def __init__(
        self,
        state: ExecutionState,
        item: bytes | None = None,
        index: int = -1,
        iteration: int = 0,
        unit: Unit | None = None,
        task: int = -1,
    ) -> None:
        self.state = state
        self.item = item
        self.index = index
        self.iteration = iteration
        self.unit = unit
        self.task = task

    @property
    def input(self) -> bytes:
        """The parameters, JSON."""
        return self.state.start.input

    def workflow(self) -> Mapping[str, object]:
        """Return id, name, revision, started_at (RFC 3339) and labels of the execution."""
        start = self.state.start
        return {
            "id": start.public_id,
            "name": start.workflow,
            "revision": start.revision,
            "started_at": rfc3339(start.started_us),
            "labels": orjson.loads(start.labels) if start.labels else {},
        }

    def _item_of(self, task: int) -> int:
        """Return which item of a task its name stands for; ITEM_NONE for the task."""
        return ITEM_NONE if self.unit is None or self.unit[0] != task else self.unit[1]

    def output(self, task: int) -> bytes | None:
        """Return a task's output as JSON; None when it has none (not completed).

        That of a for_each is the list of its items' outputs. Raises NeedsBlob when an output is in
        the blob store and not loaded, ExpressionError when the list is too large.
        """
        state = self.state
        item = ITEM_NONE
        if state.fans is None and self.unit is None:
            output = None if state.outputs is None else state.outputs[task]
        else:
            item = self._item_of(task)
            fan = state.fan(task)
            if fan is not None and item == ITEM_NONE:
                return listed(state, task, fan)
            output = state.output(task, item)
        if isinstance(output, BlobOutput):
            if output.data is None:
                raise NeedsBlob(task, output.key, item)
            return output.data
        return output

    def last(self) -> bytes | None:
        """Return what the round before gave, JSON; None in the first one. Raises NeedsBlob."""
        if self.task < 0:
            return None
        units, index = self.state.unit(self.task, self.index)
        output = None if units.lasts is None else units.lasts.get(index)
        if isinstance(output, BlobOutput):
            if output.data is None:
                raise NeedsBlob(self.task, output.key, self.index)
            return output.data
        return output

    def blob(self, task: int) -> tuple[str, int] | None:
        """Return key and size of an output in the blob store; the size is 0 until it is loaded."""
        output = self.state.output(task, self._item_of(task))
        if not isinstance(output, BlobOutput):
            return None
        return output.key, 0 if output.data is None else len(output.data)

    def own(self, task: int) -> Mapping[str, object]:
        """Return a task's own facts: status (lower case), error, attempt, start and end."""
        units, index = self.state.unit(task, self._item_of(task))
        error = None if units.errors is None else units.errors.get(index)
        times = units.times
        started_us, finished_us = (0, 0) if times is None else times[2 * index : 2 * index + 2]
        return {
            "status": TaskStatus(units.statuses[index]).name.lower(),
            "error": None if error is None else orjson.loads(error),
            "attempt": units.unit_attempt(index),
            "started_at": rfc3339(started_us) if started_us else None,
            "finished_at": rfc3339(finished_us) if finished_us else None,
        }


def unit_scope(state: ExecutionState, task: int, item: int = ITEM_NONE) -> ExecutionScope:
    """Return what the expressions of a unit see: its item, index and round.

    A compensation sees those of the unit that it undoes. Raises NeedsBlob and ExpressionError when
    the items are not in memory and have to be made again.
    """
    plan = state.plan.tasks[task]
    iteration = state.iteration(task, item)
    unit = None
    source = task
    if plan.phase == Phase.COMPENSATION and plan.compensates is not None:
        source = plan.compensates
        unit = (source, item)
    if item == ITEM_NONE:
        return ExecutionScope(state, None, -1, iteration, unit, task)
    return ExecutionScope(state, items_of(state, source)[item], item, iteration, unit, task)


def items_of(state: ExecutionState, task: int) -> list[bytes]:
    """Return the items of a task with for_each, JSON each; made again after a recovery.

    Raises NeedsBlob, ExpressionError.
    """
    fan = state.fan(task)
    for_each = state.plan.tasks[task].for_each
    if fan is None or for_each is None:
        raise InvariantBroken(f"task {task} has no items", execution=state.start.id, task=task)
    if fan.items is None:
        items = for_each(ExecutionScope(state))
        if len(items) != fan.count:
            raise ExpressionError(
                f"{state.plan.tasks[task].id}: for_each gives {len(items)} items now, "
                f"it gave {fan.count}"
            )
        fan.items = items
    return fan.items


def listed(state: ExecutionState, task: int, fan: Fan) -> bytes | None:
    """Return the outputs of a completed task's items as one list; null where there is none."""
    if state.statuses[task] != _COMPLETED:
        return None
    if fan.listed is None:
        parts: list[bytes] = []
        for index, output in enumerate((fan.outputs or [None] * fan.count)[: fan.count]):
            if isinstance(output, BlobOutput):
                if output.data is None:
                    raise NeedsBlob(task, output.key, index)
                parts.append(output.data)
            else:
                parts.append(b"null" if output is None else output)
        size = sum(map(len, parts)) + len(parts) + 1
        if size > limits.BLOB_BYTES_MAX:
            raise ExpressionError(
                f"{state.plan.tasks[task].id}: the list of its outputs has {size} bytes, "
                f"the limit is {limits.BLOB_BYTES_MAX}"
            )
        fan.listed = b"[" + b",".join(parts) + b"]"
    return fan.listed
