"""What is held in memory, and for how long."""

import gc
from dataclasses import replace

from bend_server.core.model import ExecutionStatus
from bend_server.core.plan import CachePlan, ConcurrencyPlan, ConcurrencyStrategy, SlotPlan
from bend_server.core.state import ExecutionState
from tests.engine.control import items, own, plan
from tests.engine.house import House, command, fan_out, finish, housed, until
from tests.kit.plans import Task, chain


def _states() -> int:
    gc.collect()
    return sum(type(one) is ExecutionState for one in gc.get_objects())


@housed
async def test_finished_executions_leave_nothing_behind(house: House) -> None:
    """Timers of frames and lanes outlive executions by minutes: they must not hold them."""
    engine = await house.engine(window_tasks_min=64)
    await house.executor(credit=8)
    wide = await house.workflow(fan_out(300, workflow="wide"))
    slim = await house.workflow(chain(3))
    outcomes = await engine.start_executions([command(wide), *[command(slim)] * 100])
    for outcome in outcomes:
        await finish(engine, outcome.execution)
    assert not engine._windows.by_key
    assert not engine._windows.handouts
    assert not engine._live.states
    assert engine.waiting_count() == 0
    assert _states() == 0


@housed
async def test_control_flow_leaves_nothing_behind(house: House) -> None:
    """Children, cache flights, places, prepared inputs and queues go with their executions."""
    engine = await house.engine()
    await house.executor()
    slot = SlotPlan(lambda scope: "k", 2, 0)
    one = ConcurrencyPlan(lambda scope: "k", 1, ConcurrencyStrategy.QUEUE)
    child = plan(
        Task(id="a", slots=(slot,)),
        Task(id="b", cache=CachePlan(3_600_000_000, None, True)),
        own("rest", "wait", {"duration": "2s"}),
        workflow="child",
        concurrency=one,
    )
    parent = plan(
        own("call", "workflow", {"workflow": "child"}, for_each=items(*range(8))),
        workflow="parent",
    )
    await house.workflow(child)
    await house.workflow(parent)
    outcomes = await engine.start_executions([command(parent)] * 3)
    for outcome in outcomes:
        assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    await house.pause(5)
    parts = engine._parts
    assert not parts.children._units
    assert not parts.cache._flights
    assert not parts.cache._leaders
    assert not parts.slots._wishes
    assert not parts.slots._held
    assert len(parts.slots._books) == 0
    assert not parts.queues._keys
    assert not parts.inputs._prepared
    assert not parts.own._busy
    assert not engine._live.held
    assert _states() == 0


@housed
async def test_tasks_of_one_lane_expire_each_in_its_time(house: House) -> None:
    engine = await house.engine()
    base = fan_out(3, join=False)
    tasks = tuple(
        replace(task, schedule_timeout_us=seconds * 1_000_000, allow_failure=True)
        for task, seconds in zip(base.tasks, (50, 20, 35), strict=True)
    )
    made = await house.workflow(replace(base, tasks=tasks))
    begun = house.clock.now_us()
    (outcome,) = await engine.start_executions([command(made)])
    ends: list[float] = []
    for count in (1, 2, 3):
        await until(lambda count=count: len(house.record(outcome.execution).results) >= count)  # type: ignore[misc]
        ends.append((house.clock.now_us() - begun) / 1e6)
    assert [round(end / 5) * 5 for end in ends] == [20, 35, 50]
    await finish(engine, outcome.execution)


@housed
async def test_an_engine_that_was_deaf_does_not_blame_the_executors(house: House) -> None:
    """After a long loss of the connection everybody seems silent: that is no reason to purge."""
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    made = await house.workflow(fan_out(5))
    (outcome,) = await engine.start_executions([command(made)])
    await until(lambda: len(executor.seen) == 5)
    await house.freeze(engine)
    await house.pause(8)
    await house.thaw(engine)
    await house.pause(5)
    assert "tasks_revoked" not in engine.counters
    assert engine.counters["tasks"] == 5
    assert outcome.error is None
