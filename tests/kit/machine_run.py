"""One execution driven by hand: a test says what happens, and looks at what came of it."""

from bend_server.core import machine
from bend_server.core.effects import FINISH, Effects, TimerKind
from bend_server.core.model import (
    ITEM_NONE,
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
from bend_server.core.state import BlobOutput, ExecutionState
from tests.kit.plans import NOW_US, start_row

SECOND_US = 1_000_000
BLOB = b"7"


class FullJitter:
    """Chance that always gives the upper bound: backoffs become predictable."""

    def uniform(self, low: float, high: float) -> float:
        """Return `high`."""
        return high


def snapshot(state: ExecutionState) -> dict[str, object]:
    """Return everything that the state knows, comparable, without what is lent to it."""
    outputs = [
        output.key if isinstance(output, BlobOutput) else output for output in state.outputs or ()
    ]
    return {
        "status": state.status,
        "seq": state.seq,
        "statuses": bytes(state.statuses),
        "remaining": list(state.remaining),
        "tries": list(state.tries),
        "outputs": outputs,
        "times": list(state.times or ()),
        "unfinished": state.unfinished,
        "ending": state.ending,
        "grace_us": state.grace_us,
        "quarantined": state.quarantined,
        "error": state.error,
        "result": state.result,
        "errors": state.errors or {},
        "due": state.due or {},
        "firsts": state.firsts or {},
        "attempts": state.attempts or {},
    }


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
        for row in self.last.finishes:
            assert self.finish is None, "a run finishes once"
            self.finish = row

    def fresh(self) -> Effects:
        """Begin new effects."""
        self.last = Effects()
        return self.last

    def status(self, task: str) -> str:
        """Return a task's status by name."""
        return self.state.task_status(self.plan.index[task]).name

    def statuses(self) -> dict[str, str]:
        """Return every task's status by name."""
        return {task.id: self.status(task.id) for task in self.plan.tasks}

    def open(self) -> list[str]:
        """Return the ids of the tasks with an open try."""
        return [t.id for t in self.plan.tasks if self.state.open_try(t.index)]

    def outcome(
        self,
        task: str,
        status: TaskStatus = TaskStatus.COMPLETED,
        *,
        output: bytes | None = None,
        failure: Failure | None = None,
        try_: int | None = None,
        blob: str | None = None,
    ) -> Outcome:
        """Return an outcome for a task's open try (or the try given)."""
        index = self.plan.index[task]
        if output is None and blob is None and status == TaskStatus.COMPLETED:
            output = b"1"
        return Outcome(
            index,
            ITEM_NONE,
            self.state.tries[index] if try_ is None else try_,
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

    def complete(self, task: str, output: bytes = b"1") -> bool:
        """Complete a task's open try."""
        return self.apply(self.outcome(task, output=output))

    def fail(
        self,
        task: str,
        reason: str = "BROKEN",
        *,
        retryable: bool = False,
        wait_us: int | None = None,
    ) -> bool:
        """Fail a task's open try."""
        failure = Failure(reason, "it broke", retryable, wait_us)
        return self.apply(self.outcome(task, TaskStatus.FAILED, failure=failure))

    def cancel(self, reason: str = "enough", actor: str = "ada") -> bool:
        """Ask for a cancel."""
        changed = machine.request_cancel(
            self.state, reason, actor, self.now_us, self.chance, self.fresh()
        )
        self.commit()
        return changed

    def pass_time(self, seconds: float) -> None:
        """Let time pass and fire what is due: retries, grace, deadline."""
        self.now_us += int(seconds * SECOND_US)
        effects = self.fresh()
        for task in list(self.state.due or ()):
            machine.retry_due(self.state, task, ITEM_NONE, self.now_us, self.chance, effects)
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
            if wait.task != FINISH and self.state.statuses[wait.task] != TaskStatus.PENDING:
                machine.blob_loaded(copy, wait, BLOB, self.now_us, self.chance, effects)
        assert not effects.rows(), "recovery wrote rows for what has them"
        live, replayed = snapshot(self.state), snapshot(copy)
        scheduled, began = int(TaskStatus.SCHEDULED), int(TaskStatus.RUNNING)
        table = bytes.maketrans(bytes([began]), bytes([scheduled]))
        live["statuses"] = bytes(self.state.statuses).translate(table)
        assert live == replayed

    @property
    def ended(self) -> str:
        """The execution's status by name."""
        return ExecutionStatus(self.state.status).name

    def timers(self, kind: TimerKind) -> list[int]:
        """Return in how many microseconds the last effects' timers of a kind are due."""
        return [timer.due_us - self.now_us for timer in self.last.timers if timer.kind == kind]
