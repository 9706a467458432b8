"""Machine and reference model, driven together: after each event they must agree on everything."""

from collections.abc import Sequence

from bend_server.core import machine
from bend_server.core.effects import FINISH, Effects
from bend_server.core.model import (
    ExecutionStatus,
    Failure,
    Outcome,
    TaskKind,
)
from bend_server.core.model import TaskStatus as S
from bend_server.core.state import BlobOutput, ExecutionState
from bend_server.core.units import Units
from tests.core.reference_units import NO_ITEM, Node, Unit
from tests.core.reference_verbs import Model
from tests.core.watched import Watched
from tests.kit.machine_run import BLOB, SECOND_US, snapshot
from tests.kit.plans import NOW_US, Task, make_plan

SIGNALS = ("go", "stop")


def described(task: Task) -> str:
    """Return a task in a line: what is not as usual."""
    usual = vars(Task(id="", render=task.render))
    said = {name: value for name, value in vars(task).items() if value != usual[name]}
    if "retry" in said:
        said["retry"] = (task.retry.attempts_max, *task.retry.on)
    return " ".join(f"{name}={value}" for name, value in said.items())


class Duel:
    """One execution, twice. Events take numbers to pick from what is possible."""

    def __init__(
        self, tasks: Sequence[Task], timeout_s: int, *, pause_on_failure: bool = False
    ) -> None:
        timeout_us = timeout_s * SECOND_US
        plan = make_plan(tasks, timeout_us=timeout_us, pause_on_failure=pause_on_failure)
        self.run = Watched(plan)
        self.model = Model(tasks, NOW_US, timeout_us, pause_on_failure=pause_on_failure)
        self.seen: list[Outcome] = []
        self.events = 0
        self.told: list[str] = [described(task) for task in tasks]
        self.agree("start")

    @property
    def state(self) -> ExecutionState:
        return self.run.state

    # What may happen.

    def openings(self, *kinds: TaskKind) -> list[tuple[int, int]]:
        """Return the units with an open try, of these kinds."""
        found: list[tuple[int, int]] = []
        for node in self.model.tasks:
            if node.spec.kind not in kinds:
                continue
            if node.items is not None:
                found += [(node.index, i) for i, unit in enumerate(node.items) if unit.open]
            elif node.open:
                found.append((node.index, NO_ITEM))
        return found

    def finish(self, pick: int, status: S, reason: str, *, retryable: bool, blob: bool) -> bool:
        """Let an open try of a component or a child come to its end."""
        units = self.openings(TaskKind.COMPONENT, TaskKind.WORKFLOW)
        if not units:
            return False
        task, item = units[pick % len(units)]
        outcome = self._outcome(task, item, status, reason, retryable=retryable, blob=blob)
        assert self.run.apply(outcome), "the outcome of an open try was refused"
        self.seen.append(outcome)
        completed = status == S.COMPLETED
        self.model.outcome(
            task,
            item,
            status,
            output=None if not completed else BLOB if blob else b"1",
            blob=completed and blob,
            reason="" if completed else reason,
            retryable=retryable,
        )
        self.agree(f"{status.name} of {task}[{item}] {reason} {retryable} {blob}")
        return True

    def _outcome(
        self, task: int, item: int, status: S, reason: str, *, retryable: bool, blob: bool
    ) -> Outcome:
        name = self.run.plan.tasks[task].id
        if status == S.COMPLETED:
            key = f"ns/{task}/{item}" if blob else None
            return self.run.outcome(name, item=item, blob=key)
        failure = Failure(reason, retryable=retryable) if reason else None
        return self.run.outcome(name, status, item=item, failure=failure)

    def wait(self, pick: int, name: str, seconds: int) -> bool:
        """Let the engine render the input of a wait, a signal or an approval."""
        units = [
            unit
            for unit in self.openings(TaskKind.WAIT, TaskKind.SIGNAL, TaskKind.APPROVAL)
            if self.model.tasks[unit[0]].unit(unit[1]).wait is None
        ]
        if not units:
            return False
        task, item = units[pick % len(units)]
        kind = self.run.plan.tasks[task].kind
        if kind == TaskKind.WAIT:
            seconds = seconds or 1
        due = self.run.now_us + seconds * SECOND_US if seconds else 0
        named = name if kind == TaskKind.SIGNAL else ""
        began = self.run.wait(self.run.plan.tasks[task].id, item=item, seconds=seconds, name=named)
        assert began == self.model.begin_wait(task, item, named, due)
        self.agree(f"wait of {task}[{item}] {named} {seconds}")
        return True

    def decide(self, pick: int, *, approved: bool) -> bool:
        """Decide a pending approval."""
        units = [
            unit
            for unit in self.openings(TaskKind.APPROVAL)
            if self.model.tasks[unit[0]].unit(unit[1]).wait is not None
        ]
        if not units:
            return False
        task, item = units[pick % len(units)]
        assert self.run.decide(self.run.plan.tasks[task].id, item=item, approved=approved)
        (ended,) = self.run.last.approval_ends[:1]
        assert ended.status == (2 if approved else 3)
        self.model.outcome(task, item, S.COMPLETED, output=self.run.last.results[0].output)
        self.agree(f"decision of {task}[{item}] {approved}")
        return True

    def signal(self, name: str) -> bool:
        """Give a signal."""
        payload = b'{"n":%d}' % self.events
        taken = self.run.signal(name, payload)
        assert taken.name == self.model.signal(name, payload)
        self.agree(f"signal {name}")
        return True

    def child(self, pick: int) -> bool:
        """Start a child."""
        units = self.openings(TaskKind.WORKFLOW)
        if not units:
            return False
        task, item = units[pick % len(units)]
        number = 1000 + self.events
        began = self.run.child(self.run.plan.tasks[task].id, number, item=item)
        assert began == self.model.begin_child(task, item, number)
        self.agree(f"child of {task}[{item}]")
        return True

    def cancel(self) -> bool:
        assert self.run.cancel() == self.model.cancel()
        self.agree("cancel")
        return True

    def pause(self) -> bool:
        assert self.run.pause() == self.model.pause()
        self.agree("pause")
        return True

    def unpause(self) -> bool:
        assert self.run.unpause() == self.model.unpause()
        self.agree("unpause")
        return True

    def retry(self) -> bool:
        waited = self._retried_after_a_queue()
        assert self.run.retry() == self.model.retry()
        if waited is not None:
            assert waited == snapshot(self.state), "waiting for its turn changes nothing"
        self.agree("retry")
        return True

    def _retried_after_a_queue(self) -> dict[str, object] | None:
        """Return what a retry gives that first waits for a slot and is recovered meanwhile."""
        run = self.run
        copy = run.folded()
        effects = Effects()
        done = (run.now_us, run.chance, effects)
        if not copy.terminal or not machine.retry(copy, "again", "ada", *done, queued=True):
            return None
        assert copy.status == ExecutionStatus.PENDING
        assert not effects.ready, "nothing of it may run yet"
        row = run.row._replace(status=int(ExecutionStatus.PENDING))
        again = machine.fold(run.plan, row, run.results, [*run.events, *effects.events], None)
        assert snapshot(again) == snapshot(copy)
        machine.resume(again, run.now_us, run.chance, Effects())
        return snapshot(again)

    def reset(self, pick: int) -> bool:
        task = self.run.plan.tasks[pick % self.run.plan.main_count]
        assert self.run.reset(task.id) == self.model.reset(task.index)
        self.agree(f"reset of {task.id}")
        return True

    def pass_time(self, ms: int) -> bool:
        run = self.run
        run.now_us += ms * 1000
        self.model.now += ms * 1000
        for due_us, task, item in sorted(self.state.dues()):
            if due_us > run.now_us:
                break
            run.does(machine.retry_due, task, item)
            self._load_blobs()
            run.does(machine.wait_due, task, item, self.state.open_try(task, item))
            self._load_blobs()
            self.model.fire(task, item)
        run.does(machine.grace_over)
        self._load_blobs()
        self.model.grace_over()
        run.does(machine.execution_timed_out)
        self.model.time_out()
        self.agree(f"{ms} ms")
        return True

    def hint(self, pick: int) -> bool:
        """Hear that a worker has begun."""
        units = self.openings(TaskKind.COMPONENT)
        if not units:
            return False
        task, item = units[pick % len(units)]
        machine.running(self.state, task, item, self.state.open_try(task, item))
        self.model.tasks[task].unit(item).status = S.RUNNING
        self.agree(f"start of {task}[{item}]")
        return True

    def crash(self, pick: int, *, lost: bool) -> bool:
        """Lose the memory; `lost`: in the middle of an outcome, before its commit."""
        units = self.openings(TaskKind.COMPONENT)
        if lost and units:
            task, item = units[pick % len(units)]
            outcome = self._outcome(task, item, S.COMPLETED, "", retryable=False, blob=False)
            run = self.run
            machine.apply(run.state, outcome, run.now_us, run.chance, Effects())
        self.run.crash()
        self.model.crash()
        self.agree("crash")
        return True

    def repeat(self, pick: int, status: S) -> bool:
        """Deliver an outcome again, or one of a try that never was: nothing may change."""
        if not self.seen:
            return False
        outcome = self.seen[pick % len(self.seen)]
        for late in (outcome, outcome._replace(status=status), outcome._replace(try_=99)):
            assert not self.run.apply(late)
            assert not self.run.last.rows()
        self.agree("late outcomes")
        return True

    # Whether they agree.

    def agree(self, event: str) -> None:
        """Load the blobs that decisions wait for, then compare everything."""
        self.events += 1
        self.told.append(event)
        self._load_blobs()
        self.run.check_effects()
        model, state = self.model, self.state
        assert state.status == model.status, ("status", state.status, model.status)
        assert state.run == model.run, "run"
        assert (state.ending or None) == model.ending, "ending"
        assert state.phase == model.phase, "phase"
        assert state.deadline_us == model.deadline, "deadline"
        assert state.compensated == model.compensated, "compensated"
        reason = "" if state.error is None else state.error.reason
        assert reason == model.error, "error"
        assert state.result == model.result, "result"
        assert sorted(state.dues()) == sorted(model.dues()), "dues"
        for node in model.tasks:
            self._agree_on(node)
        control = state.control
        kept = {} if control is None else {n: list(s) for n, s in control.signals.items()}
        assert kept == {name: kept for name, kept in model.signals.items() if kept}, "signals"
        undo = [] if control is None else [(task, item) for _, task, item in control.undo]
        assert undo == model.undo, "undo"

    def _load_blobs(self) -> None:
        run = self.run
        waits = list(run.last.blobs)
        while waits and not run.state.paused:
            wait = waits.pop(0)
            if wait.task == FINISH or run.in_doubt(wait.task, wait.asker):
                run.does(machine.blob_loaded, wait, BLOB)
                waits += run.last.blobs
        self.model.load()

    def _agree_on(self, node: Node) -> None:
        state = self.state
        self._agree_on_unit(node, node, NO_ITEM, state, node.index)
        if node.items is None:
            fan = state.fan(node.index)
            assert fan is None or fan.count < 0, f"{node.spec.id} has items"
            return
        fan = state.fan(node.index)
        assert fan is not None, f"{node.spec.id} has no items"
        assert fan.count == len(node.items), "count"
        for item, unit in enumerate(node.items):
            self._agree_on_unit(node, unit, item, fan, item)

    def _agree_on_unit(self, node: Node, unit: Unit, item: int, units: Units, index: int) -> None:
        machines = (
            units.statuses[index],
            units.tries[index],
            units.unit_attempt(index),
            units.unit_iteration(index),
            self.state.open_try(node.index, item) > 0,
        )
        counted = unit is node and node.items is not None
        models = (
            unit.status,
            unit.tries,
            unit.attempt,
            unit.iteration,
            unit.open and not counted,
        )
        where = f"{node.spec.id}[{item}]"
        assert machines == models, (where, machines, models)
        output = None if units.outputs is None else units.outputs[index]
        assert isinstance(output, BlobOutput) == unit.blob, where
        if not unit.blob:
            assert output == unit.output, where
        error = None if units.errors is None else units.errors.get(index)
        if unit.status in (S.FAILED, S.TIMED_OUT):
            assert error is not None, where
            assert Failure.from_json(error).reason == unit.reason, where
        child = self.state.child(node.index, item)
        assert (None if child is None else (child.id, child.run)) == unit.child, where

    # To the end.

    def heal(self) -> None:
        """Let everything end well from here on; the run must come to its end."""
        for _ in range(300):
            if self.state.terminal:
                break
            if self.state.paused:
                self.unpause()
                continue
            done = self.finish(0, S.COMPLETED, "", retryable=False, blob=False)
            done = done or self.wait(0, SIGNALS[0], 1) or self.decide(0, approved=True)
            if not done:
                self.signal(SIGNALS[0])
                self.signal(SIGNALS[1])
                self.pass_time(5000)
        assert self.state.terminal, "the run has no end"
        turn = self.model.having_turn()
        assert all(node.over for node in turn), "a task has no end"
        self.run.check_replay()
