"""Start, dispatch, result, finish: the road of most executions."""

from bend_server.core.model import ExecutionStatus
from tests.engine.house import House, begin, command, completed, finish, housed
from tests.kit.plans import chain


@housed
async def test_a_chain_runs_to_its_end(house: House) -> None:
    engine = await house.engine()
    assert engine.ready
    executor = await house.executor()
    plan = await house.workflow(chain(3))
    outcome = await begin(engine, plan)
    assert outcome.created
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    record = house.record(outcome.execution)
    assert record.finish is not None
    assert record.finish.output == b'{"t2":1}'
    assert len(record.results) == 3
    assert [task.task for task in executor.seen] == [0, 1, 2]
    assert engine.live_count() == 0


@housed
async def test_many_executions_share_commits_and_frames(house: House) -> None:
    """One commit or one message per step would miss the measured floor by a factor of three."""
    engine = await house.engine()
    executor = await house.executor()
    plan = await house.workflow(chain(5))
    outcomes = await engine.start_executions([command(plan) for _ in range(400)])
    for outcome in outcomes:
        assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert len(executor.seen) == 2000
    assert engine.counters["commits"] < 100
    assert engine.counters["frames"] < 200
    gauges = engine.gauges()
    assert (gauges["executions_live"], gauges["tasks_handed_out"], gauges["jobs_failed"]) == (
        0,
        0,
        0,
    )


@housed
async def test_outputs_reach_the_next_task(house: House) -> None:
    engine = await house.engine()
    await house.executor(lambda task: completed(task, b'{"n":%d}' % task.task))
    plan = await house.workflow(chain(2))
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    finish_row = house.record(outcome.execution).finish
    assert finish_row is not None
    assert finish_row.output == b'{"t1":{"n":1}}'
