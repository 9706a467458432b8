"""Outputs in the blob store: decisions that need their data wait for it."""

from bend_server.core import machine
from bend_server.core.effects import FINISH, BlobWait, Effects
from bend_server.core.plan import Scope
from tests.kit.machine_run import Run
from tests.kit.plans import Task, make_plan


def wants(scope: Scope) -> bool:
    return scope.output(0) == b"[1]"


def load(run: Run, wait: BlobWait, data: bytes | None) -> bool:
    done = machine.blob_loaded(run.state, wait, data, run.now_us, run.chance, run.fresh())
    run.commit()
    return done


def conditional() -> Run:
    run = Run(make_plan([Task(id="a"), Task(id="b", after=("a",), condition=wants)]))
    run.apply(run.outcome("a", blob="ns/1/abc"))
    return run


def test_a_condition_waits_for_the_blob_it_reads() -> None:
    run = conditional()
    assert run.statuses() == {"a": "COMPLETED", "b": "PENDING"}
    (wait,) = run.last.blobs
    assert (wait.task, wait.source, wait.key) == (1, 0, "ns/1/abc")
    run.crash()
    (wait,) = run.last.blobs
    assert load(run, wait, b"[1]")
    assert run.open() == ["b"]
    assert not load(run, wait, b"[1]")
    run.complete("b")
    assert run.ended == "COMPLETED"


def test_loaded_data_is_not_kept() -> None:
    run = conditional()
    load(run, run.last.blobs[0], b"[0]")
    assert run.status("b") == "SKIPPED"
    output = run.state.output(0)
    assert not isinstance(output, bytes)
    assert output is not None
    assert output.data is None


def test_a_blob_that_is_gone_fails_the_task() -> None:
    run = conditional()
    assert load(run, run.last.blobs[0], None)
    assert run.ended == "FAILED"
    assert run.state.error is not None
    assert (run.state.error.reason, run.state.error.task) == ("BLOB_MISSING", "b")
    run.check_replay()


def test_a_cancel_overtakes_a_waiting_condition() -> None:
    run = conditional()
    (wait,) = run.last.blobs
    run.cancel()
    assert run.ended == "CANCELLED"
    assert not machine.blob_loaded(run.state, wait, b"[1]", run.now_us, run.chance, Effects())


def test_the_output_of_the_execution_waits_for_its_blobs() -> None:
    run = Run(make_plan([Task(id="a"), Task(id="b")]))
    run.apply(run.outcome("a", blob="ns/1/a"))
    run.apply(run.outcome("b", blob="ns/1/b"))
    assert run.ended == "RUNNING"
    (wait,) = run.last.blobs
    assert (wait.task, wait.source) == (FINISH, 0)
    load(run, wait, b'"A"')
    (wait,) = run.last.blobs
    assert wait.source == 1
    load(run, wait, b'"B"')
    assert run.ended == "COMPLETED"
    assert run.state.result == b'{"a":"A","b":"B"}'
    run.check_replay()


def test_an_output_that_cannot_be_built_fails_the_execution() -> None:
    run = Run(make_plan([Task(id="a")]))
    run.apply(run.outcome("a", blob="ns/1/a"))
    load(run, run.last.blobs[0], None)
    assert run.ended == "FAILED"
