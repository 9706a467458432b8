"""Limits of one execution's history, and shapes that must not blow the machine up."""

import pytest

from bend_server.core import limits
from bend_server.core.model import EventKind, Phase, RunIf, TaskKind
from bend_server.core.plan import RepeatPlan, RetryPolicy
from bend_server.core.waits import SignalTaken
from tests.kit.expressions import Items, Rounds
from tests.kit.machine_run import Run
from tests.kit.plans import Task, chain, make_plan

ENDLESS = RepeatPlan(Rounds(10**9), 10**9, 0)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HISTORY_ROWS_MAX", 10)


def test_the_history_has_a_bound() -> None:
    assert limits.HISTORY_ROWS_MAX == 100_000


@pytest.mark.usefixtures("short")
def test_a_loop_that_fills_the_history_fails_the_execution() -> None:
    run = Run(make_plan([Task(id="a", repeat=ENDLESS), Task(id="b", after=("a",))]))
    for _ in range(10):
        run.complete("a")
    assert run.events[-1].kind == EventKind.FAILING
    assert run.events[-1].task == -1
    assert run.status("b") == "CANCELLED"
    run.check_replay()
    run.complete("a")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert (run.state.error.reason, run.state.error.task) == ("HISTORY_TOO_LONG", "")
    assert run.state.seq < 16
    run.check_replay()


@pytest.mark.usefixtures("short")
def test_items_that_fill_the_history_fail_the_execution() -> None:
    run = Run(make_plan([Task(id="a", for_each=Items(30), parallel_max=2)]))
    for item in range(9):
        run.complete("a", item=item)
    assert run.state.ending
    assert [cancel.item for cancel in run.last.cancels] == [9, 10]
    for item in (9, 10):
        run.complete("a", item=item)
    assert run.ended == "FAILED"
    run.check_replay()


@pytest.mark.usefixtures("short")
def test_signals_that_fill_the_history_fail_the_execution() -> None:
    run = Run(make_plan([Task(id="a", kind=TaskKind.SIGNAL)]))
    taken = [run.signal("x") for _ in range(12)]
    assert taken == [SignalTaken.KEPT] * 10 + [SignalTaken.ENDED] * 2
    assert run.ended == "FAILED"


@pytest.mark.usefixtures("short")
def test_nothing_is_retried_or_repeated_once_the_history_is_full() -> None:
    tasks = [
        Task(id="a", repeat=ENDLESS),
        Task(id="f", phase=Phase.ON_FAILURE, retry=RetryPolicy(attempts_max=99)),
        Task(id="g", phase=Phase.ON_FAILURE, repeat=ENDLESS),
    ]
    run = Run(make_plan(tasks))
    for _ in range(11):
        run.complete("a")
    assert run.open() == ["f", "g"]
    run.fail("f", retryable=True)
    assert run.status("f") == "FAILED"
    run.complete("g")
    assert run.status("g") == "COMPLETED"
    assert run.ended == "FAILED"
    run.check_replay()


@pytest.mark.usefixtures("short")
def test_a_backoff_that_fills_the_history_fails_the_execution() -> None:
    retry = RetryPolicy(attempts_max=99, max_us=1_000_000)
    run = Run(make_plan([Task(id="a", retry=retry), Task(id="b")]))
    for _ in range(10):
        run.fail("a", retryable=True)
        run.pass_time(1)
    assert run.status("a") == "CANCELLED"
    assert [run.state.error is not None, run.status("b")] == [True, "SCHEDULED"]


@pytest.mark.usefixtures("short")
def test_a_full_history_that_completes_all_the_same_completes() -> None:
    run = Run(chain(10))
    for task in range(10):
        run.complete(f"t{task}")
    assert run.ended == "COMPLETED"


def test_rounds_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.ROUNDS_MAX == 10_000
    monkeypatch.setattr(limits, "ROUNDS_MAX", 3)
    run = Run(make_plan([Task(id="a", repeat=ENDLESS)]))
    for _ in range(3):
        run.complete("a")
    assert run.ended == "COMPLETED"


def test_a_chain_of_5000_with_control_flow_runs_fails_retries_and_is_undone() -> None:
    """Recursion anywhere would overflow the stack; a scan of all tasks per result would crawl."""
    size = 5000
    tasks = [Task(id=f"t{i}", after=(f"t{i - 1}",) if i else ()) for i in range(size)]
    undoes = [Task(id=f"u{i}", undoes=f"t{i}", phase=Phase.COMPENSATION) for i in range(0, size, 2)]
    last = Task(id="last", after=(f"t{size - 1}",), run_if=RunIf.SUCCESS)
    run = Run(make_plan([*tasks, last, *undoes]))
    for task in range(size):
        run.complete(f"t{task}")
    run.fail("last")
    for task in reversed(range(0, size, 2)):
        assert run.complete(f"u{task}")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert run.state.error.task == "last"
    run.check_replay()


def test_a_chain_of_5000_is_cancelled_and_reset_in_one_go() -> None:
    run = Run(chain(5000))
    run.complete("t0")
    run.cancel()
    run.complete("t1")
    assert run.ended == "CANCELLED"
    assert run.reset("t0")
    assert run.open() == ["t0"]
    run.check_replay()
