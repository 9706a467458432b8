"""One writer per execution: leases, takeover, hand-over, forwarding."""

import asyncio
from dataclasses import replace
from unittest.mock import patch

from bend.internal.v1 import control_pb2
from bend_server.core.ids import PARTITIONS, partition_of
from bend_server.core.model import ExecutionStatus
from bend_server.engine.adoption import Adoption
from bend_server.ports.queue import RESULTS
from tests.engine.house import (
    House,
    begin,
    command,
    completed,
    finish,
    housed,
    until,
)
from tests.engine.stores import TroubledStore
from tests.kit.plans import chain


def _owned(engine: object) -> int:
    return len(engine._live.owned)  # type: ignore[attr-defined]


@housed
async def test_two_engines_share_the_partitions(house: House) -> None:
    first = await house.engine("e1")
    assert _owned(first) == PARTITIONS
    second = await house.engine("e2")
    await until(lambda: _owned(first) == 32 and _owned(second) == 32)
    await house.executor()
    plan = await house.workflow(chain(3))
    mine = await first.start_executions([command(plan) for _ in range(50)])
    theirs = await second.start_executions([command(plan) for _ in range(50)])
    for outcome in mine:
        assert await finish(first, outcome.execution) == ExecutionStatus.COMPLETED
        assert partition_of(outcome.execution) in first._live.owned
    for outcome in theirs:
        assert await finish(second, outcome.execution) == ExecutionStatus.COMPLETED
        assert partition_of(outcome.execution) in second._live.owned


@housed
async def test_partitions_are_given_away_with_work_in_them(house: House) -> None:
    """Running work goes on at the new owner; its results find the way there."""
    first = await house.engine("e1")
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(chain(2))
    outcomes = await first.start_executions([command(plan) for _ in range(64)])
    await until(lambda: len(executor.seen) == 64)
    second = await house.engine("e2")
    await until(lambda: _owned(second) == 32)
    executor.handle = completed
    # They answer to the lane that the frames named: the first engine's.
    await house.publish_results(executor, [completed(task) for task in executor.seen[:64]])
    for outcome in outcomes:
        owner = first if first.owns(outcome.execution) else second
        assert await finish(owner, outcome.execution) == ExecutionStatus.COMPLETED
    assert first.counters["results_forwarded"] == 32
    assert second.counters["finished"] == 32
    # Nobody handed anything out twice: what was seen again was delivered again by the queue.
    assert first.counters["tasks"] + second.counters["tasks"] == 128


@housed
async def test_a_replica_takes_over_at_once_what_its_predecessor_left(house: House) -> None:
    """A supervisor starts an engine only when the last one has ended: no lease to wait for."""
    first = await house.engine("r1/a", replica="r1/")
    other = await house.engine("r2/a", replica="r2/")
    await until(lambda: _owned(first) == 32 and _owned(other) == 32)
    await house.crash(first)
    second = await house.engine("r1/b", replica="r1/")
    # Less than a third of a lease's life, in which the other engine would not even have looked.
    await until(lambda: _owned(second) == 32, 1)
    assert _owned(other) == 32
    names = [lease.engine for lease in await house.stores.engine.leases()]
    assert sorted(names) == ["r1/b", "r2/a"]


@housed
async def test_a_dead_engine_is_taken_over(house: House) -> None:
    first = await house.engine("e1")
    second = await house.engine("e2")
    await until(lambda: _owned(first) == 32 and _owned(second) == 32)
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(chain(2))
    outcomes = await first.start_executions([command(plan) for _ in range(20)])
    await until(lambda: len(executor.seen) == 20)
    await house.crash(first)
    executor.handle = completed
    await house.publish_results(executor, [completed(task) for task in executor.seen[:20]])
    await until(lambda: _owned(second) == PARTITIONS, 60)
    for outcome in outcomes:
        assert await finish(second, outcome.execution) == ExecutionStatus.COMPLETED
    assert len(executor.seen) == 40
    # The dead engine's lane is drained, too.
    await until(lambda: not house.broker.held(RESULTS, "results.>"))


@housed
async def test_invariant_3_a_stale_owner_writes_nothing(house: House) -> None:
    """An engine that was stopped for a minute wakes up with results in its hands."""
    store = TroubledStore(house.stores.engine)
    first = await house.engine("e1", store=store)
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(chain(1))
    outcomes = await first.start_executions([command(plan) for _ in range(10)])
    await until(lambda: len(executor.seen) == 10)
    stale = len(store.commits)
    store.gate.clear()
    await house.publish_results(executor, [completed(task) for task in executor.seen])
    await house.freeze(first)
    await house.pause(30)
    second = await house.engine("e2")
    for outcome in outcomes:
        assert await finish(second, outcome.execution) == ExecutionStatus.COMPLETED
    store.gate.set()
    await house.thaw(first)
    await until(lambda: first.counters.get("memory_dropped", 0) > 0)
    rows_written = [row for batch in store.commits[stale:] for row in batch.results]
    assert not rows_written
    for outcome in outcomes:
        assert len(house.record(outcome.execution).results) == 1
    await until(lambda: first.ready and second.ready and _owned(first) == 32, 120)


@housed
async def test_waits_work_at_any_engine(house: House) -> None:
    first = await house.engine("e1")
    plan = await house.workflow(chain(1))
    outcomes = await first.start_executions([command(plan) for _ in range(8)])
    second = await house.engine("e2")
    await until(lambda: _owned(second) == 32)
    ids = [outcome.execution for outcome in outcomes]
    ended: list[int] = []

    async def listen() -> None:
        async for batch in second.ended(ids):
            ended.extend(one.execution for one in batch)

    task = asyncio.create_task(listen())
    await house.pause(1)
    begun = house.clock.now_us()
    await house.executor()
    await task
    assert sorted(ended) == sorted(ids)
    assert house.clock.now_us() - begun < 5_000_000


@housed
async def test_open_keys_are_answered(house: House) -> None:
    """Executors drop a redelivered task only when its owner says that it is closed."""
    first = await house.engine("e1")
    executor = await house.executor(lambda task: completed(task) if task.task == 0 else None)
    plan = await house.workflow(chain(2))
    outcome = await begin(first, plan)
    await until(lambda: len(executor.seen) == 2)
    done = await begin(first, await house.workflow(replace(chain(1), workflow="short")))
    await finish(first, done.execution)
    request = control_pb2.OpenKeysRequest()
    for execution, task, try_ in (
        (outcome.execution, 0, 1),
        (outcome.execution, 1, 1),
        (outcome.execution, 1, 2),
        (outcome.execution, 99, 1),
        (done.execution, 0, 1),
    ):
        request.keys.add(execution=execution, task=task, **{"try": try_})
    data = await executor.queue.request("engine.open.0", request.SerializeToString(), 2.0)
    response = control_pb2.OpenKeysResponse.FromString(data)
    state = control_pb2.OpenKeysResponse.State
    assert list(response.states) == [
        state.CLOSED,
        state.OPEN,
        state.CLOSED,
        state.CLOSED,
        state.CLOSED,
    ]
    second = await house.engine("e2")
    await until(lambda: _owned(second) == 32)
    data = await executor.queue.request("engine.open.1", request.SerializeToString(), 2.0)
    response = control_pb2.OpenKeysResponse.FromString(data)
    lost = [state.NOT_MINE in response.states, first.owns(outcome.execution)]
    assert lost in ([True, True], [False, False])
    assert response.epoch > 0


@housed
async def test_old_frames_of_many_ended_executions_cost_one_reading(house: House) -> None:
    """A killed queue brings acked frames back; the engine, started with it, remembers none."""
    first = await house.engine("e1")
    executor = await house.executor()
    plan = await house.workflow(chain(1))
    ids = [(await begin(first, plan)).execution for _ in range(20)]
    for execution in ids:
        await finish(first, execution)
    await house.crash(first)
    await house.engine("e2")
    request = control_pb2.OpenKeysRequest()
    for execution in (*ids, ids[0] + 64):
        request.keys.add(execution=execution, task=0, **{"try": 1})
    with patch.object(Adoption, "load", autospec=True, return_value=None) as load:
        data = await executor.queue.request("engine.open.0", request.SerializeToString(), 2.0)
    response = control_pb2.OpenKeysResponse.FromString(data)
    assert set(response.states) == {control_pb2.OpenKeysResponse.CLOSED}
    assert len(response.states) == 21
    # Only what SQL does not know as ended.
    assert load.await_count == 1


@housed
async def test_a_late_result_in_a_dead_lane_is_drained(house: House) -> None:
    """It came after the takeover, on a lane that this engine never saw alive."""
    engine = await house.engine()
    executor = await house.executor()
    plan = await house.workflow(chain(1))
    outcome = await begin(engine, plan)
    await finish(engine, outcome.execution)
    await house.publish_results(executor, [completed(executor.seen[0])], slot=9)
    await until(lambda: not house.broker.held(RESULTS, "results.>"), 120)
    assert engine.counters["results_stale"] == 1
