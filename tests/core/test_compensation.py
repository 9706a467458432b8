"""Compensation: what completed is undone, last first, when a run does not end well."""

from collections.abc import Sequence

import orjson
import pytest

from bend_server.core import machine
from bend_server.core.effects import Effects, TimerKind
from bend_server.core.model import EventKind, Failure, Phase, TaskStatus
from bend_server.core.plan import RepeatPlan, RetryPolicy, Scope
from bend_server.core.scope import unit_scope
from tests.kit.expressions import Items, Rounds, Verdict
from tests.kit.machine_run import Run
from tests.kit.plans import Task, make_plan

SECOND = 1_000_000


def undo(task: str, **more: object) -> Task:
    return Task(id=f"u{task}", undoes=task, phase=Phase.COMPENSATION, **more)  # type: ignore[arg-type]


def saga(*, undoes: Sequence[Task] = (), timeout_us: int = 3600 * SECOND) -> Run:
    """Return a run of a, b, c (one after the other), of which a and b can be undone."""
    tasks = [Task(id="a"), Task(id="b", after=("a",)), Task(id="c", after=("b",))]
    run = Run(make_plan([*tasks, *(undoes or (undo("a"), undo("b")))], timeout_us=timeout_us))
    run.complete("a", b'"A"')
    run.complete("b", b'"B"')
    return run


def test_what_completed_is_undone_in_reverse_order_one_after_the_other() -> None:
    run = saga()
    run.pass_time(10)
    run.fail("c", "HTTP_500")
    event = run.events[-1]
    assert event.kind == EventKind.COMPENSATING
    deadline_us = run.now_us + 3600 * SECOND
    assert orjson.loads(event.body) == {"deadline_us": deadline_us, "units": 2}
    assert [(r.run, r.deadline_us) for r in run.last.reopens] == [(1, deadline_us)]
    assert run.timers(TimerKind.EXECUTION) == [3600 * SECOND]
    assert (run.ended, run.state.compensated) == ("RUNNING", True)
    assert run.open() == ["ub"]
    run.check_replay()
    run.crash()
    assert [ready.task for ready in run.last.ready] == [4]
    run.complete("ub")
    assert run.open() == ["ua"]
    run.check_replay()
    run.complete("ua")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert (run.state.error.reason, run.state.error.task) == ("HTTP_500", "c")
    run.check_replay()


def test_the_order_is_that_of_completion_not_of_the_document() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b"), Task(id="c"), undo("a"), undo("b")]))
    run.complete("b")
    run.complete("a")
    run.fail("c")
    assert run.open() == ["ua"]
    run.complete("ua")
    assert run.open() == ["ub"]


def test_a_run_that_completes_undoes_nothing() -> None:
    run = saga()
    run.complete("c")
    assert run.ended == "COMPLETED"
    assert run.statuses()["ua"] == "PENDING"
    assert not run.events


def test_a_run_with_nothing_to_undo_ends_as_before() -> None:
    run = Run(make_plan([Task(id="a"), undo("a")]))
    run.fail("a")
    assert run.ended == "FAILED"
    assert not run.state.compensated
    assert run.retry()


@pytest.mark.parametrize(("end", "status"), [("cancel", "CANCELLED"), ("timeout", "TIMED_OUT")])
def test_a_cancel_and_a_timeout_compensate_too(end: str, status: str) -> None:
    run = saga(timeout_us=60 * SECOND)
    if end == "cancel":
        run.cancel("stop it")
        run.complete("c")
    else:
        run.pass_time(60)
        run.pass_time(10)
    assert run.open() == ["ub"]
    run.complete("ub")
    run.complete("ua")
    assert run.ended == status
    assert run.status("c") == ("COMPLETED" if end == "cancel" else "CANCELLED")
    run.check_replay()


def test_an_output_that_cannot_be_made_compensates() -> None:
    run = saga()
    run.apply(run.outcome("c", blob="k"))
    run.does(machine.blob_loaded, run.last.blobs[0], None)
    assert [event.kind for event in run.events] == [EventKind.FAILING, EventKind.COMPENSATING]
    assert run.events[0].task == -1
    assert run.open() == ["ub"]
    run.check_replay()


def test_each_compensation_has_its_own_retries_and_a_failure_does_not_stop_the_others() -> None:
    run = saga(undoes=(undo("a"), undo("b", retry=RetryPolicy(attempts_max=2))))
    run.fail("c", "HTTP_500")
    run.fail("ub", "DOWN", retryable=True)
    assert run.status("ub") == "WAITING"
    assert not run.open()
    run.crash()
    run.pass_time(1)
    assert run.open() == ["ub"]
    run.fail("ub", "DOWN", retryable=True)
    assert run.open() == ["ua"]
    run.complete("ua")
    assert run.ended == "FAILED"
    error = run.state.error
    assert error is not None
    assert (error.reason, error.task) == ("COMPENSATION_FAILED", "b")
    details = orjson.loads(error.details)
    assert (details["not_undone"], details["count"]) == ([{"task": "b"}], 1)
    assert details["status"] == "FAILED"
    assert details["error"]["reason"] == "HTTP_500"
    run.check_replay()


def test_what_could_not_be_undone_makes_a_cancelled_run_failed() -> None:
    run = saga()
    run.cancel()
    run.complete("c")
    run.fail("ub")
    run.fail("ua")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    details = orjson.loads(run.state.error.details)
    assert [unit["task"] for unit in details["not_undone"]] == ["b", "a"]
    assert details["status"] == "CANCELLED"


def test_an_allowed_failure_of_a_compensation_is_no_failure() -> None:
    run = saga(undoes=(undo("b", allow_failure=True),))
    run.fail("c", "HTTP_500")
    run.fail("ub")
    assert run.state.error is not None
    assert run.state.error.reason == "HTTP_500"


def test_completed_items_are_undone_one_by_one_and_see_their_own_output() -> None:
    seen: list[tuple[object, ...]] = []

    def look(scope: Scope) -> bool:
        seen.append((scope.item, scope.index, scope.output(0), scope.own(0)["status"]))
        return True

    run = Run(make_plan([Task(id="a", for_each=Items(3)), Task(id="b"), undo("a", condition=look)]))
    run.complete("a", b'"two"', item=2)
    run.complete("a", b'"zero"', item=0)
    run.fail("a", item=1)
    run.complete("b")
    assert run.open_items("ua") == [0]
    run.check_replay()
    run.crash()
    assert [(ready.task, ready.item) for ready in run.last.ready] == [(2, 0)]
    run.complete("ua", item=0)
    run.complete("ua", item=2)
    assert run.ended == "FAILED"
    once = [(b"0", 0, b'"zero"', "completed"), (b"2", 2, b'"two"', "completed")]
    assert list(dict.fromkeys(seen)) == once
    run.check_replay()


def test_a_compensation_of_an_item_renders_with_it() -> None:
    run = Run(make_plan([Task(id="a", for_each=Items(2)), Task(id="b"), undo("a")]))
    run.apply(run.outcome("a", item=1, blob="k/1"))
    run.fail("b")
    run.complete("a", item=0)
    scope = unit_scope(run.state, 2, 0)
    assert (scope.item, scope.output(0)) == (b"0", b"1")
    scope = unit_scope(run.state, 2, 1)
    assert scope.blob(0) == ("k/1", 0)


def test_a_condition_of_a_compensation_that_needs_a_blob_waits_for_it() -> None:
    run = Run(
        make_plan([Task(id="a"), Task(id="b"), undo("a", condition=lambda s: bool(s.output(0)))])
    )
    run.apply(run.outcome("a", blob="k"))
    run.fail("b")
    (wait,) = run.last.blobs
    assert (wait.task, wait.source, wait.key) == (2, 0, "k")
    run.crash()
    (wait,) = run.last.blobs
    assert run.does(machine.blob_loaded, wait, b"5")
    assert run.open() == ["ua"]
    assert not run.does(machine.blob_loaded, wait, b"5")


def test_a_blob_that_is_gone_fails_the_compensation() -> None:
    run = Run(
        make_plan([Task(id="a"), Task(id="b"), undo("a", condition=lambda s: bool(s.output(0)))])
    )
    run.apply(run.outcome("a", blob="k"))
    run.fail("b")
    run.does(machine.blob_loaded, run.last.blobs[0], None)
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert run.state.error.reason == "COMPENSATION_FAILED"
    run.check_replay()


@pytest.mark.parametrize(("answer", "reason"), [(False, "X"), (None, "COMPENSATION_FAILED")])
def test_a_compensation_has_a_condition(answer: bool | None, reason: str) -> None:
    run = saga(undoes=(undo("a"), undo("b", condition=Verdict(answer))))
    run.fail("c", "X")
    assert run.status("ub") == ("SKIPPED" if answer is False else "FAILED")
    run.complete("ua")
    assert run.state.error is not None
    assert run.state.error.reason == reason


def test_a_loop_is_undone_once_if_it_completed() -> None:
    task = Task(id="a", repeat=RepeatPlan(Rounds(3), 9, 0))
    run = Run(make_plan([task, Task(id="b"), undo("a")]))
    for _ in range(3):
        run.complete("a")
    run.fail("b")
    run.complete("ua")
    assert run.ended == "FAILED"
    assert sum(row.task == 2 for row in run.results) == 1
    run = Run(make_plan([task, Task(id="b"), undo("a")]))
    run.complete("a")
    run.cancel()
    run.complete("a")
    run.complete("b")
    assert run.ended == "CANCELLED"
    assert not run.state.compensated


def test_a_cancel_while_compensating_is_noted_once_and_changes_nothing() -> None:
    run = saga()
    run.fail("c", "HTTP_500")
    assert run.cancel("please")
    assert run.events[-1].kind == EventKind.CANCEL_REQUESTED
    assert not run.last.cancels
    assert not run.cancel()
    run.crash()
    assert not run.cancel()
    assert run.open() == ["ub"]
    run.complete("ub")
    run.complete("ua")
    assert run.ended == "FAILED"
    run.check_replay()


def test_a_cancelled_run_that_compensates_takes_no_second_cancel() -> None:
    run = saga()
    run.cancel()
    run.complete("c")
    assert not run.cancel()
    assert run.open() == ["ub"]


def test_the_deadline_of_the_compensation_cuts_it_short() -> None:
    run = saga(timeout_us=60 * SECOND)
    run.fail("c", "HTTP_500")
    run.pass_time(60)
    assert run.events[-1].kind == EventKind.EXECUTION_TIMED_OUT
    assert [cancel.task for cancel in run.last.cancels] == [4]
    assert run.timers(TimerKind.GRACE) == [10 * SECOND]
    run.check_replay()
    run.crash()
    assert [cancel.task for cancel in run.last.cancels] == [4]
    run.pass_time(10)
    assert run.statuses() == {
        "a": "COMPLETED",
        "b": "COMPLETED",
        "c": "FAILED",
        "ua": "PENDING",
        "ub": "CANCELLED",
    }
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert orjson.loads(run.state.error.details)["count"] == 2
    run.check_replay()


def test_a_compensation_that_ends_in_its_grace_counts() -> None:
    run = saga(timeout_us=60 * SECOND)
    run.fail("c")
    run.pass_time(60)
    run.complete("ub")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert orjson.loads(run.state.error.details)["not_undone"] == [{"task": "a"}]


def test_a_backoff_of_a_compensation_ends_with_its_deadline() -> None:
    retry = RetryPolicy(attempts_max=2, initial_us=600 * SECOND, max_us=600 * SECOND)
    run = saga(undoes=(undo("b", retry=retry),), timeout_us=60 * SECOND)
    run.fail("c")
    run.fail("ub", retryable=True)
    run.pass_time(60)
    assert run.status("ub") == "CANCELLED"
    assert run.ended == "FAILED"
    run.check_replay()


def test_a_compensated_run_allows_no_new_run() -> None:
    run = saga()
    run.fail("c")
    run.complete("ub")
    run.complete("ua")
    assert not run.retry()
    assert not run.reset("a")
    run.crash()
    assert not run.retry()


def test_a_reset_task_is_undone_for_its_last_completion_only() -> None:
    run = saga()
    run.complete("c")
    run.reset("b")
    assert run.state.control is not None
    assert [(task, item) for _, task, item in run.state.control.undo] == [(0, -1)]
    run.complete("b")
    run.fail("c")
    assert run.open() == ["ub"]
    run.complete("ub")
    run.complete("ua")
    assert run.ended == "FAILED"
    run.check_replay()


def test_a_late_result_of_a_compensation_counts_once() -> None:
    run = saga()
    early = Effects()
    wrong = run.outcome("ub", try_=1)
    assert not machine.apply(run.state, wrong, run.now_us, run.chance, early)
    run.fail("c")
    late = run.outcome("ub")
    assert run.apply(late)
    assert not run.apply(late)
    future = run.outcome("ua", TaskStatus.FAILED, failure=Failure("X"))._replace(try_=2)
    assert not run.apply(future)


def test_a_quarantined_execution_is_not_compensated() -> None:
    run = saga()
    run.does(machine.quarantine, "INTERNAL")
    run.cancel()
    assert run.ended == "CANCELLED"
    assert not run.state.compensated


def test_a_cancel_in_quarantine_ends_the_compensation() -> None:
    run = saga()
    run.fail("c")
    run.does(machine.quarantine, "INTERNAL")
    assert run.cancel()
    assert run.ended == "FAILED"
    assert run.status("ub") == "CANCELLED"
    assert run.state.error is not None
    assert run.state.error.reason == "COMPENSATION_FAILED"
    run.check_replay()
