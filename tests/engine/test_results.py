"""Results: each counts once, whatever the queue delivers."""

from bend_server.core.ids import make_id
from bend_server.core.model import ExecutionStatus
from bend_server.ports.queue import RESULTS
from tests.engine.house import (
    STATUS,
    House,
    begin,
    completed,
    failed,
    finish,
    housed,
    result,
    until,
)
from tests.kit.plans import Task, chain, make_plan


@housed
async def test_invariant_4_a_result_counts_once(house: House) -> None:
    """Duplicates before and after the end, and results of other tries, change nothing."""
    engine = await house.engine()
    executor = await house.executor(lambda task: completed(task) if task.task else None)
    plan = await house.workflow(chain(2))
    outcome = await begin(engine, plan)
    await until(lambda: len(executor.seen) == 1)
    first = executor.seen[0]
    late = completed(first, b'"late"')
    setattr(late, "try", 9)
    await house.publish_results(
        executor, [late, completed(first), completed(first, b"2"), failed(first)]
    )
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    await house.publish_results(executor, [failed(first)])
    await until(lambda: not house.broker.held(RESULTS, "results.>"))
    rows = house.record(outcome.execution).results
    assert [row.output for row in rows.values()] == [b"1", b"1"]
    assert engine.counters["results_stale"] == 4


@housed
async def test_garbage_is_counted_and_acked(house: House) -> None:
    engine = await house.engine()
    await engine._queue.publish("results.0", b"\xff\xff garbage")
    await until(lambda: engine.counters.get("results_garbage") == 1)
    await until(lambda: not house.broker.held(RESULTS, "results.>"))


@housed
async def test_results_of_unknown_executions_are_acked(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor()
    plan = await house.workflow(chain(1))
    outcome = await begin(engine, plan)
    await finish(engine, outcome.execution)
    stray = completed(executor.seen[0])
    stray.execution = make_id(house.clock.now_us(), 5, 5)
    huge = completed(executor.seen[0])
    huge.execution = (1 << 64) - 1
    await house.publish_results(executor, [stray, huge])
    await until(lambda: not house.broker.held(RESULTS, "results.>"))
    assert len(house.database.executions) == 1


@housed
async def test_results_that_make_no_sense_are_stale(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(chain(1))
    outcome = await begin(engine, plan)
    await until(lambda: len(executor.seen) == 1)
    task = executor.seen[0]
    beyond = completed(task)
    beyond.task = 4_000_000_000
    item = completed(task)
    item.item = 3
    none = result(task, STATUS.STATUS_UNSPECIFIED)
    await house.publish_results(executor, [beyond, item, none])
    await until(lambda: engine.counters.get("results_stale") == 3)
    await house.publish_results(executor, [completed(task)])
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED


@housed
async def test_a_failure_is_kept_with_its_reason(house: House) -> None:
    engine = await house.engine()

    def fail(task: object) -> object:
        one = failed(task, "HTTP_503")  # type: ignore[arg-type]
        one.failure.details = b"not json"
        one.worker = "w\0rm"
        return one

    await house.executor(fail)  # type: ignore[arg-type]
    plan = await house.workflow(make_plan([Task(id="a")]))
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.FAILED
    row = house.record(outcome.execution).results[0, -1, 1]
    assert row.error is not None
    assert b'"HTTP_503"' in row.error
    assert b"not json" not in row.error
    assert row.worker == "wrm"
