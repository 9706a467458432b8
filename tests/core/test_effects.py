"""Rows of one batch: what several verbs say of an execution's status must come out right.

The store applies reopens first, then changes, then finishes.
"""

from bend_server.core import machine
from bend_server.core.effects import Effects
from bend_server.core.model import Failure, Phase, TaskStatus
from tests.kit.machine_run import Run
from tests.kit.plans import Task, chain, make_plan


def test_a_pause_that_ended_in_the_same_batch_leaves_no_change() -> None:
    run = Run(chain(1))
    effects = Effects()
    now = (run.now_us, run.chance, effects)
    machine.pause(run.state, "one", "ada", *now)
    machine.unpause(run.state, "ada", *now)
    assert (len(effects.reopens), effects.changes) == (1, [])
    machine.pause(run.state, "two", "ada", *now)
    assert [change.pause_reason for change in effects.changes] == ["two"]
    machine.unpause(run.state, "ada", *now)
    assert (len(effects.reopens), effects.changes) == (1, [])


def test_changes_of_other_executions_stay() -> None:
    one, other = Run(chain(1)), Run(chain(1))
    other.row = other.row._replace(id=other.row.id + 1)
    other.state = machine.begin(other.plan, other.row)
    machine.start(other.state, other.now_us, other.chance, Effects())
    effects = Effects()
    now = (one.now_us, one.chance, effects)
    machine.pause(one.state, "one", "ada", *now)
    machine.pause(other.state, "other", "ada", *now)
    machine.unpause(one.state, "ada", *now)
    assert [change.pause_reason for change in effects.changes] == ["other"]
    assert effects.rows() == len(effects.events) + 2


def test_a_new_run_that_compensates_in_the_same_batch_reopens_once() -> None:
    tasks = [
        Task(id="a"),
        Task(id="b", after=("a",)),
        Task(id="ua", undoes="a", phase=Phase.COMPENSATION),
    ]
    run = Run(make_plan(tasks))
    run.fail("a")
    effects = Effects()
    machine.retry(run.state, "again", "ada", run.now_us, run.chance, effects)
    for task, status in (("a", TaskStatus.COMPLETED), ("b", TaskStatus.FAILED)):
        failure = None if status == TaskStatus.COMPLETED else Failure("X")
        outcome = run.outcome(task, status, failure=failure)
        machine.apply(run.state, outcome, run.now_us + 5, run.chance, effects)
    (reopen,) = effects.reopens
    assert (reopen.run, reopen.deadline_us) == (2, run.state.deadline_us)
    assert run.state.phase == Phase.COMPENSATION
