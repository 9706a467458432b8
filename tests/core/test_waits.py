"""Waits, signals and approvals."""

import orjson
import pytest

from bend_server.core import limits, machine
from bend_server.core.effects import TimerKind
from bend_server.core.model import EventKind, RunIf, TaskKind
from bend_server.core.plan import RetryPolicy
from bend_server.core.waits import SignalTaken
from tests.kit.expressions import Items
from tests.kit.machine_run import Run
from tests.kit.plans import NOW_US, Task, make_plan

SECOND = 1_000_000
TIMEOUTS = RetryPolicy(attempts_max=2, on=frozenset(("SIGNAL_TIMEOUT",)))


def waiting(kind: TaskKind, **more: object) -> Run:
    task = Task(id="a", kind=kind, **more)  # type: ignore[arg-type]
    return Run(make_plan([task, Task(id="b", after=("a",))]))


def test_a_wait_is_a_row_and_a_timer_and_completes_with_null() -> None:
    run = waiting(TaskKind.WAIT)
    assert [ready.task for ready in run.last.ready] == [0]
    assert run.wait("a", seconds=60)
    (event,) = run.events
    assert event.kind == EventKind.WAITING
    assert orjson.loads(event.body) == {
        "kind": 2,
        "due_us": NOW_US + 60 * SECOND,
        "name": "",
        "title": "",
        "try": 1,
    }
    assert run.status("a") == "WAITING"
    assert run.timers(TimerKind.WAKE) == [60 * SECOND]
    assert run.state.open_try(0) == 1
    assert not run.wait("a", seconds=60), "it waits already"
    run.check_replay()
    run.crash()
    assert run.timers(TimerKind.WAKE) == [60 * SECOND]
    assert not run.last.ready
    run.pass_time(59)
    assert run.status("a") == "WAITING"
    run.pass_time(1)
    assert run.state.output(0) == b"null"
    assert run.results[0].started_us == NOW_US
    assert run.open() == ["b"]
    run.check_replay()


def test_a_wait_whose_time_came_while_nobody_looked_ends_with_the_recovery() -> None:
    run = waiting(TaskKind.WAIT)
    run.wait("a", seconds=60)
    run.now_us += 100 * SECOND
    run.crash()
    assert run.status("a") == "COMPLETED"
    assert run.open() == ["b"]


def test_wait_due_refuses_early_late_and_foreign_calls() -> None:
    run = waiting(TaskKind.WAIT)
    run.wait("a", seconds=60)
    for try_, task, item in ((2, 0, -1), (1, 1, -1), (1, 0, 3), (1, 77, -1)):
        assert not run.does(machine.wait_due, task, item, try_)
    assert not run.does(machine.wait_due, 0, -1, 1), "early"
    run.pass_time(60)
    assert not run.does(machine.wait_due, 0, -1, 1)


def test_a_signal_completes_the_unit_that_waits_for_it() -> None:
    run = waiting(TaskKind.SIGNAL)
    run.wait("a", name="go")
    assert not run.timers(TimerKind.WAKE)
    assert run.signal("other") == SignalTaken.KEPT
    assert run.signal("go", b'{"n":12345678901234567890123}') == SignalTaken.DELIVERED
    assert [row.seq for row in run.results] == [run.events[-1].seq + 1], "in the same commit"
    assert run.events[-1].actor == "ada"
    assert run.state.output(0) == b'{"n":12345678901234567890123}', "digits are kept"
    run.check_replay()


def test_a_signal_before_the_wait_is_kept_over_a_crash() -> None:
    run = waiting(TaskKind.SIGNAL)
    run.signal("go", b"1")
    run.signal("go", b"2")
    run.crash()
    assert run.wait("a", name="go")
    assert run.state.output(0) == b"1", "first in, first out"
    assert run.status("a") == "COMPLETED"
    assert run.open() == ["b"]
    run.check_replay()
    assert run.state.control is not None
    assert run.state.control.signals_kept == 1


def test_the_unit_that_waits_longest_gets_the_signal() -> None:
    task = Task(id="a", kind=TaskKind.SIGNAL, for_each=Items(3))
    run = Run(make_plan([task]))
    for item in (2, 0, 1):
        run.wait("a", item=item, name="go")
    run.crash()
    for expected in (2, 0, 1):
        run.signal("go")
        assert run.results[-1].item == expected or run.results[-2].item == expected
    assert run.ended == "COMPLETED"


def test_at_most_1000_signals_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.SIGNALS_BUFFERED_MAX == 1000
    monkeypatch.setattr(limits, "SIGNALS_BUFFERED_MAX", 3)
    run = waiting(TaskKind.SIGNAL)
    assert [run.signal(name) for name in "abc"] == [SignalTaken.KEPT] * 3
    seq = run.state.seq
    assert run.signal("d") == SignalTaken.FULL
    assert run.state.seq == seq
    run.wait("a", name="a")
    assert run.signal("d") == SignalTaken.KEPT
    run.complete("b")
    assert run.signal("d") == SignalTaken.ENDED


def test_a_full_buffer_still_delivers_to_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIGNALS_BUFFERED_MAX", 1)
    run = waiting(TaskKind.SIGNAL)
    run.wait("a", name="go")
    run.signal("other")
    assert run.signal("go") == SignalTaken.DELIVERED


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(TaskKind.SIGNAL, "SIGNAL_TIMEOUT"), (TaskKind.APPROVAL, "APPROVAL_TIMEOUT")],
)
def test_a_timeout_of_a_wait_counts_as_a_failure_and_is_not_retried(
    kind: TaskKind, reason: str
) -> None:
    run = waiting(kind, retry=RetryPolicy(attempts_max=5))
    run.wait("a", name="go", seconds=5)
    run.pass_time(5)
    assert run.status("a") == "TIMED_OUT"
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert run.state.error.reason == reason
    run.check_replay()


def test_a_timeout_that_retry_on_names_is_retried() -> None:
    run = waiting(TaskKind.SIGNAL, retry=TIMEOUTS)
    run.wait("a", name="go", seconds=5)
    run.pass_time(5)
    assert run.status("a") == "WAITING"
    assert run.state.waiting(0) is None, "this is a backoff"
    assert run.signal("go") == SignalTaken.KEPT
    run.pass_time(1)
    assert [(ready.try_, ready.attempt) for ready in run.last.ready] == [(2, 2)]
    run.wait("a", name="go", seconds=5)
    assert run.status("a") == "COMPLETED"
    run.check_replay()


def test_an_approval_has_a_row_of_its_own_and_a_decision_names_who() -> None:
    run = waiting(TaskKind.APPROVAL)
    run.wait("a", seconds=60, title="Block it?", assignees=b'["bob"]', form=b"{}")
    (row,) = run.last.approvals
    assert (row.task_id, row.title, row.assignees) == ("a", "Block it?", b'["bob"]')
    assert row.expires_us == NOW_US + 60 * SECOND
    assert run.decide("a", approved=True)
    (end,) = run.last.approval_ends
    assert (end.status, end.decided_by, end.comment, end.try_) == (2, "bob", "fine", 1)
    event = run.events[-1]
    assert (event.kind, event.actor) == (EventKind.DECIDED, "bob")
    assert orjson.loads(event.body) == {"approved": True, "comment": "fine", "data": {"n": 1}}
    output = run.state.output(0)
    assert isinstance(output, bytes)
    assert orjson.loads(output) == {
        "approved": True,
        "comment": "fine",
        "data": {"n": 1},
        "decided_by": "bob",
        "decided_at": "2025-06-15T15:06:40Z",
    }
    assert not run.decide("a", approved=False)
    run.check_replay()


def test_a_no_completes_the_task_too() -> None:
    run = waiting(TaskKind.APPROVAL)
    run.wait("a")
    assert run.decide("a", approved=False)
    assert run.last.approval_ends[0].status == 3
    assert run.statuses() == {"a": "COMPLETED", "b": "SCHEDULED"}


def test_an_approval_that_nobody_needs_any_more_is_closed() -> None:
    for end in ("cancel", "timeout"):
        run = waiting(TaskKind.APPROVAL)
        run.wait("a", seconds=60)
        if end == "cancel":
            run.cancel()
            assert run.ended == "CANCELLED", "nobody works for it: there is no grace"
        else:
            run.pass_time(60)
        assert [(e.status, e.decided_by) for e in run.last.approval_ends] == [(4, "")]
        assert not run.decide("a", approved=True)


def test_a_cancel_ends_waits_at_once() -> None:
    run = waiting(TaskKind.SIGNAL)
    run.wait("a", name="go")
    run.cancel()
    assert run.statuses() == {"a": "CANCELLED", "b": "CANCELLED"}
    assert run.ended == "CANCELLED"
    assert not run.last.cancels
    run.check_replay()


def test_nothing_begins_to_wait_once_it_is_asked_to_stop() -> None:
    run = Run(make_plan([Task(id="a", kind=TaskKind.WAIT), Task(id="b")]))
    run.fail("b")
    assert run.status("a") == "CANCELLED"
    assert not run.wait("a", seconds=1)


def test_a_task_with_run_if_always_waits_while_the_execution_fails() -> None:
    run = Run(
        make_plan(
            [Task(id="b"), Task(id="a", after=("b",), kind=TaskKind.SIGNAL, run_if=RunIf.ALWAYS)]
        )
    )
    run.fail("b")
    run.wait("a", name="go")
    run.crash()
    run.signal("go")
    assert run.ended == "FAILED"
    assert run.status("a") == "COMPLETED"


def test_a_quarantined_execution_takes_no_signal() -> None:
    run = waiting(TaskKind.SIGNAL)
    run.wait("a", name="go")
    run.does(machine.quarantine, "INTERNAL")
    assert run.signal("go") == SignalTaken.ENDED
    assert not run.decide("a", approved=True)
