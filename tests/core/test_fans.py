"""for_each: items in a window, in order, and what failing ones do."""

import orjson
import pytest

from bend_server.core import limits, machine
from bend_server.core.effects import TimerKind
from bend_server.core.model import EventKind, Failure, RunIf, TaskStatus
from bend_server.core.plan import ExpressionError, NeedsBlob, RetryPolicy, Scope
from bend_server.core.scope import ExecutionScope, unit_scope
from tests.kit.expressions import Items
from tests.kit.machine_run import Run
from tests.kit.plans import Task, make_plan


def fan(count: int, parallel: int = 100, **more: object) -> Run:
    task = Task(id="a", for_each=Items(count), parallel_max=parallel, **more)  # type: ignore[arg-type]
    return Run(make_plan([task, Task(id="b", after=("a",))]))


def test_the_items_are_counted_by_a_row_and_run_in_the_window() -> None:
    run = fan(5, parallel=2)
    (counted,) = run.events
    assert (counted.kind, counted.task) == (EventKind.ITEMS_COUNTED, 0)
    assert orjson.loads(counted.body) == {"count": 5, "items": ["0", "1", "2", "3", "4"]}
    assert run.status("a") == "RUNNING"
    assert [(r.task, r.item, r.try_, r.attempt) for r in run.last.ready] == [
        (0, 0, 1, 1),
        (0, 1, 1, 1),
    ]
    run.complete("a", item=1)
    assert [ready.item for ready in run.last.ready] == [2]
    run.check_replay()
    assert run.open_items("a") == [0, 2]
    assert run.state.open_try(0) == 0


def test_the_output_is_the_list_in_order_and_stored_once() -> None:
    run = fan(3)
    for item in (2, 0, 1):
        run.complete("a", b'"%d"' % item, item=item)
    row = run.results[-1]
    assert (row.task, row.item, row.status, row.output, row.attempt) == (0, -1, 5, None, 1)
    assert ExecutionScope(run.state).output(0) == b'["0","1","2"]'
    assert run.open() == ["b"]
    run.complete("b")
    assert run.ended == "COMPLETED"
    run.check_replay()


def test_an_empty_list_completes_at_once() -> None:
    run = fan(0)
    assert run.statuses() == {"a": "COMPLETED", "b": "SCHEDULED"}
    assert ExecutionScope(run.state).output(0) == b"[]"
    assert orjson.loads(run.events[0].body)["count"] == 0


def test_a_list_that_cannot_be_made_fails_the_task() -> None:
    run = fan(-1)
    assert run.status("a") == "FAILED"
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert run.state.error.reason == "EXPRESSION_ERROR"


def test_a_failing_item_lets_the_running_ones_end_and_no_other_start() -> None:
    run = fan(5, parallel=2, retry=RetryPolicy(attempts_max=2))
    run.fail("a", item=0, retryable=True)
    assert run.status("a", 0) == "WAITING"
    run.fail("a", "BAD", item=1)
    assert run.open_items("a") == []
    run.check_replay()
    run.pass_time(1)
    assert run.open_items("a") == [0], "a started item has all its attempts"
    run.complete("a", item=0)
    assert run.items("a") == ["COMPLETED", "FAILED", "PENDING", "PENDING", "PENDING"]
    assert run.status("a") == "FAILED"
    error = run.state.error
    assert error is not None
    assert (error.reason, error.task) == ("ITEMS_FAILED", "a")
    assert orjson.loads(error.details) == {"failed": [1], "count": 1}
    assert "BAD" in error.message
    assert {row.item for row in run.results if row.task == 0} == {-1, 0, 1}
    run.check_replay()


def test_an_allowed_failure_runs_all_items_and_leaves_null() -> None:
    run = fan(3, parallel=1, allow_failure=True)
    run.complete("a", item=0)
    run.fail("a", item=1)
    run.complete("a", item=2)
    assert run.statuses() == {"a": "COMPLETED", "b": "SCHEDULED"}
    assert ExecutionScope(run.state).output(0) == b"[1,null,1]"


def test_the_failed_indexes_named_are_at_most_100() -> None:
    run = fan(150, parallel=150)
    for item in range(150):
        run.fail("a", item=item)
    error = run.state.error
    assert error is not None
    details = orjson.loads(error.details)
    assert (len(details["failed"]), details["count"]) == (limits.UNITS_NAMED_MAX, 150)


def test_an_item_has_retries_of_its_own() -> None:
    run = fan(2, retry=RetryPolicy(attempts_max=2))
    run.fail("a", item=1, retryable=True)
    assert run.status("a", 1) == "WAITING"
    assert [(t.task, t.item) for t in run.last.timers if t.kind == TimerKind.RETRY] == [(0, 1)]
    run.crash()
    run.pass_time(1)
    assert [(r.item, r.try_, r.attempt) for r in run.last.ready] == [(1, 2, 2)]
    run.check_replay()


def test_a_late_result_of_an_item_counts_no_second_time() -> None:
    run = fan(2)
    late = run.outcome("a", item=1)
    run.complete("a", item=1)
    assert not run.apply(late)
    for item in (-1, 2, 99):
        assert not run.apply(late._replace(item=item))
    assert len(run.results) == 1


def test_a_cancel_stops_open_items_and_leaves_the_others_without_rows() -> None:
    run = fan(4, parallel=2)
    run.complete("a", item=0)
    run.cancel()
    assert [(stop.task, stop.item) for stop in run.last.cancels] == [(0, 1), (0, 2)]
    run.check_replay()
    run.complete("a", item=1)
    run.pass_time(10)
    assert run.items("a") == ["COMPLETED", "COMPLETED", "CANCELLED", "PENDING"]
    assert run.status("a") == "CANCELLED"
    assert run.ended == "CANCELLED"
    run.check_replay()


def test_items_that_end_in_the_grace_complete_their_task() -> None:
    run = Run(make_plan([Task(id="a", for_each=Items(2)), Task(id="b")]))
    run.fail("b")
    run.complete("a", item=0)
    run.complete("a", item=1)
    assert run.status("a") == "COMPLETED"
    assert run.ended == "FAILED"


def test_a_condition_is_judged_once_for_the_task_and_skips_all_items() -> None:
    calls: list[object] = []

    def no(scope: Scope) -> bool:
        calls.append(scope.item)
        return False

    run = Run(make_plan([Task(id="a", for_each=Items(3), condition=no)]))
    assert run.status("a") == "SKIPPED"
    assert calls == [None]
    assert not run.events


def test_blobs_of_items_are_loaded_one_by_one() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a", for_each=Items(2)),
                Task(id="b", after=("a",), condition=lambda scope: scope.output(0) == b"[1,2]"),
            ]
        )
    )
    run.apply(run.outcome("a", item=0, blob="k/0"))
    run.apply(run.outcome("a", item=1, blob="k/1"))
    for item, data in ((0, b"1"), (1, b"2")):
        (wait,) = run.last.blobs
        assert (wait.task, wait.source, wait.item, wait.key) == (1, 0, item, f"k/{item}")
        run.does(machine.blob_loaded, wait, data)
    assert run.open() == ["b"]
    output = run.state.output(0, 0)
    assert not isinstance(output, bytes | None)
    assert output.data is None


def test_a_large_list_is_not_stored_twice_and_made_again_after_a_crash() -> None:
    made: list[int] = []

    def items(scope: Scope) -> list[bytes]:
        made.append(1)
        source = scope.output(0)
        assert source is not None
        return [b'"%s"' % (b"x" * 40_000), source]

    run = Run(make_plan([Task(id="src"), Task(id="a", after=("src",), for_each=items)]))
    run.apply(run.outcome("src", blob="k"))
    run.does(machine.blob_loaded, run.last.blobs[0], b"7" * 40_000)
    assert orjson.loads(run.events[0].body) == {"count": 2}
    run.crash()
    assert run.open_items("a") == [0, 1]
    before = len(made)
    with pytest.raises(NeedsBlob) as need:
        unit_scope(run.state, 1, 1)
    assert (need.value.task, need.value.key) == (0, "k")
    run.state.hold_blob(0, b"7" * 40_000)
    assert unit_scope(run.state, 1, 1).item == b"7" * 40_000
    assert unit_scope(run.state, 1, 0).index == 0
    assert len(made) == before + 2, "made once more, and then kept"


def test_a_list_that_changed_since_is_an_error() -> None:
    counts = [40, 39]

    def items(scope: Scope) -> list[bytes]:
        return [b'"%s"' % (b"x" * 4000)] * counts.pop(0)

    run = Run(make_plan([Task(id="a", for_each=items)]))
    run.crash()
    with pytest.raises(ExpressionError, match="gives 39 items now, it gave 40"):
        unit_scope(run.state, 0, 0)


def test_more_items_than_the_limit_fail_the_task() -> None:
    run = fan(limits.ITEMS_MAX + 1)
    assert run.state.error is not None
    assert run.state.error.reason == "TOO_MANY_ITEMS"


def test_the_widest_fan_out_ends() -> None:
    run = fan(limits.ITEMS_MAX)
    for item in range(limits.ITEMS_MAX):
        assert run.complete("a", item=item)
    assert run.status("a") == "COMPLETED"
    output = ExecutionScope(run.state).output(0)
    assert output == b"[" + b",".join([b"1"] * limits.ITEMS_MAX) + b"]"
    assert ExecutionScope(run.state).output(0) is output, "assembled once"


def test_a_list_of_outputs_that_is_too_large_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOB_BYTES_MAX", 10)
    run = Run(make_plan([Task(id="a", for_each=Items(3))]))
    for item in range(3):
        run.complete("a", b"12345", item=item)
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert "the list of its outputs has 19 bytes" in run.state.error.message


def test_run_if_sees_the_task_not_its_items() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a", for_each=Items(1)),
                Task(id="alarm", after=("a",), run_if=RunIf.FAILURE),
            ]
        )
    )
    run.apply(
        run.outcome("a", TaskStatus.TIMED_OUT, item=0, failure=Failure("TIMEOUT", "too slow"))
    )
    assert run.statuses() == {"a": "FAILED", "alarm": "SCHEDULED"}
