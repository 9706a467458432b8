"""Cancel, the execution's timeout, quarantine."""

import pytest

from bend_server.core import machine
from bend_server.core.effects import Effects, TimerKind
from bend_server.core.errors import InvariantBroken
from bend_server.core.model import EventKind, Failure, RunIf, TaskStatus
from bend_server.core.plan import RetryPolicy
from bend_server.core.transitions import TRANSITIONS, check
from tests.kit.machine_run import Run
from tests.kit.plans import Task, make_plan

TWO = [Task(id="a"), Task(id="b", after=("a",))]
WITH_ALWAYS = [
    Task(id="a"),
    Task(id="b", after=("a",)),
    Task(id="clean", after=("a",), run_if=RunIf.ALWAYS),
]


def test_a_cancel_is_a_row_with_who_and_why() -> None:
    run = Run(make_plan(TWO))
    assert run.cancel("false positive", "ada")
    assert [(row.kind, row.actor) for row in run.events] == [(EventKind.CANCEL_REQUESTED, "ada")]
    assert Failure.from_json(run.events[0].body).message == "false positive"
    assert run.statuses() == {"a": "SCHEDULED", "b": "CANCELLED"}
    assert [cancel.task for cancel in run.last.cancels] == [0]
    run.check_replay()
    run.apply(run.outcome("a", TaskStatus.CANCELLED))
    assert run.statuses() == {"a": "CANCELLED", "b": "CANCELLED"}
    assert run.ended == "CANCELLED"
    assert run.state.error == Failure("CANCELLED", "false positive")
    run.check_replay()


def test_a_second_cancel_changes_nothing() -> None:
    run = Run(make_plan(TWO))
    assert run.cancel()
    assert not run.cancel()
    run.pass_time(10)
    assert not run.cancel()
    assert len(run.events) == 1


def test_a_cancel_stops_tasks_with_run_if_always_too() -> None:
    run = Run(make_plan(WITH_ALWAYS))
    run.cancel()
    run.complete("a")
    assert run.statuses() == {"a": "COMPLETED", "b": "CANCELLED", "clean": "CANCELLED"}
    assert run.ended == "CANCELLED"


def test_a_failing_execution_can_be_cancelled_and_keeps_its_error() -> None:
    run = Run(make_plan(WITH_ALWAYS))
    run.fail("a", "HTTP_500")
    assert run.open() == ["clean"]
    assert run.cancel()
    assert [cancel.task for cancel in run.last.cancels] == [2]
    run.check_replay()
    run.pass_time(10)
    assert run.ended == "CANCELLED"
    assert run.state.error is not None
    assert run.state.error.reason == "HTTP_500"
    run.check_replay()


def test_the_deadline_ends_the_execution_as_timed_out() -> None:
    run = Run(make_plan(WITH_ALWAYS, timeout_us=60_000_000))
    assert run.timers(TimerKind.EXECUTION) == [60_000_000]
    run.pass_time(59)
    assert run.ended == "RUNNING"
    run.pass_time(1)
    assert run.status("clean") == "CANCELLED"
    run.pass_time(10)
    assert run.ended == "TIMED_OUT"
    assert run.statuses()["a"] == "CANCELLED"
    assert run.state.error is not None
    assert run.state.error.reason == "TIMEOUT"
    assert not run.cancel()
    run.check_replay()


def test_the_grace_survives_a_crash() -> None:
    run = Run(make_plan(TWO))
    run.cancel()
    run.crash()
    assert not run.last.ready
    assert [cancel.try_ for cancel in run.last.cancels] == [1]
    assert run.timers(TimerKind.GRACE) == [10_000_000]
    run.pass_time(10)
    assert run.ended == "CANCELLED"


def test_a_retry_that_was_open_at_the_cancel_stays_open_over_a_crash() -> None:
    run = Run(make_plan([Task(id="a", retry=RetryPolicy(attempts_max=3))]))
    run.fail("a", retryable=True)
    run.pass_time(1)
    run.cancel()
    outcome = run.outcome("a")
    run.crash()
    assert [(cancel.task, cancel.try_) for cancel in run.last.cancels] == [(0, 2)]
    assert run.apply(outcome)
    assert run.status("a") == "COMPLETED"
    assert run.ended == "CANCELLED"
    run.check_replay()


def test_quarantine_pauses_and_only_a_cancel_moves_it() -> None:
    run = Run(make_plan(TWO))
    late = run.outcome("a")
    effects = run.fresh()
    assert machine.quarantine(
        run.state, "INTERNAL", run.now_us, run.chance, effects, message="row refused"
    )
    run.commit()
    assert run.ended == "PAUSED"
    assert [(c.status, c.pause_reason) for c in effects.changes] == [(3, "QUARANTINED")]
    assert not machine.quarantine(run.state, "INTERNAL", run.now_us, run.chance, Effects())
    assert not run.apply(late)
    run.pass_time(10**6)
    assert run.ended == "PAUSED"
    run.crash()
    assert not run.last.ready
    assert not run.last.timers
    assert not run.last.rows()
    assert run.cancel()
    assert run.ended == "CANCELLED"
    assert set(run.statuses().values()) == {"CANCELLED"}
    run.check_replay()


def test_every_pair_of_statuses_that_is_not_in_the_table_is_refused() -> None:
    for source in TaskStatus:
        for target in TaskStatus:
            if target in TRANSITIONS[source]:
                check(1, 0, source, target)
                continue
            with pytest.raises(InvariantBroken, match=f"from {source.name} to {target.name}"):
                check(1, 0, source, target)
