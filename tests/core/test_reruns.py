"""Retry and reset: new runs of one execution."""

import orjson
import pytest

from bend_server.core import limits, machine
from bend_server.core.effects import TimerKind
from bend_server.core.errors import CorruptHistory
from bend_server.core.model import EventKind, Phase, RunIf, TaskKind
from bend_server.core.plan import RetryPolicy
from bend_server.core.scope import ExecutionScope
from tests.kit.expressions import Items, Verdict
from tests.kit.machine_run import Run
from tests.kit.plans import NOW_US, Task, chain, make_plan

SECOND = 1_000_000


def test_retry_opens_a_run_that_keeps_what_completed() -> None:
    run = Run(chain(3))
    run.complete("t0", b'"kept"')
    run.pass_time(100)
    run.fail("t1")
    assert run.ended == "FAILED"
    finish = run.finish
    assert finish is not None
    assert run.retry("fixed it", "bob")
    event = run.events[-1]
    assert (event.kind, event.run, event.actor, event.seq) == (
        EventKind.RETRIED,
        2,
        "bob",
        finish.seq + 1,
    )
    deadline_us = run.now_us + run.plan.timeout_us
    assert orjson.loads(event.body) == {
        "reason": "fixed it",
        "deadline_us": deadline_us,
        "finish_seq": finish.seq,
    }
    assert [tuple(row) for row in run.last.reopens] == [(run.row.id, 2, deadline_us)]
    assert run.timers(TimerKind.EXECUTION) == [run.plan.timeout_us]
    assert run.statuses() == {"t0": "COMPLETED", "t1": "SCHEDULED", "t2": "PENDING"}
    assert [(r.task, r.try_, r.attempt) for r in run.last.ready] == [(1, 2, 1)]
    assert (run.state.error, run.state.result) == (None, None)
    run.check_replay()
    run.crash()
    assert run.state.run == 2
    run.complete("t1")
    run.complete("t2")
    assert run.ended == "COMPLETED"
    assert run.finish is not None
    assert (run.finish.run, run.results[-1].run) == (2, 2)
    run.check_replay()


def test_the_start_row_may_carry_the_run_and_deadline_of_the_last_reopen() -> None:
    run = Run(chain(2))
    run.fail("t0")
    run.retry()
    (reopen,) = run.last.reopens
    run.row = run.row._replace(run=reopen.run, deadline_us=reopen.deadline_us)
    run.check_replay()


def test_a_late_result_of_the_run_before_counts_no_more() -> None:
    run = Run(chain(1))
    late = run.outcome("t0")
    run.cancel()
    run.pass_time(10)
    run.retry()
    assert not run.apply(late)
    assert run.open() == ["t0"]


def test_only_what_failed_or_was_cancelled_and_all_after_it_is_done_again() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a"),
                Task(id="b", after=("a",)),
                Task(id="never", after=("a",), run_if=RunIf.FAILURE),
                Task(id="alarm", after=("b",), run_if=RunIf.FAILURE),
                Task(id="after_alarm", after=("alarm",), run_if=RunIf.ALWAYS),
            ]
        )
    )
    run.complete("a")
    run.fail("b")
    run.complete("alarm")
    run.complete("after_alarm")
    assert run.ended == "FAILED"
    run.retry()
    assert run.statuses() == {
        "a": "COMPLETED",
        "b": "SCHEDULED",
        "never": "SKIPPED",
        "alarm": "PENDING",
        "after_alarm": "PENDING",
    }
    run.check_replay()
    run.complete("b")
    assert run.status("alarm") == "SKIPPED"
    run.complete("after_alarm")
    assert run.ended == "COMPLETED"


def test_an_allowed_failure_is_kept_with_what_came_of_it() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a", allow_failure=True),
                Task(id="b", after=("a",)),
                Task(id="c", after=("b",)),
            ]
        )
    )
    run.fail("a")
    run.complete("b")
    run.fail("c")
    run.retry()
    assert run.statuses() == {"a": "FAILED", "b": "COMPLETED", "c": "SCHEDULED"}


def test_a_retried_fan_out_does_only_what_did_not_complete() -> None:
    run = Run(make_plan([Task(id="a", for_each=Items(5), parallel_max=2)]))
    run.complete("a", b'"first run"', item=0)
    run.fail("a", item=1)
    run.complete("a", item=2)
    assert run.items("a") == ["COMPLETED", "FAILED", "COMPLETED", "PENDING", "PENDING"]
    run.retry()
    assert run.open_items("a") == [1, 3]
    assert [(r.item, r.try_) for r in run.last.ready] == [(1, 2), (3, 1)]
    assert orjson.loads(run.events[-1].body) == {"count": 5}
    run.check_replay()
    for item in (1, 3, 4):
        run.complete("a", item=item)
    assert run.state.result == b'{"a":["first run",1,1,1,1]}'
    run.check_replay()


def test_a_reset_fan_out_is_counted_anew_and_its_tries_count_on() -> None:
    run = Run(make_plan([Task(id="s"), Task(id="a", after=("s",), for_each=Items(2))]))
    run.complete("s")
    late = run.outcome("a", item=1)
    run.complete("a", item=0)
    run.complete("a", item=1)
    run.reset("s")
    assert run.statuses() == {"s": "SCHEDULED", "a": "PENDING"}
    assert not run.apply(late)
    run.check_replay()
    run.complete("s")
    assert [(r.item, r.try_, r.attempt) for r in run.last.ready] == [(0, 2, 1), (1, 2, 1)]
    assert not run.apply(late), "item 1 of the run before"
    run.check_replay()


def test_reset_does_one_task_and_all_after_it_again_whatever_they_were() -> None:
    run = Run(
        make_plan(
            [Task(id="a"), Task(id="b", after=("a",)), Task(id="c", after=("b",)), Task(id="d")]
        )
    )
    for task in "abcd":
        run.complete(task)
    assert run.ended == "COMPLETED"
    assert not run.retry(), "there is nothing to do again"
    assert run.reset("b", "other data", "bob")
    event = run.events[-1]
    assert (event.kind, event.task) == (EventKind.RESET, 1)
    assert orjson.loads(event.body)["task"] == "b"
    assert run.statuses() == {
        "a": "COMPLETED",
        "b": "SCHEDULED",
        "c": "PENDING",
        "d": "COMPLETED",
    }
    assert run.state.output(1) is None
    assert run.state.result is None
    run.check_replay()


def test_reset_does_failed_tasks_elsewhere_again_too() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b")]))
    run.complete("a")
    run.fail("b")
    run.reset("a")
    assert run.open() == ["a", "b"]


def test_retry_and_reset_refuse_what_runs_or_does_not_exist() -> None:
    run = Run(chain(2))
    assert not run.retry()
    assert not run.reset("t0")
    run.pause()
    assert not run.retry()
    run.cancel()
    run.complete("t0")
    for task in (-1, 2, 99):
        assert not run.does(machine.reset, task, "", "ada")
    assert run.retry()


def test_a_run_whose_output_could_not_be_made_can_be_retried() -> None:
    run = Run(make_plan([Task(id="a")]))
    run.apply(run.outcome("a", blob="k"))
    run.does(machine.blob_loaded, run.last.blobs[0], None)
    assert run.ended == "FAILED"
    run.retry()
    (wait,) = run.last.blobs
    run.does(machine.blob_loaded, wait, b"5")
    assert (run.ended, run.state.result) == ("COMPLETED", b'{"a":5}')
    run.check_replay()


def test_a_condition_that_has_a_row_is_not_asked_again_unless_its_task_is_done_again() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a", condition=Verdict(False)),
                Task(id="b"),
                Task(id="c", after=("b",), condition=Verdict(None)),
            ]
        )
    )
    run.complete("b")
    assert run.ended == "FAILED"
    run.retry()
    assert run.statuses() == {"a": "SKIPPED", "b": "COMPLETED", "c": "FAILED"}
    assert (run.ended, run.state.run) == ("FAILED", 2)
    run.check_replay()


def test_the_budget_of_a_retry_begins_with_the_run() -> None:
    retry = RetryPolicy(attempts_max=2, budget_us=5 * SECOND)
    run = Run(make_plan([Task(id="a", retry=retry)]))
    run.fail("a", retryable=True)
    run.pass_time(1)
    run.fail("a", retryable=True)
    run.pass_time(3600)
    run.retry()
    run.fail("a", retryable=True)
    assert run.status("a") == "WAITING"
    run.check_replay()


def test_a_new_run_runs_the_on_failure_tasks_anew() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="f", phase=Phase.ON_FAILURE)]))
    for number in (1, 2):
        run.fail("a")
        assert run.open() == ["f"]
        assert run.state.tries[1] == number
        run.complete("f")
        assert run.ended == "FAILED"
        run.check_replay()
        run.retry()
        assert run.statuses() == {"a": "SCHEDULED", "f": "PENDING"}


def test_kept_signals_live_on_in_a_new_run() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="s", after=("a",), kind=TaskKind.SIGNAL)]))
    run.signal("go", b'"early"')
    run.fail("a")
    run.retry()
    run.complete("a")
    run.wait("s", name="go")
    assert run.state.output(1) == b'"early"'


def test_the_facts_of_a_task_begin_anew() -> None:
    run = Run(chain(1))
    run.fail("t0")
    run.retry()
    own = ExecutionScope(run.state).own(0)
    assert (own["status"], own["error"], own["started_at"]) == ("scheduled", None, None)
    assert own["attempt"] == 1


def test_rows_of_a_run_that_was_left_out_are_named() -> None:
    run = Run(chain(1))
    for _ in range(2):
        run.fail("t0")
        run.retry()
    without = [event for event in run.events if event.run != 2]
    with pytest.raises(CorruptHistory):
        machine.fold(run.plan, run.row, run.results, without, None)
    wrong = [event._replace(run=7) if event.run == 2 else event for event in run.events]
    with pytest.raises(CorruptHistory, match="run 7"):
        machine.fold(run.plan, run.row, run.results, wrong, None)


def test_a_full_history_takes_no_new_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(chain(1))
    run.fail("t0")
    monkeypatch.setattr(limits, "HISTORY_ROWS_MAX", run.state.seq)
    assert not run.retry()
    assert not run.reset("t0")


def test_the_deadline_of_a_new_run_counts_from_its_begin() -> None:
    run = Run(make_plan([Task(id="a")], timeout_us=60 * SECOND))
    run.pass_time(60)
    run.pass_time(10)
    assert run.ended == "TIMED_OUT"
    run.retry()
    assert run.state.deadline_us == NOW_US + 130 * SECOND
    run.complete("a")
    assert run.ended == "COMPLETED"
