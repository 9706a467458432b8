"""Fold and resume: SQL's rows are all that recovery has."""

import pytest

from bend_server.core import machine
from bend_server.core.effects import Effects, TimerKind
from bend_server.core.errors import CorruptHistory
from bend_server.core.plan import Scope
from tests.kit.machine_run import Run
from tests.kit.plans import Task, chain, make_plan


def test_recovery_emits_what_is_open_and_nothing_that_has_a_row() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b"), Task(id="c", after=("a", "b"))]))
    run.complete("a")
    run.crash()
    assert [(r.task, r.try_, r.attempt) for r in run.last.ready] == [(1, 1, 1)]
    assert not run.last.rows()
    assert len(run.timers(TimerKind.EXECUTION)) == 1
    run.complete("b")
    assert run.open() == ["c"]


def test_a_condition_with_a_row_is_never_evaluated_again() -> None:
    calls: list[int] = []

    def once(scope: Scope) -> bool:
        calls.append(1)
        return False

    run = Run(make_plan([Task(id="a"), Task(id="b", after=("a",), condition=once), Task(id="c")]))
    run.complete("a")
    run.crash()
    assert calls == [1]
    assert run.status("b") == "SKIPPED"


def test_a_finish_that_a_crash_left_out_is_written() -> None:
    run = Run(chain(1))
    run.complete("t0")
    run.finish = None
    run.crash()
    assert run.ended == "COMPLETED"
    assert len(run.last.finishes) == 1


def test_a_failing_event_that_a_crash_left_out_is_written() -> None:
    run = Run(chain(3))
    run.fail("t0")
    run.results, run.events, run.finish = run.results[:1], [], None
    run.crash()
    assert run.ended == "FAILED"
    assert run.statuses() == {"t0": "FAILED", "t1": "CANCELLED", "t2": "CANCELLED"}


def test_a_finished_execution_stays_as_it_is() -> None:
    run = Run(chain(1))
    run.complete("t0")
    run.crash()
    assert not run.last.rows()
    assert not run.last.timers
    assert run.ended == "COMPLETED"


def test_resume_is_harmless_on_a_live_execution() -> None:
    run = Run(chain(2))
    effects = Effects()
    machine.resume(run.state, run.now_us, run.chance, effects)
    assert [(r.task, r.try_) for r in effects.ready] == [(0, 1)]
    assert not effects.rows()


def test_rows_that_contradict_each_other_are_named() -> None:
    run = Run(chain(2))
    run.complete("t0")
    run.complete("t1")
    assert run.finish is not None
    twice = [run.results[0], run.results[0]._replace(seq=2)]
    gap = [run.results[0], run.results[1]._replace(seq=3)]
    foreign = [run.results[0]._replace(task=9)]
    for results in (twice, gap, foreign):
        with pytest.raises(CorruptHistory, match=run.row.public_id):
            machine.fold(run.plan, run.row, results, [], None)
    early = run.finish._replace(seq=2)
    with pytest.raises(CorruptHistory, match="1 tasks are not terminal"):
        machine.fold(run.plan, run.row, run.results[:1], [], early)
