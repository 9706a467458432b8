"""Nothing waits for ever by default."""

from dataclasses import replace

import orjson

from bend_server.core import limits
from bend_server.core.model import ExecutionStatus, TaskStatus
from bend_server.core.plan import RetryPolicy
from tests.engine.house import House, begin, completed, failed, finish, housed, until
from tests.kit.plans import Task, chain, make_plan

RETRY = RetryPolicy(attempts_max=3, initial_us=4_000_000, multiplier=2.0, jitter=False)


@housed
async def test_retries_come_when_they_are_due(house: House) -> None:
    engine = await house.engine()
    times: list[int] = []

    def handle(task: object) -> object:
        times.append(house.clock.now_us())
        if task.attempt < 3:  # type: ignore[attr-defined]
            return failed(task, retryable=True)  # type: ignore[arg-type]
        return completed(task)  # type: ignore[arg-type]

    executor = await house.executor(handle)  # type: ignore[arg-type]
    plan = await house.workflow(make_plan([Task(id="a", retry=RETRY)]))
    outcome = await begin(engine, plan)
    await until(lambda: len(times) == 1)
    await house.pause(1)
    (overlay,) = engine.waiting(outcome.execution)
    assert overlay.waiting.startswith("retry at 2")
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert 4.0 <= (times[1] - times[0]) / 1e6 < 4.2
    assert 8.0 <= (times[2] - times[1]) / 1e6 < 8.2
    assert [getattr(task, "try") for task in executor.seen] == [1, 2, 3]


@housed
async def test_an_execution_times_out(house: House) -> None:
    engine = await house.engine()
    await house.executor(lambda task: None)
    plan = await house.workflow(make_plan([Task(id="a")], timeout_us=30_000_000))
    begun = house.clock.now_us()
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.TIMED_OUT
    grace_us = limits.CANCEL_GRACE_US
    assert 30_000_000 + grace_us <= house.clock.now_us() - begun < 33_000_000 + grace_us


@housed
async def test_a_long_execution_times_out(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(chain(1))
    begun = house.clock.now_us()
    outcome = await begin(engine, replace(plan, timeout_us=1))
    late = limits.EXECUTION_TIMEOUT_US / 1e6 + 60
    task = replace(plan.tasks[0], schedule_timeout_us=limits.EXECUTION_TIMEOUT_US * 2)
    house.plans.plans["default", "w", 1] = replace(plan, tasks=(task,))
    second = await begin(engine, plan)
    assert await finish(engine, outcome.execution, late) == ExecutionStatus.FAILED
    assert await finish(engine, second.execution, late) == ExecutionStatus.TIMED_OUT
    assert house.clock.now_us() - begun < (late + 60) * 1e6


@housed
async def test_a_task_that_nobody_takes_fails(house: House) -> None:
    engine = await house.engine()
    plan = chain(1)
    task = replace(plan.tasks[0], schedule_timeout_us=20_000_000, major=3)
    plan = await house.workflow(replace(plan, tasks=(task,)))
    begun = house.clock.now_us()
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.FAILED
    assert 20.0 <= (house.clock.now_us() - begun) / 1e6 < 20.5
    error = house.record(outcome.execution).results[0, -1, 1].error
    assert error is not None
    body = orjson.loads(error)
    assert body["reason"] == "SCHEDULE_TIMEOUT"
    assert "no instance of test.echo@3" in body["message"]


@housed
async def test_invariant_6_an_executor_that_never_answers_is_overruled(house: House) -> None:
    """The executor measures attempts; when it fails to, the engine's backstop ends them."""
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    base = make_plan([Task(id="a", timeout_us=5_000_000)])
    task = replace(base.tasks[0], schedule_timeout_us=60_000_000)
    plan = await house.workflow(replace(base, tasks=(task,)))
    begun = house.clock.now_us()
    outcome = await begin(engine, plan)
    assert await finish(engine, outcome.execution) == ExecutionStatus.FAILED
    row = house.record(outcome.execution).results[0, -1, 1]
    assert row.status == TaskStatus.TIMED_OUT
    assert 95.0 <= (house.clock.now_us() - begun) / 1e6 < 100
    assert len(executor.seen) >= 1


@housed
async def test_a_hint_of_the_start_makes_the_backstop_exact(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(make_plan([Task(id="a", timeout_us=5_000_000)]))
    begun = house.clock.now_us()
    outcome = await begin(engine, plan)
    await until(lambda: len(executor.seen) == 1)
    await executor.started(executor.seen[0], "w7")
    await house.pause(1)
    (overlay,) = engine.waiting(outcome.execution)
    assert (overlay.status, overlay.worker) == (TaskStatus.RUNNING, "w7")
    assert await finish(engine, outcome.execution) == ExecutionStatus.FAILED
    assert 35.0 <= (house.clock.now_us() - begun) / 1e6 < 40


@housed
async def test_the_sweeper_ends_what_a_lost_timer_left(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(make_plan([Task(id="a")], timeout_us=1_000_000_000))
    outcome = await begin(engine, plan)
    engine._timers.clear()
    await house.pause(1000 + 301 + 300)
    assert house.record(outcome.execution).status == ExecutionStatus.TIMED_OUT
    assert engine.counters["swept"] == 1


@housed
async def test_old_executions_are_forgotten_with_their_blobs(house: House) -> None:
    engine = await house.engine(retention_us=3_600_000_000, retention_s=600)
    await house.executor()
    plan = await house.workflow(chain(1))
    outcome = await begin(engine, plan, request_id="r1")
    await finish(engine, outcome.execution)
    await house.blobs.put(f"default/{outcome.execution}", b"large")
    await house.pause(3000)
    assert house.database.executions
    await house.pause(1800)
    assert not house.database.executions
    assert not house.blobs.data
