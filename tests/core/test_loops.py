"""repeat: rounds over one unit."""

import orjson
import pytest

from bend_server.core import machine
from bend_server.core.effects import TimerKind
from bend_server.core.model import EventKind, TaskStatus
from bend_server.core.plan import NeedsBlob, RepeatPlan, RetryPolicy, Scope
from bend_server.core.scope import unit_scope
from tests.kit.expressions import Items, Rounds
from tests.kit.machine_run import Run
from tests.kit.plans import Task, make_plan

SECOND = 1_000_000


def loop(
    rounds: int, rounds_max: int = 10, delay_us: int = 0, *, broken: bool = False, **more: object
) -> Run:
    repeat = RepeatPlan(Rounds(rounds, broken=broken), rounds_max, delay_us)
    task = Task(id="a", repeat=repeat, **more)  # type: ignore[arg-type]
    return Run(make_plan([task, Task(id="b", after=("a",))]))


def test_a_round_is_a_row_and_the_next_one_opens() -> None:
    run = loop(3)
    run.complete("a", b"10")
    (row,) = run.results
    assert (row.status, row.iteration, row.attempt) == (TaskStatus.COMPLETED, 0, 1)
    assert row.retry_at_us == run.now_us
    assert [(r.try_, r.attempt, r.iteration) for r in run.last.ready] == [(2, 1, 1)]
    run.check_replay()
    run.complete("a", b"20")
    run.complete("a", b"30")
    assert [row.iteration for row in run.results] == [0, 1, 2]
    assert run.results[-1].retry_at_us is None
    assert run.state.output(0) == b"30"
    assert run.open() == ["b"]
    run.check_replay()


def test_a_delay_lies_between_the_rounds() -> None:
    run = loop(2, delay_us=5 * SECOND)
    run.complete("a")
    assert run.status("a") == "WAITING"
    assert run.timers(TimerKind.RETRY) == [5 * SECOND]
    assert list(run.state.dues()) == [(run.now_us + 5 * SECOND, 0, -1)]
    run.crash()
    assert run.timers(TimerKind.RETRY) == [5 * SECOND]
    run.pass_time(5)
    assert run.open() == ["a"]
    assert run.state.iteration(0) == 1


def test_the_expression_sees_the_round_and_its_output() -> None:
    seen: list[tuple[int, bytes]] = []

    def goes_on(scope: Scope, output: bytes) -> bool:
        seen.append((scope.iteration, output))
        return True

    run = Run(make_plan([Task(id="a", repeat=RepeatPlan(goes_on, 3, 0))]))
    for output in (b"1", b"2", b"3"):
        run.complete("a", output)
    assert seen == [(0, b"1"), (1, b"2")], "the last round is not judged"
    assert run.state.output(0) == b"3"
    assert run.ended == "COMPLETED"


def test_an_expression_that_cannot_be_evaluated_fails_the_task() -> None:
    run = loop(2, broken=True, retry=RetryPolicy(attempts_max=5))
    run.complete("a")
    run.complete("a")
    assert run.status("a") == "FAILED"
    assert run.state.error is not None
    assert run.state.error.reason == "EXPRESSION_ERROR"
    assert run.results[1].output is None


def test_each_round_has_all_its_attempts() -> None:
    run = loop(2, retry=RetryPolicy(attempts_max=2))
    run.fail("a", retryable=True)
    run.pass_time(1)
    run.complete("a")
    assert run.state.attempt(0) == 1
    run.fail("a", retryable=True)
    assert run.status("a") == "WAITING"
    assert run.timers(TimerKind.RETRY) == [SECOND], "the backoff begins anew"
    run.pass_time(1)
    assert [(r.attempt, r.iteration, r.try_) for r in run.last.ready] == [(2, 1, 4)]
    run.complete("a")
    assert [(row.attempt, row.iteration) for row in run.results] == [(1, 0), (2, 0), (1, 1), (2, 1)]
    run.check_replay()


def test_a_verdict_that_needs_a_blob_is_a_row_too() -> None:
    run = loop(2, delay_us=3 * SECOND)
    run.apply(run.outcome("a", blob="k"))
    assert run.results[0].retry_at_us == 0
    assert run.status("a") == "WAITING"
    assert not list(run.state.dues())
    (wait,) = run.last.blobs
    assert (wait.task, wait.source, wait.key, wait.asker) == (0, 0, "k", -1)
    run.crash()
    (wait,) = run.last.blobs
    run.pass_time(1)
    run.does(machine.blob_loaded, wait, b"5")
    assert [orjson.loads(e.body) for e in run.events if e.kind == EventKind.LOOP_ENDED] == [
        {"again": True}
    ]
    assert list(run.state.dues()) == [(run.now_us + 2 * SECOND, 0, -1)]
    run.check_replay()
    run.pass_time(2)
    run.apply(run.outcome("a", blob="k2"))
    run.does(machine.blob_loaded, run.last.blobs[0], b"6")
    assert run.status("a") == "COMPLETED"
    assert run.open() == ["b"]
    run.check_replay()


def test_a_blob_that_is_gone_fails_the_loop() -> None:
    run = loop(2)
    run.apply(run.outcome("a", blob="k"))
    run.does(machine.blob_loaded, run.last.blobs[0], None)
    assert run.status("a") == "FAILED"
    assert run.state.error is not None
    assert run.state.error.reason == "BLOB_MISSING"
    run.check_replay()


def test_a_loop_that_is_asked_to_stop_goes_on_with_its_next_round_at_a_retry() -> None:
    run = loop(3)
    run.complete("a")
    run.cancel()
    run.complete("a", b"2")
    assert run.status("a") == "CANCELLED"
    assert [row.status for row in run.results[:3]] == [5, 8, 5], "a's round, b, a's round"
    assert run.ended == "CANCELLED"
    run.retry()
    assert [(r.task, r.iteration, r.attempt) for r in run.last.ready] == [(0, 2, 1)]
    run.check_replay()
    run.complete("a", b"3")
    assert run.open() == ["b"]


def test_a_failed_loop_does_its_round_again_at_a_retry() -> None:
    run = loop(3)
    run.complete("a")
    run.fail("a")
    run.retry()
    assert [(r.iteration, r.attempt, r.try_) for r in run.last.ready] == [(1, 1, 3)]
    run.check_replay()


def test_a_reset_loop_begins_with_its_first_round() -> None:
    run = loop(2)
    run.complete("a")
    run.complete("a")
    run.complete("b")
    run.reset("a")
    assert [(r.iteration, r.attempt, r.try_) for r in run.last.ready] == [(0, 1, 3)]
    run.check_replay()


def test_each_item_of_a_for_each_has_a_loop_of_its_own() -> None:
    task = Task(id="a", for_each=Items(2), repeat=RepeatPlan(Rounds(2), 5, 0))
    run = Run(make_plan([task]))
    run.complete("a", item=1)
    assert run.state.iteration(0, 1) == 1
    assert run.state.iteration(0, 0) == 0
    scope = unit_scope(run.state, 0, 1)
    assert (scope.item, scope.index, scope.iteration) == (b"1", 1, 1)
    run.complete("a", b"9", item=1)
    run.check_replay()
    run.complete("a", item=0)
    run.complete("a", b"8", item=0)
    assert run.state.result == b'{"a":[8,9]}'


def seen(run: Run, item: int = -1) -> tuple[int, bytes | None]:
    """Return the round, and what its input sees of the round before."""
    scope = unit_scope(run.state, 0, item)
    return scope.iteration, scope.last()


def test_a_round_sees_what_the_round_before_gave() -> None:
    run = loop(4, retry=RetryPolicy(attempts_max=2), delay_us=SECOND)
    assert seen(run) == (0, None)
    run.complete("a", b"10")
    run.crash()
    run.pass_time(1)
    assert seen(run) == (1, b"10")
    run.fail("a", retryable=True)
    run.pass_time(1)
    assert seen(run) == (1, b"10"), "the next attempt of the round sees the same"
    run.complete("a", b"20")
    run.pass_time(1)
    assert seen(run) == (2, b"20")
    run.fail("a")
    assert run.ended == "FAILED"
    run.retry()
    assert seen(run) == (2, b"20"), "the round is done again"
    run.check_replay()
    run.complete("a", b"30")
    run.pass_time(1)
    run.complete("a", b"40")
    assert run.status("a") == "COMPLETED"
    assert unit_scope(run.state, 0).last() is None
    run.complete("b")
    run.reset("a")
    assert seen(run) == (0, None)
    run.check_replay()


def test_a_loop_that_was_cancelled_between_rounds_goes_on_where_it_was() -> None:
    run = loop(3, delay_us=SECOND)
    run.complete("a", b"10")
    run.cancel()
    assert run.ended == "CANCELLED"
    run.retry()
    assert seen(run) == (1, b"10")
    run.check_replay()


def test_what_the_round_before_gave_may_be_a_blob() -> None:
    run = loop(3)
    run.apply(run.outcome("a", blob="k1"))
    run.does(machine.blob_loaded, run.last.blobs[0], b"5")
    for _ in range(2):  # what was lent for the verdict is not kept, live and in recovery
        assert run.state.iteration(0) == 1
        with pytest.raises(NeedsBlob) as caught:
            seen(run)
        assert (caught.value.task, caught.value.key, caught.value.item) == (0, "k1", -1)
        run.crash()
    run.state.hold_blob(0, b"5")
    assert seen(run) == (1, b"5")
    run.state.drop_blobs()
    with pytest.raises(NeedsBlob):
        seen(run)
    run.apply(run.outcome("a", blob="k2"))
    run.state.hold_blob(0, b"6")
    assert run.state.iteration(0) == 1, "the verdict waits: the blob is the new round's"
    run.does(machine.blob_loaded, run.last.blobs[0], b"6")
    with pytest.raises(NeedsBlob) as caught:
        seen(run)
    assert caught.value.key == "k2"
    run.check_replay()


def test_items_see_their_own_rounds() -> None:
    task = Task(id="a", for_each=Items(2), repeat=RepeatPlan(Rounds(3), 5, 0))
    run = Run(make_plan([task]))
    run.complete("a", b"9", item=1)
    run.complete("a", b"8", item=0)
    run.complete("a", b"7", item=0)
    assert (seen(run, 0), seen(run, 1)) == ((2, b"7"), (1, b"9"))
    run.check_replay()
    run.fail("a", item=0)
    run.complete("a", b"6", item=1)
    run.complete("a", b"5", item=1)
    assert run.ended == "FAILED"
    run.retry()
    assert seen(run, 0) == (2, b"7")
    run.check_replay()
