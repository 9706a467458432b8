"""What a failure does: run_if, allow_failure, the failing phase, the error of the execution."""

from bend_server.core.effects import TimerKind
from bend_server.core.limits import CANCEL_GRACE_US
from bend_server.core.model import EventKind, Failure, RunIf, TaskStatus
from bend_server.core.plan import RetryPolicy
from tests.kit.machine_run import Run
from tests.kit.plans import Task, make_plan


def test_a_failure_cancels_what_can_no_longer_run_and_fails_the_execution() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b", after=("a",)), Task(id="c", after=("b",))]))
    run.fail("a", "HTTP_500")
    assert run.statuses() == {"a": "FAILED", "b": "CANCELLED", "c": "CANCELLED"}
    assert run.ended == "FAILED"
    assert [row.kind for row in run.events] == [EventKind.FAILING]
    assert run.state.error == Failure("HTTP_500", "it broke", task="a")
    assert run.finish is not None
    assert run.finish.error is not None
    assert Failure.from_json(run.finish.error) == run.state.error
    cancelled = run.results[-1]
    assert (cancelled.attempt, cancelled.try_, cancelled.output) == (0, 1, None)
    run.check_replay()


def test_tasks_with_run_if_failure_or_always_still_run_and_do_not_unfail() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a"),
                Task(id="next", after=("a",)),
                Task(id="alarm", after=("a",), run_if=RunIf.FAILURE),
                Task(id="clean", after=("next",), run_if=RunIf.ALWAYS),
            ]
        )
    )
    run.fail("a")
    assert sorted(run.open()) == ["alarm", "clean"]
    run.check_replay()
    run.complete("alarm")
    run.complete("clean")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert run.state.error.task == "a"
    run.check_replay()


def test_run_if_failure_with_nothing_failed_is_skipped() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="alarm", after=("a",), run_if=RunIf.FAILURE)]))
    run.complete("a")
    assert run.status("alarm") == "SKIPPED"
    assert run.ended == "COMPLETED"


def test_an_allowed_failure_lets_dependents_run_and_counts_for_run_if_failure() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a", allow_failure=True),
                Task(id="b", after=("a",)),
                Task(id="alarm", after=("a",), run_if=RunIf.FAILURE),
            ]
        )
    )
    run.fail("a")
    assert run.open() == ["b", "alarm"]
    run.complete("b")
    run.complete("alarm")
    assert run.ended == "COMPLETED"
    assert not run.events


def test_a_timeout_counts_as_a_failure() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="alarm", after=("a",), run_if=RunIf.FAILURE)]))
    run.apply(run.outcome("a", TaskStatus.TIMED_OUT))
    assert run.status("a") == "TIMED_OUT"
    assert run.open() == ["alarm"]
    run.complete("alarm")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert run.state.error.reason == "TIMEOUT"


def test_running_tasks_are_asked_to_stop_and_may_complete_in_the_grace() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b"), Task(id="c"), Task(id="d", after=("b",))]))
    run.fail("a")
    assert run.ended == "RUNNING"
    assert [(cancel.task, cancel.try_) for cancel in run.last.cancels] == [(1, 1), (2, 1)]
    assert run.timers(TimerKind.GRACE) == [CANCEL_GRACE_US]
    run.check_replay()
    run.complete("b")
    assert run.status("b") == "COMPLETED"
    assert run.status("d") == "CANCELLED"
    late = run.outcome("c")
    run.pass_time(9.9)
    assert run.ended == "RUNNING"
    run.pass_time(0.1)
    assert run.status("c") == "CANCELLED"
    assert run.ended == "FAILED"
    assert not run.apply(late)
    run.check_replay()


def test_nothing_is_retried_once_it_was_asked_to_stop() -> None:
    retry = RetryPolicy(attempts_max=5)
    run = Run(make_plan([Task(id="a"), Task(id="b", retry=retry)]))
    run.fail("a")
    run.fail("b", retryable=True)
    assert run.status("b") == "FAILED"
    assert run.ended == "FAILED"


def test_the_first_failure_is_the_error() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b"), Task(id="c", after=("a",), run_if=RunIf(2))]))
    run.fail("b", "FIRST")
    run.fail("a", "SECOND")
    run.fail("c", "THIRD")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert (run.state.error.reason, run.state.error.task) == ("FIRST", "b")
    assert len(run.events) == 1


def test_a_cancelled_outcome_that_nobody_asked_for_is_a_failure() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b", after=("a",))]))
    run.apply(run.outcome("a", TaskStatus.CANCELLED))
    assert run.status("a") == "FAILED"
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert run.state.error.reason == "CANCELLED"


def test_run_if_failure_does_not_see_through_a_cancelled_dependency() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a"),
                Task(id="b", after=("a",)),
                Task(id="alarm", after=("b",), run_if=RunIf.FAILURE),
            ]
        )
    )
    run.fail("a")
    assert run.statuses() == {"a": "FAILED", "b": "CANCELLED", "alarm": "SKIPPED"}
    assert run.ended == "FAILED"
    run.check_replay()
