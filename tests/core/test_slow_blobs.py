"""Histories in which blobs come late, in any order, or never, and executions are quarantined.

The reference model has its blobs at once; here nobody says what has to come out, but nothing may
hang, break, or differ from what its rows say.
"""

from random import Random

import pytest

from bend_server.core import machine
from bend_server.core.effects import FINISH, BlobWait
from bend_server.core.model import Failure, TaskKind
from bend_server.core.model import TaskStatus as S
from tests.core.drawn import random_tasks
from tests.core.watched import Watched
from tests.kit.machine_run import BLOB
from tests.kit.plans import make_plan

HISTORIES = 1600
BLOCKS = 4
ENGINES = (TaskKind.WAIT, TaskKind.SIGNAL, TaskKind.APPROVAL)


class Waits(Watched):
    """A run that keeps the decisions which wait for blobs."""

    blobs: list[BlobWait]

    def commit(self) -> None:
        """Keep the rows, and what they wait for."""
        super().commit()
        if not hasattr(self, "blobs"):
            self.blobs = []
        self.blobs += self.last.blobs

    def crash(self) -> None:
        """Lose the memory, with all that waits."""
        self.blobs.clear()
        super().crash()


class Story:
    """One history."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        plan = make_plan(random_tasks(self.chance), timeout_us=40_000_000)
        self.run = Waits(plan)

    def units(self) -> list[tuple[int, int]]:
        """Return the units with an open try."""
        state = self.run.state
        waits = {} if state.control is None else state.control.waits
        return [*self.run.worked_on(), *waits]

    def finish(self, unit: tuple[int, int], *, well: bool) -> None:
        """Let an open try come to its end, or begin to wait."""
        run, chance = self.run, self.chance
        task, item = unit
        plan = run.plan.tasks[task]
        if run.state.waiting(task, item) is not None:
            if plan.kind == TaskKind.APPROVAL:
                run.decide(plan.id, approved=True, item=item)
            run.signal("go")
            return
        if plan.kind in ENGINES:
            run.wait(plan.id, item=item, seconds=1, name="go")
            return
        if well or chance.random() < 0.7:
            blob = f"{task}/{item}" if chance.random() < 0.6 else None
            counted = run.apply(run.outcome(plan.id, item=item, blob=blob))
            assert counted != run.state.quarantined
            return
        failure = Failure("A", retryable=chance.random() < 0.5)
        run.apply(run.outcome(plan.id, S.FAILED, item=item, failure=failure))

    def load(self, *, well: bool) -> None:
        """Load one of the blobs, or find that it is gone."""
        run = self.run
        wait = run.blobs.pop(self.chance.randrange(len(run.blobs)))
        data = None if not well and self.chance.random() < 0.15 else BLOB
        run.does(machine.blob_loaded, wait, data)

    def step(self) -> None:
        """Let one thing happen."""
        run, dice = self.run, self.chance.random()
        units = self.units()
        if run.blobs and dice < 0.35:
            self.load(well=False)
        elif units and dice < 0.75:
            self.finish(self.chance.choice(units), well=False)
        elif dice < 0.8:
            run.pass_time(self.chance.choice((1, 11)))
        elif dice < 0.86:
            run.crash()
        elif dice < 0.9:
            run.pause()
        elif dice < 0.94:
            run.unpause()
        elif dice < 0.97:
            run.retry()
        elif dice < 0.98:
            run.does(machine.quarantine, "INTERNAL")
        else:
            run.cancel()
        run.check_effects()

    def heal(self) -> None:
        """Let all be well; it has to end."""
        run = self.run
        for _ in range(400):
            if run.state.terminal:
                return
            if run.state.quarantined:
                run.cancel()
            elif run.state.paused:
                run.unpause()
            elif run.blobs:
                self.load(well=True)
            elif units := self.units():
                self.finish(units[0], well=True)
                run.pass_time(1)
            else:
                run.pass_time(5)
        raise AssertionError("the run has no end")


@pytest.mark.parametrize("block", range(BLOCKS))
def test_blobs_that_come_late_or_never_leave_nothing_hanging(block: int) -> None:
    for seed in range(block, HISTORIES, BLOCKS):
        story = Story(seed)
        try:
            for _ in range(14):
                story.step()
            story.heal()
        except BaseException:
            print(f"seed {seed}")
            raise
        run = story.run
        assert all(wait.task == FINISH or wait.task >= 0 for wait in run.blobs)
        copy = run.folded()
        assert (copy.status, copy.seq, copy.run) == (run.state.status, run.state.seq, run.state.run)
        assert bytes(copy.statuses) == bytes(run.state.statuses), f"seed {seed}"
