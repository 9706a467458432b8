"""After a crash: SQL tells what is open, the queue what is on its way."""

import asyncio
from typing import Any
from unittest.mock import patch

from bend.internal.v1 import control_pb2
from bend_server.core.model import ExecutionStatus
from bend_server.engine.recovery import Recovery
from bend_server.ports.engine import StartOutcome
from bend_server.ports.queue import RESULTS, TASKS
from bend_server.queue.memory import MemoryQueue
from tests.engine.house import (
    FakeExecutor,
    House,
    begin,
    command,
    completed,
    fan_out,
    finish,
    housed,
    until,
)
from tests.kit.plans import chain


async def crashed_with_ten(house: House) -> tuple[FakeExecutor, list[StartOutcome]]:
    """Crash an engine whose ten executions of one task are all with an executor."""
    first = await house.engine("e1")
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(chain(1))
    outcomes = await first.start_executions([command(plan) for _ in range(10)])
    await until(lambda: len(executor.seen) == 10)
    await house.crash(first)
    return executor, outcomes


@housed
async def test_a_restart_goes_on_where_it_was(house: House) -> None:
    first = await house.engine("e1")
    executor = await house.executor(lambda task: completed(task) if task.task < 2 else None)
    plan = await house.workflow(chain(4))
    outcomes = await first.start_executions([command(plan) for _ in range(30)])
    await until(lambda: len(executor.seen) == 90)
    await house.crash(first)
    executor.handle = completed
    second = await house.engine("e2")
    await house.publish_results(executor, [completed(task) for task in executor.seen[60:]])
    for outcome in outcomes:
        assert await finish(second, outcome.execution) == ExecutionStatus.COMPLETED
        assert len(house.record(outcome.execution).results) == 4
    # Nothing that was out was handed out again.
    assert len(executor.seen) == 120


@housed
async def test_results_that_waited_count_at_once(house: House) -> None:
    """Results that nobody committed are found in RESULTS, not run again."""
    executor, outcomes = await crashed_with_ten(house)
    await house.publish_results(executor, [completed(task) for task in executor.seen])
    for stored in house.broker.held(TASKS, "tasks.>"):
        house.broker.streams[TASKS].remove(stored.sequence)
    second = await house.engine("e2")
    for outcome in outcomes:
        assert await finish(second, outcome.execution) == ExecutionStatus.COMPLETED
    assert len(executor.seen) == 10
    await until(lambda: not house.broker.held(RESULTS, "results.>"))


@housed
async def test_no_try_is_said_open_before_the_results_were_read(house: House) -> None:
    """An executor that was killed with the engine asks what to run again while it recovers."""
    executor, outcomes = await crashed_with_ten(house)
    # The dead engine was sent them, so they come by no lane soon.
    dead = MemoryQueue(house.broker, "dead")
    (await dead.consume(RESULTS, "results.0", "r-0", 10, None)).demand(9)
    await house.publish_results(executor, [completed(task) for task in executor.seen])
    dead.disconnect()
    request = control_pb2.OpenKeysRequest()
    for outcome in outcomes:
        request.keys.add(execution=outcome.execution, task=0, **{"try": 1})
    state = control_pb2.OpenKeysResponse.State
    asked = asyncio.Event()
    scan = Recovery._scan_results

    async def late(recovery: Recovery) -> None:
        await asked.wait()
        await scan(recovery)

    async def ask() -> list[int]:
        data = await executor.queue.request("engine.open.0", request.SerializeToString(), 2.0)
        return list(control_pb2.OpenKeysResponse.FromString(data).states)

    with patch.object(Recovery, "_scan_results", late):
        starting = asyncio.create_task(house.engine("e2"))
        await until(lambda: len(house.engines) == 1 and len(house.engines[0]._live.states) == 10)
        said = await ask()
        asked.set()
        await starting
    assert said == [state.NOT_MINE] * 10
    assert await ask() == [state.CLOSED] * 10


@housed
async def test_what_is_in_neither_stream_is_handed_out_with_the_same_try(house: House) -> None:
    first = await house.engine("e1")
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(chain(1))
    outcome = await begin(first, plan)
    await until(lambda: len(executor.seen) == 1)
    await house.crash(first)
    for stored in house.broker.held(TASKS, "tasks.>"):
        house.broker.streams[TASKS].remove(stored.sequence)
    executor.handle = completed
    second = await house.engine("e2")
    assert await finish(second, outcome.execution) == ExecutionStatus.COMPLETED
    assert [getattr(task, "try") for task in executor.seen] == [1, 1]


@housed
async def test_invariant_1_a_wiped_queue_heals(house: House) -> None:
    """SQL is the truth: losing the whole JetStream store loses nothing."""
    engine = await house.engine()
    held: list[Any] = []

    def handle(task: Any) -> Any:
        if len(held) < 40:
            held.append(task)
            return None
        return completed(task)

    executor = await house.executor(handle)
    plan = await house.workflow(fan_out(60))
    outcome = await begin(engine, plan)
    await until(lambda: len(held) == 40)
    house.broker.wipe()
    assert await finish(engine, outcome.execution, 60) == ExecutionStatus.COMPLETED
    record = house.record(outcome.execution)
    assert len(record.results) == 61
    assert {row.try_ for row in record.results.values()} == {1}
    assert len(executor.seen) >= 61


@housed
async def test_a_lost_frame_is_found_by_the_resync(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(chain(1))
    outcome = await begin(engine, plan)
    await until(lambda: len(executor.seen) == 1)
    for stored in house.broker.held(TASKS, "tasks.>"):
        house.broker.streams[TASKS].remove(stored.sequence)
    executor.handle = completed
    assert await finish(engine, outcome.execution, 61) == ExecutionStatus.COMPLETED
    assert engine.counters["tasks_lost"] == 1


@housed
async def test_the_resync_leaves_healthy_tasks_alone(house: House) -> None:
    """A long task holds its frame for hours: it must not be started twice."""
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(chain(1))
    await begin(engine, plan)
    await until(lambda: len(executor.seen) == 1)
    await house.keep_alive(executor, 120)
    await engine._recovery.resync(everything=True)
    assert len({(task.execution, task.task) for task in executor.seen}) == 1
    assert "tasks_lost" not in engine.counters


@housed
async def test_a_hundred_thousand_waiting_restart(house: House) -> None:
    """A smaller copy of the restart promise: all of them go on, none twice."""
    first = await house.engine("e1")
    plan = await house.workflow(chain(1))
    for _ in range(3):
        await first.start_executions([command(plan) for _ in range(1000)])
    await house.crash(first)
    second = await house.engine("e2")
    assert second.live_count() == 3000
    assert second.waiting_count() == 3000
    executor = await house.executor()
    await until(lambda: second.live_count() == 0)
    assert len(executor.seen) == 3000


@housed
async def test_finishing_work_that_a_crash_left_is_done_at_recovery(house: House) -> None:
    first = await house.engine("e1")
    executor = await house.executor()
    plan = await house.workflow(chain(2))
    outcome = await begin(first, plan)
    await finish(first, outcome.execution)
    await house.crash(first)
    record = house.record(outcome.execution)
    record.finish, record.status = None, ExecutionStatus.RUNNING
    second = await house.engine("e2")
    assert await finish(second, outcome.execution, 5) == ExecutionStatus.COMPLETED
    assert len(executor.seen) == 2
