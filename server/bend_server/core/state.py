"""The state of one execution in memory: flat arrays, no object per task.

Only `evolve*` writes it. What few executions need lives in dicts and objects that are made when
first needed: `fans` (items of for_each), `control` (waits, children, signals, compensation).
"""

from collections import deque
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, cast

from bend_server.core.model import (
    ITEM_NONE,
    ExecutionStatus,
    Failure,
    Phase,
    RunIf,
    StartRow,
    TaskStatus,
)
from bend_server.core.plan import Plan
from bend_server.core.units import BlobOutput, Fan, Units
from bend_server.core.waits import Child, Waiting

__all__ = ["BlobOutput", "Control", "ExecutionState", "Unit"]

_OPEN_FIRST = int(TaskStatus.SCHEDULED)
_OPEN_LAST = int(TaskStatus.RUNNING)
_WAITING = int(TaskStatus.WAITING)
_TERMINAL_FIRST = int(TaskStatus.COMPLETED)
_ON_FAILURE = int(Phase.ON_FAILURE)
_COMPENSATION = int(Phase.COMPENSATION)

Unit = tuple[int, int]

# What most have none of, shared by all: whoever writes into it by mistake fails.
_NONE = cast("dict[Any, Any]", MappingProxyType({}))


class Control:
    """What only executions with control flow have.

    Attributes:
        waits: per unit (task, item) what it waits for.
        listeners: per signal the units that wait for it, first come first served.
        signals: payloads that came before anybody waited, per name, oldest first.
        signals_kept: how many payloads `signals` has.
        children: per unit its child.
        undo: completed units with a compensation: (seq of their completion, task, item), rising.
        undone: how many of them, from the end, have been dealt with.
        compensated: whether the run began to compensate.
        undo_over: whether compensation was cut short (its deadline, a cancel in quarantine).
        cancel_noted: whether a cancel came while compensating.
        pause_reason: of the last pause.
        paused_by: the failed task that was its cause; -1 when somebody asked for it.
        paused_us: when the last pause began.
    """

    __slots__ = (
        "cancel_noted",
        "children",
        "compensated",
        "listeners",
        "pause_reason",
        "paused_by",
        "paused_us",
        "signals",
        "signals_kept",
        "undo",
        "undo_over",
        "undone",
        "waits",
    )

    def __init__(self) -> None:
        self.waits: dict[Unit, Waiting] = {}
        self.listeners: dict[str, dict[Unit, None]] = _NONE
        self.signals: dict[str, deque[bytes]] = _NONE
        self.signals_kept = 0
        self.children: dict[Unit, Child] = _NONE
        self.undo: list[tuple[int, int, int]] = []
        self.undone = 0
        self.compensated = False
        self.undo_over = False
        self.cancel_noted = False
        self.pause_reason = ""
        self.paused_by = -1
        self.paused_us = 0

    def listening(self, name: str) -> dict[Unit, None]:
        """Return the units that wait for a signal, to add one."""
        if self.listeners is _NONE:
            self.listeners = {}
        return self.listeners.setdefault(name, {})

    def kept(self, name: str) -> deque[bytes]:
        """Return the payloads of a signal that nobody waited for, to add one."""
        if self.signals is _NONE:
            self.signals = {}
        return self.signals.setdefault(name, deque())

    def set_child(self, unit: Unit, child: Child) -> None:
        """Give a unit its child."""
        if self.children is _NONE:
            self.children = {}
        self.children[unit] = child


class ExecutionState(Units):
    """One execution; the columns of `Units` are those of its tasks.

    Attributes:
        plan: the compiled revision.
        start: the row it was started with.
        run: number of the current run, from 1.
        status: an ExecutionStatus.
        seq: seq of the newest row; 0 while there is only the start. The next row takes seq + 1.
        remaining: per task, how many dependencies are not terminal yet.
        unfinished: how many tasks of this phase are not terminal (units left to undo, in the
            compensation phase).
        taking_part: tasks below this index have their turn, or had it (not compensations).
        phase: a Phase.
        ending: 0, or the terminal status that the run is heading for (FAILED, CANCELLED,
            TIMED_OUT) and will get when all is done.
        grace_us: when tasks that were asked to stop are given up; 0 unless ending.
        deadline_us: when the run (or its compensation) times out, Unix microseconds; 0: never.
        quarantined: whether the execution is out of service; nothing but a cancel moves it.
        error: the first failure, with `task` set where a task was the cause.
        result: the output of a completed execution, as the finish row has it.
        fans: per task with for_each its items; None before the first.
        control: the rest; None before it is needed.
    """

    __slots__ = (
        "control",
        "deadline_us",
        "ending",
        "error",
        "fans",
        "grace_us",
        "phase",
        "plan",
        "quarantined",
        "remaining",
        "result",
        "run",
        "seq",
        "start",
        "status",
        "taking_part",
        "unfinished",
    )

    def __init__(self, plan: Plan, start: StartRow, status: int) -> None:
        size = len(plan.tasks)
        self.blank(size)
        self.plan = plan
        self.start = start
        self.run = start.run
        self.status = status
        self.seq = 0
        self.remaining = plan.dependency_counts[:]
        self.unfinished = self.taking_part = plan.main_count or size
        self.phase = 0
        self.ending = 0
        self.grace_us = 0
        self.deadline_us = start.deadline_us
        self.quarantined = False
        self.error: Failure | None = None
        self.result: bytes | None = None
        self.fans: dict[int, Fan] | None = None
        self.control: Control | None = None

    @property
    def id(self) -> int:
        """The internal id."""
        return self.start.id

    @property
    def public_id(self) -> str:
        """The id that users see."""
        return self.start.public_id

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self.start.namespace

    @property
    def input(self) -> bytes:
        """The parameters, JSON."""
        return self.start.input

    @property
    def labels(self) -> bytes:
        """The labels, JSON object of strings."""
        return self.start.labels

    @property
    def started_us(self) -> int:
        """When it was accepted, Unix microseconds."""
        return self.start.started_us

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
        return self.status >= ExecutionStatus.COMPLETED

    @property
    def paused(self) -> bool:
        """Whether it is PAUSED, and not because it is quarantined."""
        return self.status == ExecutionStatus.PAUSED and not self.quarantined

    @property
    def pause_reason(self) -> str:
        """Why it is paused; empty when it is not."""
        if self.control is None or not self.paused:
            return ""
        return self.control.pause_reason

    @property
    def compensated(self) -> bool:
        """Whether it began to compensate: only a rerun is possible."""
        return self.control is not None and self.control.compensated

    def task_status(self, task: int) -> TaskStatus:
        """Return a task's status."""
        return TaskStatus(self.statuses[task])

    def unit_status(self, task: int, item: int = ITEM_NONE) -> TaskStatus:
        """Return the status of a task, or of one of its items (PENDING: had no turn yet)."""
        units, index = self.unit(task, item)
        return TaskStatus(units.statuses[index])

    def unit(self, task: int, item: int) -> tuple[Units, int]:
        """Return the columns that have a unit, and its index there. Raises KeyError, IndexError."""
        if item == ITEM_NONE:
            return self, task
        if self.fans is None:
            raise KeyError(task)
        fan = self.fans[task]
        if not 0 <= item < fan.count:
            raise IndexError(item)
        return fan, item

    def has_unit(self, task: int, item: int) -> bool:
        """Return whether there is such a unit. Any numbers may be given."""
        if not 0 <= task < len(self.statuses):
            return False
        if item == ITEM_NONE:
            return True
        fan = self.fan(task)
        return fan is not None and 0 <= item < fan.count

    def fan(self, task: int) -> Fan | None:
        """Return the items of a task; None before they were counted."""
        return None if self.fans is None else self.fans.get(task)

    def output(self, task: int, item: int = ITEM_NONE) -> bytes | BlobOutput | None:
        """Return a completed unit's output: JSON, or a reference; None when there is none.

        A task with for_each has none of its own: `ExecutionScope.output` makes the list.
        """
        units, index = self.unit(task, item)
        return None if units.outputs is None else units.outputs[index]

    def open_try(self, task: int, item: int = ITEM_NONE) -> int:
        """Return the try whose result will count; 0 when no try of the unit is open."""
        if item == ITEM_NONE:
            status = self.statuses[task]
            if self.fans is not None and task in self.fans:
                return 0
            if _OPEN_FIRST <= status <= _OPEN_LAST or (
                status == _WAITING and self.waiting(task) is not None
            ):
                return self.tries[task]
            return 0
        if not self.has_unit(task, item):
            return 0
        units, index = self.unit(task, item)
        status = units.statuses[index]
        if _OPEN_FIRST <= status <= _OPEN_LAST or (
            status == _WAITING and self.waiting(task, item) is not None
        ):
            return units.tries[index]
        return 0

    def attempt(self, task: int, item: int = ITEM_NONE) -> int:
        """Return the attempt of the unit's last try, from 1; 0 when it never ran."""
        units, index = self.unit(task, item)
        return units.unit_attempt(index)

    def iteration(self, task: int, item: int = ITEM_NONE) -> int:
        """Return the round of `repeat` that a unit is in, from 0."""
        units, index = self.unit(task, item)
        return units.unit_iteration(index)

    def waiting(self, task: int, item: int = ITEM_NONE) -> Waiting | None:
        """Return what a unit waits for; None when it does not (a backoff is no such wait)."""
        return None if self.control is None else self.control.waits.get((task, item))

    def child(self, task: int, item: int = ITEM_NONE) -> Child | None:
        """Return the child of a unit that runs, or failed and may be retried."""
        return None if self.control is None else self.control.children.get((task, item))

    def opened(self) -> Iterator[Unit]:
        """Yield the units that are SCHEDULED or RUNNING (a task with items: its items)."""
        for task in range(self.taking_part):
            if not _OPEN_FIRST <= self.statuses[task] <= _OPEN_LAST:
                continue
            fan = self.fan(task)
            if fan is None:
                yield task, ITEM_NONE
                continue
            for item in range(fan.next):
                if _OPEN_FIRST <= fan.statuses[item] <= _OPEN_LAST:
                    yield task, item

    def dues(self) -> Iterator[tuple[int, int, int]]:
        """Yield (due_us, task, item) of every backoff, delay between rounds, and wait with a due.

        In no order; for timers and parking.
        """
        for task, due_us in (self.due or {}).items():
            yield due_us, task, ITEM_NONE
        for task, fan in (self.fans or {}).items():
            for item, due_us in (fan.due or {}).items():
                yield due_us, task, item
        if self.control is not None:
            for (task, item), waiting in self.control.waits.items():
                if waiting.due_us:
                    yield waiting.due_us, task, item

    def task_terminal(self, task: int) -> bool:
        """Return whether a task has its final status."""
        return self.statuses[task] >= _TERMINAL_FIRST

    def stopping(self, task: int) -> bool:
        """Return whether a task may not start any more, and is asked to stop if it did.

        An execution that is failing still runs its `run_if: failure | always` and its on_failure
        tasks; one that is cancelled or timed out runs nothing but compensations.
        """
        if not self.ending:
            return False
        plan = self.plan.tasks[task]
        if plan.phase == _COMPENSATION:
            return self.control is not None and self.control.undo_over
        if self.ending == ExecutionStatus.FAILED:
            return plan.run_if == RunIf.SUCCESS and plan.phase != _ON_FAILURE
        return True

    def undoing(self) -> Unit | None:
        """Return the unit that is compensated now (or next); None outside that phase."""
        control = self.control
        if control is None or self.phase != _COMPENSATION or control.undone >= len(control.undo):
            return None
        _, task, item = control.undo[-1 - control.undone]
        return task, item

    def hold_blob(self, task: int, data: bytes, item: int = ITEM_NONE) -> None:
        """Lend a blob's data to evaluations, until `drop_blobs`. No part of the history."""
        if not self.has_unit(task, item):
            return
        units, index = self.unit(task, item)
        units.lend(index, data)

    def drop_blobs(self) -> None:
        """Forget all blob data that was lent."""
        self.drop_data()
        for fan in (self.fans or {}).values():
            fan.drop_data()
