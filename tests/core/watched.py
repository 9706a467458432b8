"""A run whose effects are watched: what is open was announced, what is due has a timer.

An effect that is missing hangs an execution, and no comparison of states would show it.
"""

from bend_server.core.effects import TimerKind
from bend_server.core.model import (
    ITEM_NONE,
    EventKind,
    ExecutionStatus,
    Phase,
    TaskKind,
    TaskStatus,
)
from tests.kit.machine_run import Run

_WORKED_ON = (TaskStatus.SCHEDULED, TaskStatus.RUNNING)
Key = tuple[int, int, int]


class Watched(Run):
    """A run that remembers what the engine was told, and what SQL's row would say."""

    ready: set[Key]
    stops: set[Key]
    timers_set: set[tuple[int, int, int, int]]
    approvals: set[Key]
    told: tuple[int, int, int]

    def commit(self) -> None:
        """Keep the rows, and take note of the rest."""
        super().commit()
        last = self.last
        if not hasattr(self, "ready"):
            self.forget()
            self.approvals = set()
            self.told = (self.row.status, 1, self.row.deadline_us)
        self.ready |= {(one.task, one.item, one.try_) for one in last.ready}
        self.stops |= {(one.task, one.item, one.try_) for one in last.cancels}
        for wish in last.children:
            (self.ready if wish.verb == "retry" else self.stops).add(
                (wish.task, wish.item, wish.try_)
            )
        self.timers_set |= {(one.due_us, one.kind, one.task, one.item) for one in last.timers}
        self.approvals |= {(one.task, one.item, one.try_) for one in last.approvals}
        self.approvals -= {(one.task, one.item, one.try_) for one in last.approval_ends}
        for reopen in last.reopens:
            self.told = (ExecutionStatus.RUNNING, reopen.run, reopen.deadline_us)
        for change in last.changes:
            self.told = (change.status, *self.told[1:])
        for finish in last.finishes:
            self.told = (finish.status, *self.told[1:])

    def forget(self) -> None:
        """Lose what the engine had in memory."""
        self.ready, self.stops, self.timers_set = set(), set(), set()

    def crash(self) -> None:
        """Lose the memory; fold the committed rows and go on."""
        self.forget()
        super().crash()

    def check_effects(self) -> None:
        """Check that nothing was left unsaid."""
        state = self.state
        assert self.told == (state.status, state.run, state.deadline_us), "SQL says otherwise"
        waits = {} if state.control is None else state.control.waits
        pending = {
            (*key, wait.try_) for key, wait in waits.items() if wait.kind == TaskKind.APPROVAL
        }
        assert self.approvals == pending, "approvals"
        if state.terminal or state.paused or state.quarantined:
            return
        timers = self.timers_set
        if state.phase == Phase.COMPENSATION or state.ending in (0, ExecutionStatus.FAILED):
            assert (state.deadline_us, TimerKind.EXECUTION, -1, ITEM_NONE) in timers, "deadline"
        for due_us, task, item in state.dues():
            kind = TimerKind.WAKE if (task, item) in waits else TimerKind.RETRY
            assert (due_us, kind, task, item) in timers, f"no timer for {task}[{item}]"
        for task, item in self.worked_on():
            key = (task, item, state.open_try(task, item))
            if state.stopping(task):
                assert key in self.stops, f"{key} was not asked to stop"
                assert (state.grace_us, TimerKind.GRACE, -1, ITEM_NONE) in timers, "grace"
            else:
                assert key in self.ready, f"{key} was not announced"

    def worked_on(self) -> list[tuple[int, int]]:
        """Return the units that a worker, a child or the engine has to end."""
        state = self.state
        fans = state.fans or {}
        units = [(task.index, ITEM_NONE) for task in self.plan.tasks if task.index not in fans]
        for task, fan in fans.items():
            units += [(task, item) for item in range(fan.count)]
        return [unit for unit in units if state.unit_status(*unit) in _WORKED_ON]

    def kinds(self) -> list[str]:
        """Return the kinds of the events so far by name."""
        return [EventKind(event.kind).name for event in self.events]
