"""Random executions for tests of the core: a seed gives a plan and a story that happens to it.

Stories have failures, retries, late and repeated results, cancels, timeouts, blobs that must be
loaded, crashes before and after the commit. They heal after a
while, so that each comes to an end.
"""

from random import Random

from bend_server.core import machine
from bend_server.core.effects import FINISH, BlobWait, Effects
from bend_server.core.model import Failure, Outcome, RunIf, TaskStatus
from bend_server.core.plan import ExpressionError, Plan, RetryPolicy, Scope
from bend_server.core.state import BlobOutput
from tests.kit.machine_run import BLOB, Run
from tests.kit.plans import Task, make_plan

STEPS_MAX = 60
FINAL = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.TIMED_OUT, TaskStatus.CANCELLED)


class Verdict:
    """A condition that answers the same for ever, and may read an output to do so."""

    def __init__(self, answer: bool | None, reads: int | None) -> None:
        self.answer = answer
        self.reads = reads

    def __call__(self, scope: Scope) -> bool:
        """Answer, or raise as an expression would."""
        if self.reads is not None:
            scope.output(self.reads)
        if self.answer is None:
            raise ExpressionError("planned")
        return self.answer


def random_plan(chance: Random) -> Plan:
    """Return a plan of 1 to 9 tasks with every rule that the core knows."""
    tasks: list[Task] = []
    for position in range(chance.randint(1, 9)):
        wanted = chance.choice((0, 1, 1, 2, 3))
        after = sorted(chance.sample(range(position), min(position, wanted)))
        condition = None
        if chance.random() < 0.3:
            reads = chance.choice(after) if after and chance.random() < 0.5 else None
            condition = Verdict(chance.choice((True, True, False, None)), reads)
        tasks.append(
            Task(
                id=f"t{position}",
                after=[f"t{i}" for i in after],
                run_if=RunIf(chance.choice((0, 0, 0, 1, 2))),
                condition=condition,
                allow_failure=chance.random() < 0.3,
                retry=RetryPolicy(
                    attempts_max=chance.randint(1, 3),
                    budget_us=chance.choice((None, None, 3_000_000)),
                ),
            )
        )
    return make_plan(tasks, timeout_us=chance.choice((20, 200, 10**5)) * 1_000_000)


class Story:
    """One seed: `play` runs it to its end and checks every step."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.run = Run(random_plan(self.chance))
        self.seen: list[Outcome] = []
        self.waits: list[BlobWait] = []
        self.check_effects(self.run.last)

    def play(self) -> Run:
        """Run the story; return its run, finished."""
        for step in range(10 * STEPS_MAX):
            if self.run.state.terminal:
                break
            self.step(healing=step > STEPS_MAX)
            self.run.check_replay()
        return self.run

    def step(self, *, healing: bool) -> None:
        """Let one thing happen."""
        dice = self.chance.random()
        open_tasks = self.run.open()
        if self.waits and dice < 0.5:
            self.load_blob()
        elif open_tasks and (healing or dice < 0.6):
            self.finish_try(self.chance.choice(open_tasks), healing=healing)
        elif dice < 0.7:
            self.run.pass_time(self.chance.choice((0.5, 1, 3, 11)))
            self.check_effects(self.run.last)
        elif dice < 0.74 and not healing:
            self.run.cancel()
            self.check_effects(self.run.last)
        elif dice < 0.85:
            self.crash()
        elif self.seen:
            self.repeat(self.chance.choice(self.seen))

    def outcome(self, task: str, *, healing: bool) -> Outcome:
        """Return a random outcome of a task's open try."""
        status = TaskStatus.COMPLETED if healing else self.chance.choice((5, 5, 5, 6, 9, 8))
        if status == TaskStatus.COMPLETED:
            blob = f"ns/1/{task}" if self.chance.random() < 0.2 else None
            return self.run.outcome(task, blob=blob)
        failure = Failure(
            self.chance.choice(("A", "B")),
            retryable=self.chance.random() < 0.7,
            retry_after_us=self.chance.choice((None, 2_000_000)),
        )
        return self.run.outcome(
            task, TaskStatus(status), failure=failure if self.chance.random() < 0.8 else None
        )

    def finish_try(self, task: str, *, healing: bool) -> None:
        """Apply an outcome; sometimes the engine dies before the commit, and it comes again."""
        outcome = self.outcome(task, healing=healing)
        run = self.run
        if not healing and self.chance.random() < 0.1:
            machine.running(run.state, outcome.task, -1, outcome.try_)
            run.check_replay()
        if self.chance.random() < 0.15:
            machine.apply(run.state, outcome, run.now_us, run.chance, Effects())
            self.crash()
        assert run.apply(outcome), "the outcome of an open try was refused"
        self.seen.append(outcome)
        self.check_effects(run.last)

    def repeat(self, outcome: Outcome) -> None:
        """Deliver an outcome again, as it was or with another answer: nothing may change."""
        before = self.run.folded().seq
        other = outcome._replace(status=self.chance.choice(FINAL))
        for repeated in (outcome, other, outcome._replace(try_=outcome.try_ + 7)):
            assert not self.run.apply(repeated)
            assert not self.run.last.rows()
            assert not self.run.last.ready
            assert not self.run.last.timers
        assert self.run.state.seq == before

    def crash(self) -> None:
        """Lose the memory."""
        self.run.crash()
        self.waits.clear()
        self.check_effects(self.run.last)

    def load_blob(self) -> None:
        """Load what a decision waits for, or find that it is gone."""
        wait = self.waits.pop(self.chance.randrange(len(self.waits)))
        data = BLOB if self.chance.random() < 0.9 else None
        run = self.run
        machine.blob_loaded(run.state, wait, data, run.now_us, run.chance, run.fresh())
        run.commit()
        self.check_effects(run.last)

    def check_effects(self, effects: Effects) -> None:
        """Check that what became ready may run, by rules written a second time here."""
        self.waits += effects.blobs
        for wait in effects.blobs:
            assert isinstance(self.run.state.output(wait.source), BlobOutput)
            assert wait.task == FINISH or not self.run.state.remaining[wait.task]
        for ready in effects.ready:
            plan = self.run.plan.tasks[ready.task]
            names = [self.run.state.task_status(i).name for i in plan.dependencies]
            assert all(name not in ("PENDING", "SCHEDULED", "RUNNING", "WAITING") for name in names)
            failed = [name for name in names if name in ("FAILED", "TIMED_OUT")]
            if plan.run_if == RunIf.FAILURE:
                assert failed
            elif plan.run_if == RunIf.SUCCESS:
                assert "CANCELLED" not in names
                for index, name in zip(plan.dependencies, names, strict=True):
                    assert (
                        name in ("COMPLETED", "SKIPPED") or self.run.plan.tasks[index].allow_failure
                    )
