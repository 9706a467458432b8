"""Sub-workflows: a unit and the child that serves it."""

import orjson
import pytest

from bend_server.core import machine
from bend_server.core.model import EventKind, Failure, TaskKind, TaskStatus
from bend_server.core.plan import RetryPolicy
from tests.kit.expressions import Items
from tests.kit.machine_run import Run
from tests.kit.plans import Task, make_plan


def parent(**more: object) -> Run:
    task = Task(id="a", kind=TaskKind.WORKFLOW, **more)  # type: ignore[arg-type]
    return Run(make_plan([task, Task(id="b", after=("a",))]))


def child_of(run: Run, item: int = -1) -> tuple[int, int] | None:
    child = run.state.child(0, item)
    return None if child is None else (child.id, child.run)


def test_a_child_is_a_row_and_the_unit_runs() -> None:
    run = parent()
    assert run.child("a", 41)
    (event,) = run.events
    assert (event.kind, event.task) == (EventKind.CHILD_STARTED, 0)
    assert orjson.loads(event.body) == {"child": 41, "public_id": "c-41", "try": 1, "run": 1}
    assert run.status("a") == "RUNNING"
    assert not run.child("a", 41), "known"
    assert not run.child("b", 41), "not open, and no workflow"
    run.check_replay()
    run.crash()
    assert run.status("a") == "RUNNING"
    assert [(r.task, r.try_) for r in run.last.ready] == [(0, 1)], "the engine asks for its status"
    assert child_of(run) == (41, 1)
    run.complete("a", b'{"from":"child"}')
    assert run.state.output(0) == b'{"from":"child"}'
    assert child_of(run) is None
    run.check_replay()


@pytest.mark.parametrize("reason", ["CHILD_FAILED", "CHILD_CANCELLED", "CHILD_TIMED_OUT"])
def test_a_childs_failure_is_not_retried_unless_named(reason: str) -> None:
    failure = Failure(reason, "the child failed", retryable=True, details=b'{"reason":"HTTP_500"}')
    for on, status in ((frozenset[str](), "FAILED"), (frozenset((reason,)), "WAITING")):
        run = parent(retry=RetryPolicy(attempts_max=2, on=on))
        run.child("a")
        run.apply(run.outcome("a", TaskStatus.FAILED, failure=failure))
        assert run.status("a") == status
        run.check_replay()


def test_another_attempt_starts_another_child() -> None:
    run = parent(retry=RetryPolicy(attempts_max=2, on=frozenset(("CHILD_FAILED",))))
    run.child("a", 41)
    run.fail("a", "CHILD_FAILED")
    assert child_of(run) is None
    run.pass_time(1)
    assert [(r.task, r.try_) for r in run.last.ready] == [(0, 2)]
    assert run.child("a", 42)


def test_a_cancel_goes_to_the_child_and_its_unit_waits_for_it() -> None:
    run = parent()
    run.child("a", 41)
    run.cancel("enough")
    (wish,) = run.last.children
    assert (wish.verb, wish.child, wish.task, wish.item, wish.try_) == ("cancel", 41, 0, -1, 1)
    assert wish.reason == "enough"
    assert not run.last.cancels
    run.crash()
    assert [one.verb for one in run.last.children] == ["cancel"], "asked again"
    run.pass_time(60)
    assert run.status("a") == "RUNNING", "a child has a grace and compensations of its own"
    run.apply(run.outcome("a", TaskStatus.CANCELLED))
    assert run.ended == "CANCELLED"
    run.check_replay()


def test_a_child_that_has_not_begun_is_cancelled_without_asking() -> None:
    run = parent()
    run.cancel()
    assert run.ended == "CANCELLED"
    assert not run.last.children
    assert not run.child("a")


def test_a_failure_beside_it_stops_a_child() -> None:
    run = Run(make_plan([Task(id="a", kind=TaskKind.WORKFLOW), Task(id="c")]))
    run.child("a")
    run.fail("c")
    assert [wish.verb for wish in run.last.children] == ["cancel"]


def test_a_retry_asks_the_failed_child_to_retry() -> None:
    run = parent()
    run.child("a", 41)
    run.fail("a", "CHILD_FAILED")
    assert run.ended == "FAILED"
    assert run.retry()
    assert not run.last.ready
    (wish,) = run.last.children
    assert (wish.verb, wish.child, wish.try_) == ("retry", 41, 2)
    assert run.status("a") == "RUNNING"
    assert child_of(run) == (41, 2), "the run that the child should be in"
    assert orjson.loads(run.events[-1].body)["run"] == 2
    run.check_replay()
    run.crash()
    assert child_of(run) == (41, 2)
    assert [(r.task, r.try_) for r in run.last.ready] == [(0, 2)]
    run.complete("a")
    assert run.open() == ["b"]


def test_a_child_that_cannot_be_retried_is_replaced() -> None:
    run = parent()
    run.child("a", 41)
    run.fail("a", "CHILD_FAILED")
    run.retry()
    assert run.child("a", 42)
    assert child_of(run) == (42, 1)
    run.check_replay()


def test_a_reset_starts_a_new_child() -> None:
    run = parent()
    run.child("a", 41)
    run.fail("a", "CHILD_FAILED")
    run.reset("a")
    assert child_of(run) is None
    assert [(r.task, r.try_) for r in run.last.ready] == [(0, 2)]
    assert not run.last.children


def test_a_fan_out_of_children_retries_only_those_that_failed() -> None:
    run = parent(for_each=Items(3))
    for item in range(3):
        run.child("a", 40 + item, item=item)
    run.complete("a", item=0)
    run.fail("a", "CHILD_FAILED", item=1)
    run.complete("a", item=2)
    assert run.ended == "FAILED"
    run.retry()
    assert [(w.verb, w.child, w.item) for w in run.last.children] == [("retry", 41, 1)]
    assert run.items("a") == ["COMPLETED", "RUNNING", "COMPLETED"]
    run.check_replay()


def test_a_quarantined_parent_leaves_no_child_behind() -> None:
    run = parent()
    run.child("a", 41)
    run.does(machine.quarantine, "INTERNAL")
    run.cancel()
    assert [(wish.verb, wish.child) for wish in run.last.children] == [("cancel", 41)]
    assert run.ended == "CANCELLED"
