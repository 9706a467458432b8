"""The ordinary road: dependencies, conditions, outputs."""

from bend_server.core.model import ExecutionStatus, TaskStatus
from bend_server.core.plan import ExpressionError, Scope
from tests.kit.machine_run import Run
from tests.kit.plans import Task, chain, make_plan, start_row


def no(scope: Scope) -> bool:
    return False


def test_a_chain_runs_in_order_and_ends_completed() -> None:
    run = Run(chain(3))
    for task in ("t0", "t1", "t2"):
        assert run.open() == [task]
        assert [ready.task for ready in run.last.ready] == [run.plan.index[task]]
        assert run.complete(task, task.encode().join((b'"', b'"')))
    assert run.ended == "COMPLETED"
    assert run.finish is not None
    assert run.finish.output == b'{"t2":"t2"}'
    assert [row.seq for row in run.results] == [1, 2, 3]
    assert run.finish.seq == 4
    run.check_replay()


def test_a_join_waits_for_all_it_depends_on() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b"), Task(id="c", after=("a", "b"))]))
    assert run.open() == ["a", "b"]
    run.complete("b")
    assert run.open() == ["a"]
    run.complete("a")
    assert run.open() == ["c"]


def test_a_false_condition_skips_and_dependents_run() -> None:
    run = Run(
        make_plan(
            [Task(id="a"), Task(id="b", after=("a",), condition=no), Task(id="c", after=("b",))]
        )
    )
    run.complete("a")
    assert run.statuses() == {"a": "COMPLETED", "b": "SKIPPED", "c": "SCHEDULED"}
    skip = run.results[-1]
    assert (skip.status, skip.try_, skip.attempt) == (TaskStatus.SKIPPED, 1, 0)
    run.complete("c")
    assert run.ended == "COMPLETED"
    run.check_replay()


def test_a_condition_reads_outputs_and_own_facts() -> None:
    seen: list[object] = []

    def look(scope: Scope) -> bool:
        seen.append((scope.output(0), scope.own(0)["status"], scope.own(0)["attempt"]))
        return True

    run = Run(make_plan([Task(id="a"), Task(id="b", after=("a",), condition=look)]))
    run.complete("a", b"[1]")
    assert seen == [(b"[1]", "completed", 1)]


def test_a_condition_that_cannot_be_evaluated_fails_the_task() -> None:
    def broken(scope: Scope) -> bool:
        raise ExpressionError("a.x: no such field; it has: y")

    run = Run(make_plan([Task(id="a"), Task(id="b", after=("a",), condition=broken)]))
    run.complete("a")
    assert run.ended == "FAILED"
    error = run.state.error
    assert error is not None
    assert (error.reason, error.task) == ("EXPRESSION_ERROR", "b")
    assert "no such field" in error.message
    run.check_replay()


def test_every_task_skipped_gives_an_empty_output() -> None:
    run = Run(make_plan([Task(id="a", condition=no), Task(id="b", condition=no)]))
    assert run.ended == "COMPLETED"
    assert run.state.result == b"{}"


def test_an_output_template_makes_the_output_and_its_error_fails_the_execution() -> None:
    def output(scope: Scope) -> bytes:
        return b'{"n":' + (scope.output(0) or b"null") + b"}"

    run = Run(make_plan([Task(id="a")], output=output))
    run.complete("a", b"5")
    assert run.state.result == b'{"n":5}'

    def broken(scope: Scope) -> bytes:
        raise ExpressionError("nothing there")

    run = Run(make_plan([Task(id="a")], output=broken))
    run.complete("a")
    assert run.ended == "FAILED"
    assert run.status("a") == "COMPLETED"
    run.check_replay()


def test_a_chain_of_20000_skips_in_one_go() -> None:
    """A cascade by recursion would overflow the stack and quarantine a legal workflow."""
    tasks = [
        Task(id=f"t{i}", after=(f"t{i - 1}",) if i else (), condition=no) for i in range(20_000)
    ]
    run = Run(make_plan(tasks))
    assert run.ended == "COMPLETED"
    assert len(run.results) == 20_000


def test_a_pending_execution_becomes_running_with_a_change() -> None:
    plan = chain(1)
    run = Run(plan, start_row(plan, status=ExecutionStatus.PENDING))
    assert [(c.status, c.pause_reason) for c in run.last.changes] == [(2, None)]
    assert run.ended == "RUNNING"
