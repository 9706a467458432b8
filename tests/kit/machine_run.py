"""One execution driven by hand: a test says what happens, and looks at what came of it."""

from collections.abc import Callable
from typing import Any

from bend_server.core import machine
from bend_server.core.effects import FINISH, Effects, TimerKind
from bend_server.core.model import (
    ITEM_NONE,
    EventKind,
    EventRow,
    ExecutionStatus,
    Failure,
    FinishRow,
    Outcome,
    ResultRow,
    StartRow,
    TaskStatus,
)
from bend_server.core.plan import Plan
from bend_server.core.state import BlobOutput, Control, ExecutionState
from bend_server.core.units import Fan, Units
from bend_server.core.waits import SignalTaken, Wait
from tests.kit.plans import NOW_US, start_row

SECOND_US = 1_000_000
BLOB = b"7"
NEW_RUN = (EventKind.RETRIED, EventKind.RESET)


class FullJitter:
    """Chance that always gives the upper bound: backoffs become predictable."""

    def uniform(self, low: float, high: float) -> float:
        """Return `high`."""
        return high


def _columns(units: Units) -> dict[str, object]:
    """Return what units have, without what is lent to them."""
    outputs = [
        output.key if isinstance(output, BlobOutput) else output for output in units.outputs or ()
    ]
    return {
        "statuses": bytes(units.statuses),
        "tries": list(units.tries),
        "outputs": outputs if any(output is not None for output in outputs) else [],
        "times": list(units.times or ()),
        "errors": units.errors or {},
        "due": units.due or {},
        "firsts": units.firsts or {},
        "bases": units.bases or {},
        "attempts": units.attempts or {},
        "iterations": units.iterations or {},
        "lasts": {
            index: last.key if isinstance(last, BlobOutput) else last
            for index, last in (units.lasts or {}).items()
        },
        "undecided": units.undecided or set(),
    }


def _fan(fan: Fan) -> dict[str, object]:
    names = ("window", "count", "next", "active", "left", "failed", "halted")
    return _columns(fan) | {name: getattr(fan, name) for name in names}


def _control(control: Control | None) -> dict[str, object]:
    if control is None:
        control = Control()
    return {name: getattr(control, name) for name in Control.__slots__} | {
        "listeners": {name: list(keys) for name, keys in control.listeners.items()},
        "signals": {name: list(kept) for name, kept in control.signals.items()},
    }


def snapshot(state: ExecutionState) -> dict[str, object]:
    """Return everything that the state knows, comparable, without what is lent to it."""
    names = [
        "run",
        "status",
        "seq",
        "unfinished",
        "taking_part",
        "phase",
        "ending",
        "grace_us",
        "deadline_us",
        "quarantined",
        "error",
        "result",
    ]
    return (
        _columns(state)
        | {name: getattr(state, name) for name in names}
        | {
            "remaining": list(state.remaining),
            "fans": {task: _fan(fan) for task, fan in (state.fans or {}).items()},
            "control": _control(state.control),
        }
    )


def _without_hints(statuses: bytearray) -> bytes:
    """Return statuses in which nobody heard that a try has started."""
    scheduled, began = int(TaskStatus.SCHEDULED), int(TaskStatus.RUNNING)
    return bytes(statuses).translate(bytes.maketrans(bytes([began]), bytes([scheduled])))


class Run:
    """An execution with its committed rows. Every verb commits what it wrote at once."""

    def __init__(self, plan: Plan, row: StartRow | None = None) -> None:
        self.plan = plan
        self.now_us = NOW_US
        self.chance = FullJitter()
        self.row = row or start_row(plan)
        self.results: list[ResultRow] = []
        self.events: list[EventRow] = []
        self.finish: FinishRow | None = None
        self.last = Effects()
        self.state = machine.begin(plan, self.row)
        machine.start(self.state, self.now_us, self.chance, self.last)
        self.commit()

    def commit(self) -> None:
        """Keep the rows of the last effects."""
        self.results += self.last.results
        self.events += self.last.events
        if any(row.run > 1 and row.kind in NEW_RUN for row in self.last.events):
            assert self.last.reopens, "a new run has to open the execution again"
            self.finish = None
        for row in self.last.finishes:
            assert self.finish is None, "a run finishes once"
            self.finish = row

    def fresh(self) -> Effects:
        """Begin new effects."""
        self.last = Effects()
        return self.last

    def status(self, task: str, item: int = ITEM_NONE) -> str:
        """Return the status of a task, or of an item, by name."""
        return self.state.unit_status(self.plan.index[task], item).name

    def items(self, task: str) -> list[str]:
        """Return the statuses of a task's items by name."""
        fan = self.state.fan(self.plan.index[task])
        return [self.status(task, item) for item in range(0 if fan is None else fan.count)]

    def statuses(self) -> dict[str, str]:
        """Return every task's status by name."""
        return {task.id: self.status(task.id) for task in self.plan.tasks}

    def open(self) -> list[str]:
        """Return the ids of the tasks with an open try."""
        return [t.id for t in self.plan.tasks if self.state.open_try(t.index)]

    def open_items(self, task: str) -> list[int]:
        """Return the items of a task with an open try."""
        index = self.plan.index[task]
        fan = self.state.fan(index)
        count = 0 if fan is None else fan.count
        return [item for item in range(count) if self.state.open_try(index, item)]

    def outcome(
        self,
        task: str,
        status: TaskStatus = TaskStatus.COMPLETED,
        *,
        item: int = ITEM_NONE,
        output: bytes | None = None,
        failure: Failure | None = None,
        try_: int | None = None,
        blob: str | None = None,
    ) -> Outcome:
        """Return an outcome for a unit's open try (or the try given)."""
        index = self.plan.index[task]
        units, at = self.state.unit(index, item)
        if output is None and blob is None and status == TaskStatus.COMPLETED:
            output = b"1"
        return Outcome(
            index,
            item,
            units.tries[at] if try_ is None else try_,
            status,
            output,
            blob,
            failure,
            "w1",
            77,
            0,
            self.now_us,
            self.now_us,
        )

    def apply(self, outcome: Outcome) -> bool:
        """Apply an outcome."""
        changed = machine.apply(self.state, outcome, self.now_us, self.chance, self.fresh())
        self.commit()
        return changed

    def complete(self, task: str, output: bytes = b"1", item: int = ITEM_NONE) -> bool:
        """Complete a unit's open try."""
        return self.apply(self.outcome(task, output=output, item=item))

    def fail(
        self,
        task: str,
        reason: str = "BROKEN",
        *,
        retryable: bool = False,
        wait_us: int | None = None,
        item: int = ITEM_NONE,
    ) -> bool:
        """Fail a unit's open try."""
        failure = Failure(reason, "it broke", retryable, wait_us)
        return self.apply(self.outcome(task, TaskStatus.FAILED, failure=failure, item=item))

    def wait(
        self, task: str, *, item: int = ITEM_NONE, seconds: float = 0, name: str = "", **more: Any
    ) -> bool:
        """Let a unit's open try begin to wait, as the engine does when it renders its input."""
        index = self.plan.index[task]
        due_us = self.now_us + int(seconds * SECOND_US) if seconds else 0
        wait = Wait(self.plan.tasks[index].kind, due_us, name, **more)
        try_ = self.state.open_try(index, item)
        return bool(self.does(machine.begin_wait, index, item, try_, wait))

    def signal(self, name: str, payload: bytes = b"1", actor: str = "ada") -> SignalTaken:
        """Give a signal."""
        return SignalTaken(self.does(machine.signal, name, payload, actor))

    def decide(self, task: str, *, approved: bool, item: int = ITEM_NONE) -> bool:
        """Decide a pending approval."""
        index = self.plan.index[task]
        try_ = self.state.open_try(index, item)
        more = (approved, "fine" if approved else "no", b'{"n":1}', "bob")
        return bool(self.does(machine.decide_approval, index, item, try_, *more))

    def child(self, task: str, child: int = 99, *, item: int = ITEM_NONE) -> bool:
        """Start a child for a unit's open try."""
        index = self.plan.index[task]
        try_ = self.state.open_try(index, item)
        return bool(self.does(machine.begin_child, index, item, try_, child, f"c-{child}"))

    def does(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        """Call a verb of the machine and commit what it wrote."""
        changed = verb(self.state, *arguments, self.now_us, self.chance, self.fresh())
        self.commit()
        return changed

    def pause(self, reason: str = "lunch", actor: str = "ada") -> bool:
        """Pause the execution."""
        return bool(self.does(machine.pause, reason, actor))

    def unpause(self, actor: str = "ada") -> bool:
        """End the pause."""
        return bool(self.does(machine.unpause, actor))

    def retry(self, reason: str = "again", actor: str = "ada") -> bool:
        """Open a new run from what failed."""
        return bool(self.does(machine.retry, reason, actor))

    def reset(self, task: str, reason: str = "again", actor: str = "ada") -> bool:
        """Open a new run from a task."""
        return bool(self.does(machine.reset, self.plan.index[task], reason, actor))

    def cancel(self, reason: str = "enough", actor: str = "ada") -> bool:
        """Ask for a cancel."""
        changed = machine.request_cancel(
            self.state, reason, actor, self.now_us, self.chance, self.fresh()
        )
        self.commit()
        return changed

    def pass_time(self, seconds: float) -> None:
        """Let time pass and fire what is due: retries, waits, grace, deadline."""
        self.now_us += int(seconds * SECOND_US)
        effects = self.fresh()
        for due_us, task, item in sorted(self.state.dues()):
            if due_us > self.now_us:
                break
            machine.retry_due(self.state, task, item, self.now_us, self.chance, effects)
            try_ = self.state.open_try(task, item)
            machine.wait_due(self.state, task, item, try_, self.now_us, self.chance, effects)
        machine.grace_over(self.state, self.now_us, self.chance, effects)
        machine.execution_timed_out(self.state, self.now_us, self.chance, effects)
        self.commit()

    def crash(self) -> None:
        """Lose the memory; fold the committed rows and go on."""
        self.state = self.folded()
        machine.resume(self.state, self.now_us, self.chance, self.fresh())
        self.commit()

    def folded(self) -> ExecutionState:
        """Return the state that recovery makes of the committed rows."""
        return machine.fold(self.plan, self.row, self.results, self.events, self.finish)

    def check_replay(self) -> None:
        """Check that the committed rows give the state that wrote them."""
        copy = self.folded()
        effects = Effects()
        machine.resume(copy, self.now_us, self.chance, effects)
        for wait in effects.blobs:  # grows when a decision needs one more
            if wait.task != FINISH and not self.in_doubt(wait.task, wait.asker):
                machine.blob_loaded(copy, wait, BLOB, self.now_us, self.chance, effects)
        assert not effects.rows(), "recovery wrote rows for what has them"
        live, replayed = snapshot(self.state), snapshot(copy)
        for state, said in ((self.state, live), (copy, replayed)):
            said["statuses"] = _without_hints(state.statuses)
            fans = said["fans"]
            assert isinstance(fans, dict)
            for task, fan in (state.fans or {}).items():
                fans[task]["statuses"] = _without_hints(fan.statuses)
        assert live == replayed, [
            (name, live[name], replayed[name]) for name in live if live[name] != replayed[name]
        ]

    def in_doubt(self, task: int, item: int) -> bool:
        """Return whether a decision about a unit waits for a blob."""
        units, index = self.state.unit(task, item)
        return units.in_doubt(index) or units.statuses[index] == TaskStatus.PENDING

    @property
    def ended(self) -> str:
        """The execution's status by name."""
        return ExecutionStatus(self.state.status).name

    def timers(self, kind: TimerKind) -> list[int]:
        """Return in how many microseconds the last effects' timers of a kind are due."""
        return [timer.due_us - self.now_us for timer in self.last.timers if timer.kind == kind]
