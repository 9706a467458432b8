"""Pause, resume, retry and reset: durable before they are answered, idempotent, forwarded."""

import pytest

from bend_server.core.errors import (
    AlreadyExists,
    DependencyDown,
    InvalidInput,
    NotFound,
    WrongState,
)
from bend_server.core.model import ExecutionStatus, TaskStatus
from tests.engine.control import items, own, plan
from tests.engine.house import House, begin, completed, failed, finish, housed, until
from tests.engine.stores import TroubledStore
from tests.kit.plans import Task, chain, make_plan

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
RUNNING, PAUSED = ExecutionStatus.RUNNING, ExecutionStatus.PAUSED


@housed
async def test_a_pause_stops_dispatch_and_keeps_what_runs(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(chain(3))
    started = await begin(engine, plan_)
    await until(lambda: len(executor.seen) == 1)
    execution = started.execution
    assert await engine.pause(execution, reason="lunch", actor="user/ada") == PAUSED
    assert await engine.pause(execution, reason="again", actor="user/ada") == PAUSED
    assert (house.record(execution).status, house.record(execution).pause_reason) == (3, "lunch")
    await house.publish_results(executor, [completed(executor.seen[0])])
    await until(lambda: (0, -1, 1) in house.record(execution).results)
    await house.pause(30)
    assert {task.task for task in executor.seen} == {0}
    executor.handle = completed
    assert await engine.resume(execution, actor="user/ada") == RUNNING
    assert await engine.resume(execution, actor="user/ada") == RUNNING
    assert await finish(engine, execution) == COMPLETED
    assert {task.task for task in executor.seen} == {0, 1, 2}
    with pytest.raises(WrongState):
        await engine.resume(execution, actor="")
    with pytest.raises(WrongState):
        await engine.pause(execution, reason="", actor="")
    with pytest.raises(NotFound):
        await engine.pause(7 << 22, reason="", actor="")


@housed
async def test_a_paused_execution_stays_paused_over_a_crash(house: House) -> None:
    first = await house.engine("e1")
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(chain(2))
    started = await begin(first, plan_)
    await until(lambda: len(executor.seen) == 1)
    await first.pause(started.execution, reason="", actor="")
    await house.crash(first)
    second = await house.engine("e2")
    await house.pause(60)
    assert house.record(started.execution).status == PAUSED
    assert {task.task for task in executor.seen} == {0}
    executor.handle = completed
    assert await second.resume(started.execution, actor="") == RUNNING
    assert await finish(second, started.execution) == COMPLETED


@housed
async def test_a_deadline_stands_still_while_paused(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(make_plan([Task(id="a")], timeout_us=60_000_000))
    started = await begin(engine, plan_)
    await until(lambda: len(executor.seen) == 1)
    await engine.pause(started.execution, reason="", actor="")
    await house.keep_alive(executor, 90)
    assert house.record(started.execution).status == PAUSED
    await engine.resume(started.execution, actor="")
    await house.publish_results(executor, [completed(executor.seen[0])])
    assert await finish(engine, started.execution) == COMPLETED


@housed
async def test_a_paused_and_a_cancelled_wait_do_not_hang(house: House) -> None:
    engine = await house.engine()
    waits = plan(own("rest", "wait", {"duration": "10s"}), Task(id="then", after=["rest"]))
    await house.executor()
    await house.workflow(waits)
    started = await begin(engine, waits)
    await until(lambda: house.record(started.execution).events)
    await engine.pause(started.execution, reason="", actor="")
    await house.pause(60)
    assert house.record(started.execution).results == {}
    await engine.resume(started.execution, actor="")
    assert await finish(engine, started.execution, within_s=5) == COMPLETED


@housed
async def test_a_retry_does_again_what_failed_and_keeps_the_rest(house: House) -> None:
    engine = await house.engine()
    broken = {"on": True}

    def handle(task: object) -> object:
        bad = broken["on"] and task.task == 1  # type: ignore[attr-defined]
        return failed(task, "BOOM") if bad else completed(task)  # type: ignore[arg-type]

    executor = await house.executor(handle)  # type: ignore[arg-type]
    plan_ = await house.workflow(chain(3))
    started = await begin(engine, plan_)
    execution = started.execution
    assert await finish(engine, execution) == FAILED
    seen = len(executor.seen)
    broken["on"] = False
    opened = await engine.retry(execution, reason="fixed", actor="user/ada", request_id="r1")
    assert opened == (RUNNING, 2)
    assert await finish(engine, execution) == COMPLETED
    assert len(executor.seen) == seen + 2
    assert (await engine.retry(execution, reason="fixed", actor="user/ada", request_id="r1"))[
        1
    ] == 2
    with pytest.raises(AlreadyExists):
        await engine.retry(execution, reason="else", actor="user/ada", request_id="r1")
    with pytest.raises(WrongState):
        await engine.retry(execution, reason="", actor="")


@housed
async def test_a_retry_while_it_runs_is_refused(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(chain(1))
    started = await begin(engine, plan_)
    await until(lambda: len(executor.seen) == 1)
    with pytest.raises(WrongState) as caught:
        await engine.retry(started.execution, reason="", actor="")
    assert "RUNNING" in caught.value.message


@housed
async def test_a_retry_keeps_the_items_that_completed(house: House) -> None:
    engine = await house.engine()
    broken = {"on": True}

    def handle(task: object) -> object:
        bad = broken["on"] and task.item == 2  # type: ignore[attr-defined]
        return failed(task, "BOOM") if bad else completed(task)  # type: ignore[arg-type]

    executor = await house.executor(handle)  # type: ignore[arg-type]
    plan_ = await house.workflow(plan(Task(id="all", for_each=items(1, 2, 3, 4))))
    started = await begin(engine, plan_)
    assert await finish(engine, started.execution) == FAILED
    broken["on"] = False
    before = len(executor.seen)
    await engine.retry(started.execution, reason="", actor="")
    assert await finish(engine, started.execution) == COMPLETED
    assert {task.item for task in executor.seen[before:]} <= {2, 3, 4}
    rows = house.record(started.execution).results
    assert rows[0, -1, max(key[2] for key in rows if key[:2] == (0, -1))].status == 5


@housed
async def test_a_reset_goes_back_to_a_task(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor()
    plan_ = await house.workflow(chain(3))
    started = await begin(engine, plan_)
    assert await finish(engine, started.execution) == COMPLETED
    with pytest.raises(InvalidInput):
        await engine.reset(started.execution, task="nobody", reason="", actor="")
    opened = await engine.reset(started.execution, task="t1", reason="why", actor="user/ada")
    assert opened.run == 2
    assert await finish(engine, started.execution) == COMPLETED
    assert [task.task for task in executor.seen] == [0, 1, 2, 1, 2]
    stored = await house.stores.engine.load(started.execution)
    assert stored is not None
    assert (stored.run, stored.status) == (2, COMPLETED)


@housed
async def test_a_crash_after_a_retry_goes_on_in_the_new_run(house: House) -> None:
    first = await house.engine("e1")
    executor = await house.executor(lambda task: failed(task, "BOOM"))
    plan_ = await house.workflow(chain(2))
    started = await begin(first, plan_)
    assert await finish(first, started.execution) == FAILED
    executor.handle = lambda task: None
    await first.retry(started.execution, reason="", actor="", request_id="r")
    await house.crash(first)
    second = await house.engine("e2")
    await until(lambda: len(executor.seen) >= 2)
    executor.handle = completed
    assert (await second.retry(started.execution, reason="", actor="", request_id="r")).run == 2
    await house.publish_results(executor, [completed(executor.seen[-1])])
    assert await finish(second, started.execution) == COMPLETED


@housed
async def test_pausing_and_resuming_in_one_commit_leaves_it_running(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(chain(2))
    started = await begin(engine, plan_)
    await until(lambda: len(executor.seen) == 1)
    state = engine._live.states[started.execution]
    steps, now_us = engine._parts.steps, house.clock.now_us()
    for _ in range(3):
        assert steps.pause(state, "", "", now_us)
        assert steps.unpause(state, "", now_us)
    await engine._commits.after()
    record = house.record(started.execution)
    assert (record.status, record.pause_reason) == (RUNNING, None)
    assert steps.pause(state, "now", "", now_us)
    assert not steps.retry(state, "", "", now_us), "it did not pause because of a failure"
    await engine._commits.after()
    assert (record.status, record.pause_reason) == (PAUSED, "now")


@housed
async def test_commands_find_the_owner(house: House) -> None:
    first = await house.engine("e1")
    second = await house.engine("e2")
    await house.executor()
    await until(lambda: len(second._live.owned) == 32, within_s=120)
    waits = plan(own("hear", "signal", {"name": "go"}), Task(id="then", after=["hear"]))
    await house.workflow(waits)
    started = await begin(second, waits)
    await until(lambda: house.record(started.execution).events)
    assert not first.owns(started.execution)
    assert await first.pause(started.execution, reason="", actor="") == PAUSED
    assert await first.resume(started.execution, actor="") == RUNNING
    assert await first.signal(started.execution, name="go", payload=b"2", actor="")
    assert await finish(first, started.execution) == COMPLETED
    assert house.record(started.execution).results[0, -1, 1].status == TaskStatus.COMPLETED
    opened = await first.reset(started.execution, task="then", reason="", actor="")
    assert opened.run == 2


@housed
async def test_invariant_2_a_refusal_waits_for_what_it_is_based_on(house: House) -> None:
    """Memory says that it has ended; the commit that says so in SQL never happens."""
    store = TroubledStore(house.stores.engine)
    engine = await house.engine(store=store)  # type: ignore[arg-type]
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(chain(1))
    started = await begin(engine, plan_)
    await until(lambda: len(executor.seen) == 1)
    store.fail_before = 1_000_000
    await house.publish_results(executor, [completed(executor.seen[0])])
    with pytest.raises(DependencyDown):
        await engine.pause(started.execution, reason="", actor="")
    store.fail_before = 0
    assert house.record(started.execution).status == RUNNING
