"""Children with a concurrency key of their own, which another engine decides about."""

import orjson

from bend.internal.v1.frames_pb2 import QueuedResult, QueuedTask
from bend_server.core.model import ExecutionStatus, Phase
from bend_server.core.plan import ConcurrencyPlan, ConcurrencyStrategy, Plan, Scope
from bend_server.engine import Engine
from tests.engine.control import items, own, plan
from tests.engine.house import House, begin, completed, failed, finish, housed, until
from tests.kit.plans import Task

COMPLETED, FAILED = ExecutionStatus.COMPLETED, ExecutionStatus.FAILED
CANCELLED = ExecutionStatus.CANCELLED
MANY = 12


def first_item(scope: Scope) -> str:
    """Read the key from the parameters."""
    return str(orjson.loads(scope.input)["key"])


async def two_engines(house: House) -> tuple[Engine, Engine]:
    first, second = await house.engine("e1"), await house.engine("e2")
    await until(lambda: len(second._live.owned) == 32, within_s=120)
    return first, second


async def family(house: House, *more: Task, **fields: object) -> Plan:
    """Make a parent known whose children have keys in many partitions.

    Args:
        more: tasks that each child has beside `work`.
    """
    concurrency = ConcurrencyPlan(first_item, 1, ConcurrencyStrategy.QUEUE)
    await house.workflow(plan(Task(id="work"), *more, workflow="child", concurrency=concurrency))
    calls = [
        own(f"call{n}", "workflow", {"workflow": "child", "input": {"key": n}}, **fields)
        for n in range(MANY)
    ]
    return await house.workflow(plan(*calls, workflow="parent"))


def children_of(house: House, parent: int) -> list[int]:
    records = house.database.executions.items()
    return [number for number, record in sorted(records) if record.start.parent == parent]


@housed
async def test_children_start_where_their_keys_are_decided(house: House) -> None:
    first, second = await two_engines(house)
    await house.executor()
    parent = await family(house)
    started = await begin(first, parent)
    assert await finish(first, started.execution, within_s=60) == COMPLETED
    children = children_of(house, started.execution)
    assert len(children) == MANY
    assert {second.owns(child) for child in children} == {True, False}
    assert not house.database.control.letters


@housed
async def test_a_letter_survives_its_receiver(house: House) -> None:
    first, second = await two_engines(house)
    await house.executor()
    parent = await family(house)
    await house.crash(second)
    started = await begin(first, parent)
    await until(lambda: len(children_of(house, started.execution)) < MANY)
    assert await finish(first, started.execution, within_s=120) == COMPLETED
    assert len(children_of(house, started.execution)) == MANY


@housed
async def test_a_letter_survives_its_sender(house: House) -> None:
    first, second = await two_engines(house)
    await house.executor()
    parent = await family(house)
    started = await begin(first, parent)
    await until(lambda: bool(house.record(started.execution).events))
    await house.crash(first)
    assert await finish(second, started.execution, within_s=120) == COMPLETED
    assert len(children_of(house, started.execution)) == MANY


@housed
async def test_failures_and_cancels_cross_engines(house: House) -> None:
    first, second = await two_engines(house)
    executor = await house.executor(failed)
    parent = await family(house, allow_failure=True)
    started = await begin(first, parent)
    await finish(first, started.execution, within_s=60)
    children = children_of(house, started.execution)
    assert len(children) == MANY
    assert {house.record(child).status for child in children} == {FAILED}
    executor.handle = lambda task: None
    again = await begin(first, parent)
    await until(lambda: len(children_of(house, again.execution)) == MANY)
    await house.pause(1)
    await first.cancel(again.execution, reason="", actor="", request_id="")
    assert await finish(first, again.execution, within_s=120) == CANCELLED
    cancelled = children_of(house, again.execution)
    assert {second.owns(child) for child in cancelled} == {True, False}
    for child in cancelled:
        assert await finish(first, child) == CANCELLED


@housed
async def test_a_retry_goes_into_children_elsewhere(house: House) -> None:
    """Each child runs again, wherever it is; none is replaced by another."""
    first, second = await two_engines(house)
    executor = await house.executor(lambda task: None)
    parent = await family(house)
    started = await begin(first, parent)
    await until(lambda: len(executor.seen) == MANY)
    executor.handle = completed
    for task in executor.seen[:MANY]:
        owner = first if first.owns(task.execution) else second
        await house.publish_results(executor, [failed(task)], owner._live.lease.slot)
    assert await finish(first, started.execution, within_s=120) == FAILED
    children = children_of(house, started.execution)
    assert len(children) == MANY
    assert {second.owns(child) for child in children} == {True, False}
    for child in children:
        assert await finish(first, child) in {FAILED, CANCELLED}
        assert house.record(child).run == 1
    await first.retry(started.execution, reason="", actor="")
    assert await finish(first, started.execution, within_s=300) == COMPLETED
    assert children_of(house, started.execution) == children
    ends = {(house.record(child).status, house.record(child).run) for child in children}
    assert ends == {(COMPLETED, 2)}
    assert not house.database.control.letters


@housed
async def test_a_child_elsewhere_that_was_compensated_is_replaced(house: House) -> None:
    """It may not run again: its engine refuses, and the task starts another, as it does here."""
    first, second = await two_engines(house)

    def broken(task: QueuedTask) -> QueuedResult:
        return failed(task) if task.task_id == "last" else completed(task)

    executor = await house.executor(broken)
    last = Task(id="last", after=["work"])
    undo = Task(id="undo", phase=Phase.COMPENSATION, undoes="work")
    parent = await family(house, last, undo)
    started = await begin(first, parent)
    assert await finish(first, started.execution, within_s=120) == FAILED
    old = children_of(house, started.execution)
    compensated = [child for child in old if house.record(child).status == FAILED]
    assert any(second.owns(child) for child in compensated)
    executor.handle = completed
    await first.retry(started.execution, reason="", actor="")
    assert await finish(first, started.execution, within_s=300) == COMPLETED
    children = children_of(house, started.execution)
    done = [child for child in children if house.record(child).status == COMPLETED]
    assert len(done) == MANY
    assert len(children) > MANY
    assert not set(compensated) & set(done)


@housed
async def test_a_child_that_the_other_engine_refuses_fails_its_task(house: House) -> None:
    first, _ = await two_engines(house)
    await house.executor()
    parent = await family(house, for_each=items(1))
    key = ("default", "child")
    known = house.database.workflows[key]
    commit = first._store.commit

    async def archived_meanwhile(*args: object) -> object:
        committed = await commit(*args)  # type: ignore[arg-type]
        if house.database.control.letters:
            house.database.workflows[key] = known._replace(archived=True)
        return committed

    first._store.commit = archived_meanwhile  # type: ignore[method-assign,assignment]
    started = await begin(first, parent)
    assert await finish(first, started.execution, within_s=120) == FAILED
