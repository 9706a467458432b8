"""Commit first, and what happens when a commit does not."""

import asyncio

import pytest

from bend_server.core.errors import DependencyDown
from bend_server.core.model import ExecutionStatus
from bend_server.ports.queue import RESULTS, TASKS
from tests.engine.house import House, begin, command, completed, finish, housed, until
from tests.engine.stores import TroubledStore
from tests.kit.plans import chain


@housed
async def test_invariant_2_nothing_is_visible_before_its_commit(house: House) -> None:
    """No answer, no task and no ack may leave while the transaction is open."""
    store = TroubledStore(house.stores.engine)
    engine = await house.engine(store=store)
    executor = await house.executor()
    plan = await house.workflow(chain(2))
    store.gate.clear()
    arrived = store.arrived
    start = asyncio.create_task(begin(engine, plan))
    await until(lambda: store.arrived > arrived)
    await house.pause(5.0)
    assert not start.done()
    assert not executor.seen
    store.gate.set()
    outcome = await start
    # The same for a result: its successor waits, its delivery stays unacked.
    await finish(engine, outcome.execution)
    second = asyncio.create_task(begin(engine, plan))
    outcome = await second
    store.gate.clear()
    await until(lambda: len(executor.seen) == 3)
    await house.pause(5.0)
    assert len(executor.seen) == 3
    assert house.broker.held(RESULTS, "results.>")
    store.gate.set()
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    await until(lambda: not house.broker.held(RESULTS, "results.>"))
    await until(lambda: not house.broker.held(TASKS, "tasks.>"))


@housed
async def test_watchers_hear_after_the_commit(house: House) -> None:
    store = TroubledStore(house.stores.engine)
    engine = await house.engine(store=store)
    plan = await house.workflow(chain(1))
    outcome = await begin(engine, plan)
    wakes: list[int] = []

    async def watch() -> None:
        async for _ in engine.watch(outcome.execution):
            wakes.append(len(house.record(outcome.execution).results))  # noqa: PERF401

    task = asyncio.create_task(watch())
    await until(lambda: len(wakes) == 1)
    await house.executor()
    await until(lambda: wakes[-1] == 1)
    task.cancel()
    assert engine.live_count() == 0


@pytest.mark.parametrize("written", [False, True])
def test_an_unknown_outcome_reloads_from_sql(written: bool) -> None:
    """A blind retry would collide with rows that did arrive; giving up would lose them."""

    @housed
    async def story(house: House) -> None:
        store = TroubledStore(house.stores.engine)
        engine = await house.engine(store=store)
        executor = await house.executor()
        plan = await house.workflow(chain(3))
        outcomes = await engine.start_executions([command(plan) for _ in range(20)])
        if written:
            store.fail_after = 1
        else:
            store.fail_before = 1
        for outcome in outcomes:
            assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
            record = house.record(outcome.execution)
            assert sorted(row.seq for row in record.results.values()) == [1, 2, 3]
        assert engine.counters["memory_dropped"] == 1
        assert len({(task.execution, task.task) for task in executor.seen}) == 60

    story()


@housed
async def test_sql_may_be_away_for_long(house: House) -> None:
    store = TroubledStore(house.stores.engine)
    engine = await house.engine(store=store)
    await house.executor()
    plan = await house.workflow(chain(3))
    outcome = await begin(engine, plan)
    store.fail_before = 6
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert engine.ready


@housed
async def test_a_duplicate_is_acked_after_a_fenced_commit(house: House) -> None:
    """An engine that lost its lease must not ack: the new owner would never see the result."""
    store = TroubledStore(house.stores.engine)
    engine = await house.engine(store=store)
    executor = await house.executor()
    plan = await house.workflow(chain(1))
    outcome = await begin(engine, plan)
    await finish(engine, outcome.execution)
    store.gate.clear()
    await house.publish_results(executor, [completed(executor.seen[0])])
    await house.pause(1.0)
    assert house.broker.held(RESULTS, "results.>")
    store.gate.set()
    await until(lambda: not house.broker.held(RESULTS, "results.>"))


@housed
async def test_stop_flushes_and_releases(house: House) -> None:
    engine = await house.engine()
    await house.executor()
    plan = await house.workflow(chain(1))
    outcome = await begin(engine, plan)
    await finish(engine, outcome.execution)
    await engine.stop()
    assert not engine.ready
    assert not house.database.leases
    with pytest.raises(DependencyDown):
        await engine.start_executions([command(plan)])
