"""Concurrency keys and admission: who runs, who waits, who has to go."""

from collections.abc import Awaitable, Callable

import orjson
import pytest

from bend_server.core.errors import LimitExceeded
from bend_server.core.model import ExecutionStatus, Failure
from bend_server.core.plan import ConcurrencyPlan, ConcurrencyStrategy, ExpressionError, Plan, Scope
from bend_server.engine import Engine
from tests.engine.control import own, plan
from tests.engine.house import House, begin, command, completed, finish, housed, until
from tests.kit.plans import Task

COMPLETED, CANCELLED = ExecutionStatus.COMPLETED, ExecutionStatus.CANCELLED
PENDING, RUNNING = ExecutionStatus.PENDING, ExecutionStatus.RUNNING
QUEUE = ConcurrencyStrategy.QUEUE


def customer(scope: Scope) -> str:
    """Read the key from the parameters."""
    found = orjson.loads(scope.input).get("customer")
    if found is None:
        raise ExpressionError("no customer")
    return str(found)


def limited(limit: int, strategy: ConcurrencyStrategy = QUEUE, **fields: object) -> Plan:
    concurrency = ConcurrencyPlan(customer, limit, strategy)
    tasks = (own("hear", "signal", {"name": "go"}),)
    return plan(*tasks, concurrency=concurrency, timeout_us=0, **fields)  # type: ignore[arg-type]


def starter(engine: Engine, plan_: Plan) -> Callable[..., Awaitable[int]]:
    async def start(name: str = "a") -> int:
        data = orjson.dumps({"customer": name})
        return (await begin(engine, plan_, input=data)).execution

    return start


async def let_go(engine: Engine, execution: int) -> None:
    await engine.signal(execution, name="go", payload=b"1", actor="")
    assert await finish(engine, execution) == COMPLETED


@housed
async def test_a_key_lets_so_many_run_and_the_others_wait_in_order(house: House) -> None:
    engine = await house.engine()
    plan_ = await house.workflow(limited(2))
    start = starter(engine, plan_)
    ids = [await start() for _ in range(5)]
    other = await start("b")

    def statuses() -> list[int]:
        return [house.record(one).status for one in ids]

    assert statuses() == [RUNNING, RUNNING, PENDING, PENDING, PENDING]
    assert house.record(other).status == RUNNING
    assert house.record(ids[0]).start.concurrency_key == "a"
    assert house.record(ids[0]).start.partition == house.record(ids[4]).start.partition
    await let_go(engine, ids[1])
    await until(lambda: house.record(ids[2]).status == RUNNING)
    assert statuses() == [RUNNING, COMPLETED, RUNNING, PENDING, PENDING]
    for one in (ids[0], ids[2]):
        await let_go(engine, one)
    await until(lambda: house.record(ids[4]).status == RUNNING)
    for one in ids[3:]:
        await let_go(engine, one)


@pytest.mark.parametrize("kind", ["signal", "wait"])
def test_one_that_had_its_turn_and_waits_in_sql_goes_on(kind: str) -> None:
    """What it was started as, PENDING, is not what it is when it comes back into memory."""

    @housed
    async def run(house: House) -> None:
        engine = await house.engine()
        await house.executor(completed)
        body = {"name": "go"} if kind == "signal" else {"duration": "2h"}
        plan_ = plan(
            own("hear", kind, body),
            Task(id="then", after=["hear"]),
            concurrency=ConcurrencyPlan(customer, 1, QUEUE),
            timeout_us=0,
        )
        await house.workflow(plan_)
        start = starter(engine, plan_)
        first, second = await start(), await start()
        assert house.record(second).status == PENDING
        await engine.cancel(first, reason="", actor="", request_id="")
        await until(lambda: house.record(second).status == RUNNING)
        await until(lambda: engine.live_count() == 0)
        assert house.record(second).parked is not None
        if kind == "signal":
            await engine.signal(second, name="go", payload=b"1", actor="")
        assert await finish(engine, second, 3 * 3600) == COMPLETED

    run()


@housed
async def test_the_queue_goes_by_priority_then_age(house: House) -> None:
    engine = await house.engine()
    plan_ = await house.workflow(limited(1))
    start = starter(engine, plan_)
    running, slow, soon = [await start() for _ in range(3)]
    record = house.record(soon)
    record.start = record.start._replace(priority=1)
    await let_go(engine, running)
    await until(lambda: record.status == RUNNING)
    assert house.record(slow).status == PENDING


@housed
async def test_queues_survive_a_crash(house: House) -> None:
    first = await house.engine("e1")
    plan_ = await house.workflow(limited(1))
    start = starter(first, plan_)
    ids = [await start() for _ in range(3)]
    await house.crash(first)
    second = await house.engine("e2")
    assert [house.record(one).status for one in ids] == [RUNNING, PENDING, PENDING]
    late = await starter(second, plan_)()
    assert house.record(late).status == PENDING
    for one in (*ids, late):
        await until(lambda one=one: house.record(one).status == RUNNING)  # type: ignore[misc]
        await let_go(second, one)


@housed
async def test_a_crash_with_a_free_slot_admits_what_waits(house: House) -> None:
    first = await house.engine("e1")
    plan_ = await house.workflow(limited(1))
    start = starter(first, plan_)
    running, waiting = [await start() for _ in range(2)]
    first._parts.queues._look = lambda key, slots: None  # type: ignore[method-assign]
    await let_go(first, running)
    await house.crash(first)
    assert house.record(waiting).status == PENDING
    second = await house.engine("e2")
    await until(lambda: house.record(waiting).status == RUNNING)
    await let_go(second, waiting)


@housed
async def test_a_queued_execution_is_cancelled_signalled_and_times_out(house: House) -> None:
    engine = await house.engine()
    concurrency = ConcurrencyPlan(customer, 1, QUEUE)
    plan_ = plan(
        own("hear", "signal", {"name": "go"}), concurrency=concurrency, timeout_us=300_000_000
    )
    await house.workflow(plan_)
    start = starter(engine, plan_)
    running, gone, signalled, late = [await start() for _ in range(4)]
    await engine.cancel(gone, reason="no", actor="", request_id="")
    assert await finish(engine, gone) == CANCELLED
    assert not await engine.signal(signalled, name="go", payload=b"1", actor="")
    assert house.record(signalled).status == PENDING, "a signal is no admission"
    await let_go(engine, running)
    assert await finish(engine, signalled) == COMPLETED
    assert await finish(engine, late, within_s=400) == ExecutionStatus.TIMED_OUT


@housed
async def test_cancel_newest_ends_the_new_one_at_once(house: House) -> None:
    engine = await house.engine()
    plan_ = await house.workflow(limited(1, ConcurrencyStrategy.CANCEL_NEWEST))
    start = starter(engine, plan_)
    running, new = [await start() for _ in range(2)]
    assert await finish(engine, new, within_s=5) == CANCELLED
    end = house.record(new).finish
    assert end is not None
    assert b"CONCURRENCY_LIMIT" in (end.error or b"")
    await let_go(engine, running)
    await let_go(engine, await start())


@housed
async def test_cancel_oldest_makes_room_for_the_new_one(house: House) -> None:
    engine = await house.engine()
    plan_ = await house.workflow(limited(1, ConcurrencyStrategy.CANCEL_OLDEST))
    start = starter(engine, plan_)
    first, second = [await start() for _ in range(2)]
    assert await finish(engine, first, within_s=5) == CANCELLED
    await until(lambda: house.record(second).status == RUNNING)
    third, fourth = [await start() for _ in range(2)]
    for one in (second, third):
        assert await finish(engine, one, within_s=5) == CANCELLED
    for one in (first, second, third):
        end = house.record(one).finish
        assert end is not None
        assert Failure.from_json(end.error or b"").reason == "CONCURRENCY_LIMIT"
    await until(lambda: house.record(fourth).status == RUNNING)
    await let_go(engine, fourth)


@housed
async def test_a_paused_execution_keeps_its_slot(house: House) -> None:
    engine = await house.engine()
    plan_ = await house.workflow(limited(1))
    start = starter(engine, plan_)
    running = await start()
    await engine.pause(running, reason="", actor="")
    waiting = await start()
    await house.crash(engine)
    second = await house.engine("e2")
    await house.pause(10)
    assert house.record(waiting).status == PENDING
    await second.resume(running, actor="")
    await let_go(second, running)
    await until(lambda: house.record(waiting).status == RUNNING)


@housed
async def test_a_key_that_cannot_be_read_refuses_the_start(house: House) -> None:
    engine = await house.engine()
    plan_ = await house.workflow(limited(1))
    good = orjson.dumps({"customer": "a"})
    outcomes = await engine.start_executions([command(plan_), command(plan_, input=good)])
    assert outcomes[0].error is not None
    assert outcomes[0].error.reason == "INVALID_PARAMETERS"
    assert outcomes[1].error is None


@housed
async def test_keys_are_decided_by_their_owner(house: House) -> None:
    first, second = await house.engine("e1"), await house.engine("e2")
    await until(lambda: len(second._live.owned) == 32, within_s=120)
    plan_ = await house.workflow(limited(1))
    names = [f"customer {n}" for n in range(8)]
    ids = [await starter(first, plan_)(name) for name in names]
    assert {house.record(one).status for one in ids} == {RUNNING}
    assert any(second.owns(one) for one in ids)
    assert any(first.owns(one) for one in ids)
    again = [await starter(second, plan_)(name) for name in names]
    assert {house.record(one).status for one in again} == {PENDING}
    for one in ids:
        await let_go(first, one)
    for one in again:
        await until(lambda one=one: house.record(one).status == RUNNING)  # type: ignore[misc]


@housed
async def test_too_many_executions_wait_for_admission(house: House) -> None:
    engine = await house.engine(executions_admitted_max=3, executions_live_max=6)
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(plan(Task(id="a")))
    ids = [(await begin(engine, plan_)).execution for _ in range(6)]
    assert [house.record(one).status for one in ids] == [RUNNING] * 3 + [PENDING] * 3
    (refused,) = await engine.start_executions([command(plan_)])
    assert isinstance(refused.error, LimitExceeded)
    assert refused.error.reason == "OVERLOADED"
    executor.handle = completed
    await house.publish_results(executor, [completed(task) for task in executor.seen])
    for one in ids:
        assert await finish(engine, one) == COMPLETED


@housed
async def test_admission_goes_on_after_a_crash(house: House) -> None:
    first = await house.engine("e1", executions_admitted_max=2)
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(plan(Task(id="a")))
    ids = [(await begin(first, plan_)).execution for _ in range(5)]
    await house.crash(first)
    executor.handle = completed
    second = await house.engine("e2", executions_admitted_max=2)
    for one in ids:
        assert await finish(second, one) == COMPLETED


@pytest.mark.parametrize("limit", [1, 3])
def test_no_key_ever_runs_more_than_its_limit(limit: int) -> None:
    @housed
    async def run(house: House) -> None:
        engine = await house.engine()
        await house.executor()
        concurrency = ConcurrencyPlan(customer, limit, QUEUE)
        plan_ = plan(own("rest", "wait", {"duration": "3s"}), Task(id="a"), concurrency=concurrency)
        await house.workflow(plan_)
        names = "abcab" * 6
        outcomes = await engine.start_executions(
            [command(plan_, input=orjson.dumps({"customer": name})) for name in names]
        )
        ids = [one.execution for one in outcomes]
        most = 0
        while any(house.record(one).status in (PENDING, RUNNING) for one in ids):
            for name in "abc":
                running = sum(
                    house.record(one).status == RUNNING
                    and house.record(one).start.concurrency_key == name
                    for one in ids
                )
                most = max(most, running)
            await house.pause(0.2)
        assert most == limit

    run()
