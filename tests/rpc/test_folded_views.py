"""Tasks with control flow as they are shown: every view against the state that wrote the rows."""

from collections.abc import Sequence

import orjson
import pytest

from bend_server.core.errors import CorruptHistory
from bend_server.core.model import (
    ITEM_NONE,
    Phase,
    TaskStatus,
)
from bend_server.ports.engine import TaskOverlay
from bend_server.ports.store import ExecutionSummary
from bend_server.rpc.folded_views import FoldedViews
from bend_server.rpc.views import TaskView
from tests.kit.machine_run import Run
from tests.language.documents import plan_of

ONE_TRY = {"retry": {"max_attempts": 1}}
FIRM = {"defaults": ONE_TRY}


def summary_of(run: Run) -> ExecutionSummary:
    """Return the execution's row as lists show it."""
    row, state = run.row, run.state
    return ExecutionSummary(
        row.id, row.public_id, row.namespace, row.workflow, row.revision, state.run, state.status,
        None, row.labels, row.input, None, None, None, None, row.started_us, None,
    )  # fmt: skip


def overlay_of(run: Run) -> list[TaskOverlay]:
    """Return what the owner's memory would say: the open tries."""
    found = []
    opened = [
        (task.index, item)
        for task in run.plan.tasks
        for item in (ITEM_NONE, *range(len(run.items(task.id))))
        if run.state.open_try(task.index, item)
    ]
    for task, item in opened:
        units, at = run.state.unit(task, item)
        attempt = run.state.attempt(task, item)
        entry = TaskOverlay(task, item, units.statuses[at], attempt, units.tries[at], "", 0, "")
        found.append(entry)
    return found


def shown(run: Run, overlay: Sequence[TaskOverlay] = ()) -> dict[tuple[str, int], TaskView]:
    """Return the views of what is committed, by task and item."""
    made = FoldedViews(run.plan, summary_of(run), run.results, run.events, overlay).views()
    assert len({(view.task, view.item) for view in made}) == len(made)
    return {(view.task, view.item): view for view in made}


def agree(run: Run) -> dict[tuple[str, int], TaskView]:
    """Check all views against the state; return them.

    Without the owner's memory an open try is SCHEDULED, and not yet open after a backoff: its
    worker is not known, nor what time has come.
    """
    state = run.state
    views = shown(run, overlay_of(run))
    bare = shown(run)
    assert set(views) >= set(bare)
    for (name, item), view in views.items():
        task = run.plan.index[name]
        units, at = state.unit(task, item)
        undoes_items = run.plan.tasks[task].phase == Phase.COMPENSATION and run.items(name)
        if item != ITEM_NONE or not undoes_items:
            assert TaskStatus(view.status).name == run.status(name, item), (name, item)
        assert (view.attempt, view.try_) == (units.unit_attempt(at), units.tries[at]), (name, item)
        assert view.iteration == state.iteration(task, item)
        if (name, item) not in bare:
            units_of = (item, *range(view.items))
            assert any(state.open_try(task, one) for one in units_of), "something runs there"
            continue
        seen, open_ = bare[name, item].status, (TaskStatus.SCHEDULED, TaskStatus.RUNNING)
        waits = (TaskStatus.WAITING, *open_)
        assert seen == view.status or (view.status in open_ and seen in waits), (name, item)
    for task in run.plan.tasks:
        assert task.phase != Phase.MAIN or (task.id, ITEM_NONE) in views
        for item, status in enumerate(run.items(task.id)):
            assert (task.id, item) in views or status == "PENDING"
    return views


def test_items_run_fail_and_are_done_again() -> None:
    plan = plan_of(
        {"id": "each", "for_each": [10, 20, 30], "max_parallel": 2},
        {"id": "end", "v": "{{each}}"},
        **FIRM,
    )
    run = Run(plan)
    views = agree(run)
    assert [key for key in views if key[0] == "each"] == [("each", n) for n in (-1, 0, 1)]
    assert views["each", -1].items == 3
    run.complete("each", b'"x"', item=0)
    agree(run)
    run.fail("each", item=1)
    views = agree(run)
    assert views["each", 1].status == TaskStatus.FAILED
    assert orjson.loads(views["each", 1].error or b"")["reason"] == "BROKEN"
    run.complete("each", b'"z"', item=2)
    assert run.ended == "FAILED"
    views = agree(run)
    assert (views["each", -1].status, views["end", -1].status) == (
        TaskStatus.FAILED,
        TaskStatus.CANCELLED,
    )
    run.retry()
    views = agree(run)
    assert views["each", 0].output == b'"x"', "what completed is kept"
    assert (views["each", 1].status, views["each", 1].error) == (TaskStatus.SCHEDULED, None)
    assert views["each", 1].worker == "", "the row of the run before says nothing any more"
    run.complete("each", b'"y"', item=1)
    run.complete("end")
    assert run.ended == "COMPLETED"
    views = agree(run)
    assert views["each", -1].output == b'["x","y","z"]'
    assert (views["each", 1].try_, views["each", 1].attempt) == (2, 1)


def test_an_item_in_backoff_says_when_it_goes_on() -> None:
    run = Run(plan_of({"id": "each", "for_each": [1], "retry": {"initial": "5s"}}))
    run.fail("each", retryable=True, item=0)
    view = agree(run)["each", 0]
    assert view.status == TaskStatus.WAITING
    assert view.waiting.startswith("next try at 20")
    run.pass_time(5)
    assert agree(run)["each", 0].attempt == 2


def test_rounds_are_counted_and_the_last_output_shows() -> None:
    run = Run(plan_of({"id": "a", "repeat": {"while": "output < 3", "max": 9, "delay": "1s"}}))
    run.complete("a", b"1")
    view = agree(run)["a", -1]
    assert (view.status, view.iteration, view.output) == (TaskStatus.WAITING, 1, None)
    assert view.waiting.startswith("next try at")
    run.pass_time(1)
    agree(run)
    run.complete("a", b"3")
    view = agree(run)["a", -1]
    assert (view.status, view.iteration, view.try_, view.output) == (
        TaskStatus.COMPLETED,
        1,
        2,
        b"3",
    )


def test_waits_signals_approvals_and_children_say_what_for() -> None:
    run = Run(
        plan_of(
            {"id": "nap", "type": "wait", "duration": "10s"},
            {"id": "paid", "type": "signal", "name": "paid"},
            {"id": "ask", "type": "approval", "title": "Ship it?"},
            {"id": "call", "type": "workflow", "workflow": "child"},
        )
    )
    agree(run)
    run.wait("nap", seconds=10)
    run.wait("paid", name="paid", seconds=60)
    run.wait("ask", title="Ship it?")
    run.child("call", 4711)
    views = agree(run)
    assert views["nap", -1].waiting.startswith("timer until 20")
    assert views["paid", -1].waiting.startswith("signal paid until 20")
    assert views["ask", -1].waiting == "approval Ship it?"
    assert views["call", -1].child == 4711
    run.pass_time(10)
    run.signal("paid", b"5")
    run.decide("ask", approved=True)
    views = agree(run)
    assert {name: TaskStatus(views[name, -1].status).name for name in ("nap", "paid", "ask")} == {
        "nap": "COMPLETED", "paid": "COMPLETED", "ask": "COMPLETED",
    }  # fmt: skip
    assert views["paid", -1].output == b"5"
    assert views["ask", -1].waiting == ""
    run.complete("call", b"7")
    assert run.ended == "COMPLETED"
    assert agree(run)["call", -1].output == b"7"


def test_a_phase_shows_once_it_came() -> None:
    plan = plan_of(
        {"id": "a", "compensate": {"type": "x"}},
        {"id": "b", "depends_on": ["a"]},
        on_failure=[{"id": "tell", "type": "x"}, {"id": "after", "type": "x", "v": "{{tell}}"}],
        **FIRM,
    )
    run = Run(plan)
    assert {name for name, _ in agree(run)} == {"a", "b"}
    run.complete("a")
    run.fail("b")
    views = agree(run)
    assert [name for name, _ in views] == ["a", "b", "tell", "after"]
    assert (views["tell", -1].phase, views["b", -1].phase) == ("on_failure", "")
    run.complete("tell")
    agree(run)
    run.complete("after")
    views = agree(run)
    undo = ("a.compensate", -1)
    assert (views[undo].phase, views[undo].status) == ("compensate", TaskStatus.SCHEDULED)
    run.complete("a.compensate")
    assert run.ended == "FAILED"
    assert agree(run)[undo].status == TaskStatus.COMPLETED


def test_items_are_undone_one_by_one() -> None:
    plan = plan_of(
        {"id": "book", "for_each": [1, 2], "compensate": {"type": "x", "v": "{{item}}"}},
        {"id": "pay", "depends_on": ["book"]},
        **FIRM,
    )
    run = Run(plan)
    run.complete("book", item=0)
    run.complete("book", item=1)
    run.fail("pay")
    views = agree(run)
    assert [item for name, item in views if name == "book.compensate"] == [-1, 1]
    assert views["book.compensate", -1].status == TaskStatus.RUNNING
    run.complete("book.compensate", item=1)
    assert agree(run)["book.compensate", -1].status == TaskStatus.RUNNING
    run.complete("book.compensate", item=0)
    assert run.ended == "FAILED"
    views = agree(run)
    assert [item for name, item in views if name == "book.compensate"] == [-1, 0, 1]
    assert views["book.compensate", -1].status == TaskStatus.COMPLETED, "no item is left to undo"


def test_what_could_not_be_undone_shows_in_the_compensation_as_a_whole() -> None:
    undo = {"type": "x", **ONE_TRY}
    plan = plan_of({"id": "book", "for_each": [1, 2], "compensate": undo}, {"id": "pay"}, **FIRM)
    run = Run(plan)
    run.complete("book", item=0)
    run.complete("book", item=1)
    run.fail("pay")
    run.fail("book.compensate", item=1)
    run.complete("book.compensate", item=0)
    assert run.ended == "FAILED"
    assert agree(run)["book.compensate", -1].status == TaskStatus.FAILED


def test_a_retry_and_a_reset_take_back_what_rows_say() -> None:
    run = Run(plan_of({"id": "a"}, {"id": "b", "v": "{{a}}"}, {"id": "c", "v": "{{b}}"}, **FIRM))
    run.complete("a")
    run.fail("b")
    assert agree(run)["c", -1].status == TaskStatus.CANCELLED
    run.retry()
    views = agree(run)
    assert (views["b", -1].status, views["b", -1].error) == (TaskStatus.SCHEDULED, None)
    assert (views["c", -1].status, views["c", -1].finished_us) == (TaskStatus.PENDING, 0)
    run.complete("b")
    run.complete("c")
    assert run.ended == "COMPLETED"
    agree(run)
    run.reset("b")
    views = agree(run)
    assert (views["a", -1].status, views["a", -1].output) == (TaskStatus.COMPLETED, b"1")
    assert [views[name, -1].output for name in "bc"] == [None, None]
    run.complete("b", b"2")
    run.complete("c", b"3")
    assert [agree(run)[name, -1].output for name in "abc"] == [b"1", b"2", b"3"]


def test_what_a_pause_holds_back_is_pending() -> None:
    run = Run(plan_of({"id": "a"}, {"id": "b", "v": "{{a}}"}, {"id": "c"}, **FIRM))
    run.pause()
    run.complete("a")
    views = agree(run)
    assert (views["b", -1].status, views["c", -1].status) == (
        TaskStatus.PENDING,
        TaskStatus.SCHEDULED,
    )
    run.unpause()
    assert agree(run)["b", -1].status == TaskStatus.SCHEDULED


def lived() -> Run:
    """Return a run with rows, events, a failure and a second run."""
    run = Run(
        plan_of(
            {"id": "each", "for_each": [1, 2], "v": "{{item}}"},
            {"id": "paid", "type": "signal", "name": "paid", "depends_on": ["each"]},
            {"id": "end", "v": "{{paid}}"},
            **FIRM,
        )
    )
    run.complete("each", item=1)
    run.complete("each", item=0)
    run.wait("paid", name="paid")
    run.signal("paid", b"1")
    run.fail("end")
    run.retry()
    run.complete("end")
    assert run.ended == "COMPLETED"
    return run


def test_a_history_with_a_hole_is_no_history() -> None:
    run = lived()
    with pytest.raises(CorruptHistory):
        FoldedViews(run.plan, summary_of(run), run.results, run.events[1:], ())
