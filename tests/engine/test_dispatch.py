"""Hand-out: routing, windows, frames, fairness, and tasks that nobody takes."""

import asyncio
from dataclasses import replace

import orjson

from bend_server.core import limits
from bend_server.core.model import ExecutionStatus, TaskStatus
from bend_server.core.plan import ConcurrencyPlan, ConcurrencyStrategy, Rendered
from bend_server.ports.queue import TASKS
from tests.engine.house import (
    House,
    begin,
    command,
    completed,
    fan_out,
    finish,
    housed,
    until,
)
from tests.kit.plans import Task, chain, make_plan


@housed
async def test_without_an_instance_a_task_waits_and_says_why(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(chain(1))
    outcome = await begin(engine, plan)
    await house.pause(20)
    (overlay,) = engine.waiting(outcome.execution)
    assert overlay.status == TaskStatus.WAITING
    assert overlay.waiting == "no instance of test.echo"
    assert not house.broker.held(TASKS, "tasks.>")
    await house.executor()
    assert await finish(engine, outcome.execution, 5) == ExecutionStatus.COMPLETED


@housed
async def test_the_newest_live_version_gets_the_task(house: House) -> None:
    engine = await house.engine()
    old = await house.executor(name="old", version="1.9.0")
    new = await house.executor(name="new", version="1.10.0")
    await house.executor(name="pre", version="1.10.0-rc1")
    plan = await house.workflow(chain(1))
    await finish(engine, (await begin(engine, plan)).execution)
    assert (len(old.seen), len(new.seen)) == (0, 1)
    await new.announce(leaving=True)
    await new.stop()
    await house.pause(0.1)
    await finish(engine, (await begin(engine, plan)).execution)
    assert len(new.seen) == 1


@housed
async def test_pins_labels_and_namespaces_choose(house: House) -> None:
    """An instance of one namespace never gets another's task."""
    engine = await house.engine()
    other = await house.executor(name="other", namespace="elsewhere", version="9.0.0")
    plain = await house.executor(name="plain", version="2.5.0")
    gpu = await house.executor(name="gpu", version="1.0.0", labels={"gpu": "yes", "zone": "a"})
    base = make_plan([Task(id="a")])
    task = base.tasks[0]
    pinned = replace(base, workflow="pinned", tasks=(replace(task, major=2),))
    label = replace(base, workflow="label", tasks=(replace(task, requires=(("gpu", "yes"),)),))
    exact = replace(base, workflow="exact", tasks=(replace(task, exact_version="1.0.0"),))
    for plan, executor in ((pinned, plain), (label, gpu), (exact, gpu)):
        before = len(executor.seen)
        await house.workflow(plan)
        await finish(engine, (await begin(engine, plan)).execution, 5)
        assert len(executor.seen) == before + 1
    assert not other.seen


@housed
async def test_the_window_bounds_what_is_out(house: House) -> None:
    """What is in the queue can no longer be ordered, cancelled or moved cheaply."""
    engine = await house.engine(window_tasks_min=16)
    executor = await house.executor(lambda task: None, credit=4)
    plan = await house.workflow(fan_out(100))
    outcome = await begin(engine, plan)
    await house.pause(2)
    assert len(executor.seen) == 16
    assert engine.waiting_count() == 84
    waiting = [one for one in engine.waiting(outcome.execution) if one.waiting]
    assert len(waiting) == 84
    assert "busy" in waiting[0].waiting
    await house.publish_results(executor, [completed(task) for task in executor.seen[:10]])
    await until(lambda: len(executor.seen) == 26)


@housed
async def test_a_task_on_its_way_out_waits_for_no_instance(house: House) -> None:
    """Its large input is being stored: it has left its lane, and no window has it yet."""
    engine = await house.engine()
    await house.executor()
    large = b'"' + b"x" * (limits.INLINE_BYTES_MAX + 1) + b'"'
    plan = await house.workflow(make_plan([Task(id="a", render=lambda scope: Rendered(large))]))
    put, reached, go_on = house.blobs.put, asyncio.Event(), asyncio.Event()

    async def slow(prefix: str, data: bytes) -> str:
        reached.set()
        await go_on.wait()
        return await put(prefix, data)

    house.blobs.put = slow  # type: ignore[method-assign]
    outcome = await begin(engine, plan)
    await reached.wait()
    (task,) = engine.waiting(outcome.execution)
    assert (task.status, task.waiting) == (TaskStatus.SCHEDULED, "")
    go_on.set()
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED


@housed
async def test_frames_grow_with_the_load(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor()
    plan = await house.workflow(fan_out(600))
    await finish(engine, (await begin(engine, plan)).execution)
    sizes = [len(frame.tasks) for frame in executor.frames]
    assert max(sizes) == 128
    assert sizes[-1] == 1


@housed
async def test_each_executor_gets_two_frames_of_what_waits(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(fan_out(60))
    serving = [await house.executor(name="x1")]
    await finish(engine, (await begin(engine, plan)).execution)
    assert [len(frame.tasks) for frame in serving[0].frames] == [30, 30, 1]
    serving += [await house.executor(name=name) for name in ("x2", "x3")]
    serving[0].frames.clear()
    await finish(engine, (await begin(engine, plan)).execution)
    sizes = [len(frame.tasks) for executor in serving for frame in executor.frames]
    assert sorted(sizes) == [1, *[10] * 6]


@housed
async def test_small_instances_get_small_frames(house: House) -> None:
    """A frame belongs to one executor: the other instances would have nothing to do."""
    engine = await house.engine()
    executor = await house.executor(credit=8)
    plan = await house.workflow(fan_out(200))
    await finish(engine, (await begin(engine, plan)).execution)
    assert max(len(frame.tasks) for frame in executor.frames) == 4


@housed
async def test_long_running_components_get_single_tasks(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(long_running=True)
    plan = await house.workflow(fan_out(40))
    await finish(engine, (await begin(engine, plan)).execution)
    assert {len(frame.tasks) for frame in executor.frames} == {1}


@housed
async def test_a_wide_fan_out_does_not_starve_others(house: House) -> None:
    engine = await house.engine(window_tasks_min=32)
    executor = await house.executor(credit=16)
    wide = await house.workflow(fan_out(3000, workflow="wide"))
    small = await house.workflow(chain(1))
    await begin(engine, wide)
    outcome = await begin(engine, small)
    await finish(engine, outcome.execution)
    assert len(executor.seen) < 300


@housed
async def test_a_busy_concurrency_key_does_not_starve_others(house: House) -> None:
    """Many executions of one key take turns as one; those of another key get as much."""
    engine = await house.engine(window_tasks_min=8)
    keyed = ConcurrencyPlan(
        lambda scope: str(orjson.loads(scope.input)["key"]), 100, ConcurrencyStrategy.QUEUE
    )
    plan = await house.workflow(replace(fan_out(40), concurrency=keyed, plain=False))
    busy = [await begin(engine, plan, input=b'{"key":"busy"}') for _ in range(10)]
    calm = await begin(engine, plan, input=b'{"key":"calm"}')
    executor = await house.executor(credit=4)
    await finish(engine, calm.execution)
    assert len(executor.seen) < 4 * 41
    for one in busy:
        assert await finish(engine, one.execution) == ExecutionStatus.COMPLETED


@housed
async def test_priority_shares_by_weight_and_starves_nobody(house: House) -> None:
    engine = await house.engine(window_tasks_min=8)
    urgent = await house.workflow(replace(fan_out(400, workflow="urgent"), priority=1))
    lazy = await house.workflow(replace(fan_out(400, workflow="lazy"), priority=9))
    first = await begin(engine, lazy)
    second = await begin(engine, urgent)
    executor = await house.executor(credit=4)
    await until(lambda: len(executor.seen) > 300)
    lazy_seen = sum(task.execution == first.execution for task in executor.seen[:300])
    assert 15 <= lazy_seen <= 80
    assert await finish(engine, second.execution) == ExecutionStatus.COMPLETED


@housed
async def test_a_vanished_group_gives_its_tasks_back(house: House) -> None:
    """The tasks go elsewhere with the same try; nothing waits in a queue that nobody reads."""
    engine = await house.engine()
    dead = await house.executor(lambda task: None, name="dead", version="2.0.0")
    plan = await house.workflow(fan_out(20))
    outcome = await begin(engine, plan)
    await until(lambda: len(dead.seen) == 20)
    await dead.stop()
    alive = await house.executor(name="alive", version="1.0.0")
    assert await finish(engine, outcome.execution, 60) == ExecutionStatus.COMPLETED
    assert {getattr(task, "try") for task in alive.seen} == {1}
    assert not house.broker.held(TASKS, "tasks.>")


@housed
async def test_frames_say_what_a_task_may(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor()
    plan = await house.workflow(make_plan([Task(id="only", timeout_us=5_000_000)]))
    now_us = house.clock.now_us()
    outcome = await begin(engine, plan, trace="00-aa-bb-01")
    await finish(engine, outcome.execution)
    (frame,) = executor.frames
    (task,) = frame.tasks
    assert (frame.namespace, frame.group, frame.slot) == ("default", executor.group, 0)
    assert (task.execution_id, task.task_id) == (outcome.public_id, "only")
    assert (task.timeout_ms, task.heartbeat_timeout_ms) == (5000, 30_000)
    assert (task.attempt, getattr(task, "try"), task.item) == (1, 1, 0)
    assert task.traceparent == "00-aa-bb-01"
    assert task.schedule_deadline_us - now_us == plan.tasks[0].schedule_timeout_us
    assert task.component == "test.echo"


@housed
async def test_the_queue_may_be_away_for_long(house: House) -> None:
    engine = await house.engine()
    await house.executor()
    plan = await house.workflow(chain(2))
    engine._queue.disconnect()  # type: ignore[attr-defined]
    outcomes = await engine.start_executions([command(plan) for _ in range(5)])
    await house.pause(60)
    assert not engine.ready
    engine._queue.reconnect()  # type: ignore[attr-defined]
    for outcome in outcomes:
        assert await finish(engine, outcome.execution, 120) == ExecutionStatus.COMPLETED
