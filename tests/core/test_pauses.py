"""Pause: dispatch stops, what comes is stored, what becomes due waits, time does not count."""

import orjson
import pytest

from bend_server.core import machine
from bend_server.core.effects import TimerKind
from bend_server.core.model import EventKind, RunIf, TaskKind
from bend_server.core.plan import RetryPolicy
from tests.kit.expressions import Items, Verdict
from tests.kit.machine_run import Run
from tests.kit.plans import NOW_US, Task, chain, make_plan

SECOND = 1_000_000


def test_nothing_is_opened_and_outcomes_are_stored() -> None:
    run = Run(chain(3))
    assert run.pause("maintenance", "ada")
    assert [(c.status, c.pause_reason) for c in run.last.changes] == [(3, "maintenance")]
    assert (run.events[0].kind, run.events[0].actor) == (EventKind.PAUSED, "ada")
    assert orjson.loads(run.events[0].body) == {"reason": "maintenance", "open": [[0, -1]]}
    assert (run.ended, run.state.pause_reason) == ("PAUSED", "maintenance")
    assert run.complete("t0")
    assert run.statuses() == {"t0": "COMPLETED", "t1": "PENDING", "t2": "PENDING"}
    assert not run.last.ready
    run.check_replay()
    assert run.unpause("bob")
    assert run.events[1].actor == "bob"
    assert [ready.task for ready in run.last.ready] == [1]
    assert [(r.run, r.deadline_us) for r in run.last.reopens] == [(1, run.state.deadline_us)]
    assert run.ended == "RUNNING"
    run.check_replay()


def test_every_open_try_is_announced_again() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b"), Task(id="c", for_each=Items(3))]))
    run.complete("c", item=1)
    run.pause()
    run.crash()
    assert not run.last.ready, "a paused execution stays as it is"
    assert run.open() == ["a", "b"]
    assert run.open_items("c") == [0, 2], "which tries are open is in the row"
    run.unpause()
    announced = [(ready.task, ready.item) for ready in run.last.ready]
    assert announced == [(0, -1), (1, -1), (2, 0), (2, 2)]


def test_an_execution_that_is_paused_or_ends_cannot_be_paused() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b", after=("a",), run_if=RunIf.ALWAYS)]))
    assert not run.unpause()
    assert run.pause()
    assert not run.pause()
    run.unpause()
    run.fail("a")
    assert not run.pause()
    run.complete("b")
    assert not run.pause()
    assert not run.unpause()


def test_the_deadline_moves_by_the_pause() -> None:
    run = Run(make_plan([Task(id="a")], timeout_us=60 * SECOND))
    run.pass_time(50)
    run.pause()
    run.pass_time(600)
    assert run.ended == "PAUSED", "the deadline stands still"
    run.unpause()
    assert run.state.deadline_us == NOW_US + 660 * SECOND
    assert run.timers(TimerKind.EXECUTION) == [10 * SECOND]
    run.check_replay()
    run.crash()
    assert run.timers(TimerKind.EXECUTION) == [10 * SECOND]
    run.pass_time(10)
    run.pass_time(10)
    assert run.ended == "TIMED_OUT"


def test_an_execution_without_a_deadline_gets_none() -> None:
    plan = make_plan([Task(id="a")], timeout_us=0)
    run = Run(plan, Run(plan).row._replace(deadline_us=0))
    run.pause()
    run.unpause()
    assert run.state.deadline_us == 0
    assert not run.timers(TimerKind.EXECUTION)


def test_what_became_due_waits_for_the_end_of_the_pause() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a", retry=RetryPolicy(attempts_max=2)),
                Task(id="b", kind=TaskKind.WAIT),
                Task(id="c", kind=TaskKind.WAIT),
            ]
        )
    )
    run.fail("a", retryable=True)
    run.wait("b", seconds=5)
    run.wait("c", seconds=60)
    run.pause()
    run.pass_time(10)
    assert run.statuses() == {"a": "WAITING", "b": "WAITING", "c": "WAITING"}
    run.crash()
    run.unpause()
    assert run.statuses() == {"a": "SCHEDULED", "b": "COMPLETED", "c": "WAITING"}
    assert run.timers(TimerKind.WAKE) == [50 * SECOND]
    run.check_replay()


def test_a_signal_reaches_who_waits_even_in_a_pause() -> None:
    run = Run(make_plan([Task(id="a", kind=TaskKind.SIGNAL), Task(id="b", after=("a",))]))
    run.wait("a", name="go")
    run.pause()
    run.signal("go")
    assert run.statuses() == {"a": "COMPLETED", "b": "PENDING"}
    run.unpause()
    assert run.open() == ["b"]


def test_nothing_begins_to_wait_or_starts_a_child_in_a_pause() -> None:
    run = Run(make_plan([Task(id="a", kind=TaskKind.WAIT), Task(id="b", kind=TaskKind.WORKFLOW)]))
    run.pause()
    assert not run.wait("a", seconds=1)
    assert not run.child("b")
    run.unpause()
    assert run.wait("a", seconds=1)
    assert run.child("b")


def test_a_cancel_ends_a_paused_execution() -> None:
    run = Run(chain(2))
    run.pause()
    run.cancel()
    assert [change.status for change in run.last.changes] == [2]
    assert run.ended == "RUNNING"
    run.complete("t0")
    assert run.ended == "CANCELLED"
    run.check_replay()


def test_the_last_outcome_of_a_paused_execution_ends_it_after_the_pause() -> None:
    run = Run(chain(1))
    run.pause()
    run.complete("t0")
    assert run.ended == "PAUSED"
    run.crash()
    run.unpause()
    assert run.ended == "COMPLETED"
    run.check_replay()


def test_a_failure_in_a_pause_takes_its_course_after_it() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b", after=("a",))]))
    run.pause()
    run.fail("a", "HTTP_500")
    assert run.statuses() == {"a": "FAILED", "b": "PENDING"}
    assert run.ended == "PAUSED"
    run.unpause()
    assert run.ended == "FAILED"
    assert run.statuses() == {"a": "FAILED", "b": "CANCELLED"}
    run.check_replay()


def test_a_fan_goes_on_with_its_window_after_a_pause() -> None:
    run = Run(make_plan([Task(id="a", for_each=Items(4), parallel_max=2)]))
    run.pause()
    run.complete("a", item=0)
    run.complete("a", item=1)
    assert run.open_items("a") == []
    run.unpause()
    assert run.open_items("a") == [2, 3]
    run.check_replay()


def test_a_failed_fan_is_judged_before_what_waited_for_the_pause() -> None:
    """What comes after it must not run: its failure counts first."""
    run = Run(make_plan([Task(id="a", for_each=Items(1)), Task(id="b", after=("a",))]))
    run.pause()
    run.fail("a", item=0)
    run.unpause()
    assert run.statuses() == {"a": "FAILED", "b": "CANCELLED"}
    assert run.ended == "FAILED"


def failing(**more: object) -> Run:
    run = Run(
        make_plan([Task(id="a"), Task(id="b", after=("a",)), Task(id="c")], pause_on_failure=True)
    )
    run.fail("a", "HTTP_500")
    return run


def test_on_failure_pause_pauses_and_lets_running_tasks_end() -> None:
    run = failing()
    assert (run.ended, run.state.pause_reason) == ("PAUSED", "TASK_FAILED")
    assert [(c.status, c.pause_reason) for c in run.last.changes] == [(3, "TASK_FAILED")]
    assert run.events[0].task == 0
    assert not run.last.cancels
    run.complete("c")
    assert run.statuses() == {"a": "FAILED", "b": "PENDING", "c": "COMPLETED"}
    run.check_replay()
    run.crash()
    assert run.ended == "PAUSED"


def test_resuming_lets_the_failure_take_its_course() -> None:
    run = failing()
    run.unpause()
    assert run.statuses() == {"a": "FAILED", "b": "CANCELLED", "c": "SCHEDULED"}
    assert [cancel.task for cancel in run.last.cancels][-1:] == [2]
    run.complete("c")
    assert run.ended == "FAILED"
    run.check_replay()


def test_retry_does_the_failed_task_again_and_keeps_the_open_ones() -> None:
    run = failing()
    late = run.outcome("c")
    assert run.retry()
    assert (run.ended, run.state.run) == ("RUNNING", 2)
    assert sorted((r.task, r.try_) for r in run.last.ready) == [(0, 2), (2, 1)]
    assert orjson.loads(run.events[-1].body)["finish_seq"] == 0
    run.check_replay()
    assert run.apply(late)
    run.complete("a")
    run.complete("b")
    assert run.ended == "COMPLETED"
    run.check_replay()


def test_cancel_cancels_what_a_failure_paused() -> None:
    run = failing()
    run.cancel()
    run.complete("c")
    assert run.ended == "CANCELLED"


def test_a_pause_asked_for_becomes_one_of_the_failure_that_came_meanwhile() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b", after=("a",))], pause_on_failure=True))
    run.pause("lunch")
    run.fail("a")
    assert not run.retry(), "nobody knows yet that it failed"
    assert run.unpause()
    assert (run.ended, run.state.pause_reason) == ("PAUSED", "TASK_FAILED")
    assert [len(run.last.reopens), [c.pause_reason for c in run.last.changes]] == [
        1,
        ["TASK_FAILED"],
    ]
    run.check_replay()
    run.unpause()
    assert run.ended == "FAILED"


def test_a_condition_that_fails_pauses_before_anything_else_is_judged() -> None:
    tasks = [
        Task(id="a"),
        Task(id="b", after=("a",), condition=Verdict(None)),
        Task(id="c", after=("a",)),
    ]
    run = Run(make_plan(tasks, pause_on_failure=True))
    run.complete("a")
    assert run.statuses() == {"a": "COMPLETED", "b": "FAILED", "c": "PENDING"}
    assert run.ended == "PAUSED"
    run.check_replay()


@pytest.mark.parametrize("kind", [TaskKind.COMPONENT, TaskKind.SIGNAL])
def test_a_blob_that_is_loaded_in_a_pause_decides_nothing(kind: TaskKind) -> None:
    tasks = [Task(id="a"), Task(id="b", kind=kind, after=("a",), condition=Verdict(True, 0))]
    run = Run(make_plan(tasks))
    run.apply(run.outcome("a", blob="k"))
    (wait,) = run.last.blobs
    run.pause()
    assert not run.does(machine.blob_loaded, wait, b"1")
    run.unpause()
    (wait,) = run.last.blobs
    assert run.does(machine.blob_loaded, wait, b"1")
    assert run.open() == ["b"]
