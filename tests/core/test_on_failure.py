"""on_failure tasks: they run when the run fails, once all main tasks are terminal."""

from bend_server.core import machine
from bend_server.core.effects import TimerKind
from bend_server.core.model import EventKind, Phase, RunIf
from bend_server.core.plan import Scope
from tests.kit.expressions import Items, Verdict
from tests.kit.machine_run import Run
from tests.kit.plans import Task, make_plan

SECOND = 1_000_000


def later(name: str, **more: object) -> Task:
    return Task(id=name, phase=Phase.ON_FAILURE, **more)  # type: ignore[arg-type]


def test_they_run_after_the_main_tasks_and_do_not_unfail() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a"),
                Task(id="clean", after=("a",), run_if=RunIf.ALWAYS),
                later("page"),
                later("report", after=("page",)),
            ]
        )
    )
    run.fail("a", "HTTP_500")
    assert run.open() == ["clean"]
    run.complete("clean")
    assert run.events[-1].kind == EventKind.HANDLING_FAILURE
    assert run.open() == ["page"]
    run.check_replay()
    run.crash()
    assert [ready.task for ready in run.last.ready] == [2]
    run.complete("page")
    run.complete("report")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert run.state.error.reason == "HTTP_500"
    run.check_replay()


def test_they_take_no_part_in_a_run_that_ends_otherwise() -> None:
    for cancel in (False, True):
        run = Run(make_plan([Task(id="a"), later("page")]))
        if cancel:
            run.cancel()
        run.complete("a")
        assert run.ended == ("CANCELLED" if cancel else "COMPLETED")
        assert run.status("page") == "PENDING"
        assert all(row.task == 0 for row in run.results)
        if not cancel:
            assert run.state.result == b'{"a":1}', "they are no leaves"


def test_a_failure_among_them_cancels_only_what_depends_on_it() -> None:
    run = Run(
        make_plan(
            [
                Task(id="a"),
                later("f"),
                later("g"),
                later("after_f", after=("f",)),
                later("after_all", after=("f", "g"), run_if=RunIf.ALWAYS),
                later("if_failed", after=("f",), run_if=RunIf.FAILURE),
                later("if_g_failed", after=("g",), run_if=RunIf.FAILURE),
                later("far", after=("after_f",)),
            ]
        )
    )
    run.fail("a", "FIRST")
    run.fail("f", "SECOND")
    assert run.statuses() == {
        "a": "FAILED",
        "f": "FAILED",
        "g": "SCHEDULED",
        "after_f": "CANCELLED",
        "after_all": "PENDING",
        "if_failed": "SCHEDULED",
        "if_g_failed": "PENDING",
        "far": "CANCELLED",
    }
    run.complete("g")
    assert run.status("if_g_failed") == "SKIPPED"
    run.complete("after_all")
    run.complete("if_failed")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert run.state.error.reason == "FIRST"
    run.check_replay()


def test_an_allowed_failure_among_them_lets_dependents_run() -> None:
    run = Run(make_plan([Task(id="a"), later("f", allow_failure=True), later("g", after=("f",))]))
    run.fail("a")
    run.fail("f")
    assert run.open() == ["g"]


def test_a_cancel_stops_them() -> None:
    run = Run(make_plan([Task(id="a"), later("f"), later("g", after=("f",))]))
    run.fail("a")
    assert run.cancel()
    assert [stop.task for stop in run.last.cancels] == [1]
    assert run.status("g") == "CANCELLED"
    run.check_replay()
    run.crash()
    assert run.timers(TimerKind.GRACE) == [10 * SECOND]
    run.pass_time(10)
    assert run.ended == "CANCELLED"
    assert run.status("f") == "CANCELLED"


def test_the_deadline_of_the_run_holds_for_them_too() -> None:
    run = Run(make_plan([Task(id="a"), later("f")], timeout_us=60 * SECOND))
    run.fail("a")
    run.pass_time(60)
    run.pass_time(10)
    assert run.ended == "TIMED_OUT"


def test_they_see_what_happened_and_have_items_and_conditions() -> None:
    def failed(scope: Scope) -> bool:
        return scope.own(0)["status"] == "failed"

    run = Run(
        make_plan(
            [
                Task(id="a"),
                later("f", condition=failed, for_each=Items(2)),
                later("g", condition=Verdict(False)),
            ]
        )
    )
    run.fail("a")
    assert run.open_items("f") == [0, 1]
    assert run.status("g") == "SKIPPED"
    run.complete("f", item=0)
    run.check_replay()
    run.complete("f", item=1)
    assert run.ended == "FAILED"


def test_an_output_that_cannot_be_made_is_a_failure_that_they_see() -> None:
    run = Run(make_plan([Task(id="a"), later("f")]))
    run.apply(run.outcome("a", blob="k"))
    run.does(machine.blob_loaded, run.last.blobs[0], None)
    assert run.open() == ["f"]
    run.complete("f")
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert (run.state.error.reason, run.state.error.task) == ("BLOB_MISSING", "")
    run.check_replay()


def test_compensations_come_after_them() -> None:
    undo = Task(id="ua", undoes="a", phase=Phase.COMPENSATION)
    undo_f = Task(id="uf", undoes="f", phase=Phase.COMPENSATION)
    run = Run(make_plan([Task(id="a"), Task(id="b"), later("f"), undo, undo_f]))
    run.complete("a")
    run.fail("b")
    assert run.open() == ["f"]
    run.complete("f")
    assert run.open() == ["uf"]
    run.complete("uf")
    assert run.open() == ["ua"]
    run.complete("ua")
    assert run.ended == "FAILED"
    run.check_replay()
