"""Limits of tasks: places under a key, starts per time, over all executions and engines."""

import pytest

from bend_server.core.model import ExecutionStatus
from bend_server.core.plan import Plan, SlotPlan
from bend_server.engine.slot_books import LEASE_US, Ask, SlotBooks
from tests.engine.control import items, plan
from tests.engine.house import House, begin, command, completed, finish, housed, until
from tests.kit.plans import Task

COMPLETED = ExecutionStatus.COMPLETED
SECOND_US = 1_000_000


def limited(*slots: tuple[str, int, int], workflow: str = "w", **fields: object) -> Plan:
    """Return a workflow of one task under limits (key, limit, per_us)."""
    made = tuple(SlotPlan(lambda scope, key=key: key, limit, per) for key, limit, per in slots)
    return plan(Task(id="a", slots=made, **fields), workflow=workflow)  # type: ignore[arg-type]


@housed
async def test_so_many_tries_run_at_once_over_all_executions(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    one, two = limited(("gpu", 2, 0)), limited(("gpu", 2, 0), workflow="other")
    for plan_ in (one, two):
        await house.workflow(plan_)
    ids = [(await begin(engine, plan_)).execution for plan_ in (one, two, one, two, one)]
    await until(lambda: len(executor.seen) == 2)
    await house.pause(5)
    assert [task.execution for task in executor.seen] == ids[:2]
    (overlay,) = engine.waiting(ids[4])
    assert overlay.waiting == "concurrency key gpu"
    for done in range(5):
        await until(lambda done=done: len({t.execution for t in executor.seen}) > done)  # type: ignore[misc]
        task = next(t for t in executor.seen if t.execution == ids[done])
        await house.publish_results(executor, [completed(task)])
        assert await finish(engine, ids[done]) == COMPLETED
    assert list(dict.fromkeys(task.execution for task in executor.seen)) == ids


@housed
async def test_a_rate_lets_so_many_start_per_time(house: House) -> None:
    engine = await house.engine()
    starts_us: list[int] = []

    def note(task: object) -> object:
        starts_us.append(house.clock.now_us())
        return completed(task)  # type: ignore[arg-type]

    await house.executor(note)  # type: ignore[arg-type]
    plan_ = limited(("api", 5, 10 * SECOND_US), for_each=items(*range(20)))
    await house.workflow(plan_)
    begun_us = house.clock.now_us()
    started = await begin(engine, plan_)
    assert await finish(engine, started.execution) == COMPLETED
    assert len(starts_us) == 20
    assert sum(at - begun_us < SECOND_US for at in starts_us) == 5
    assert 30 * SECOND_US <= starts_us[-1] - begun_us < 33 * SECOND_US


@housed
async def test_both_limits_hold_together(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(limited(("gpu", 3, 0), ("api", 1, SECOND_US)))
    ids = [(await begin(engine, plan_)).execution for _ in range(6)]
    await house.pause(6)
    assert len({task.execution for task in executor.seen}) == 3
    (overlay,) = engine.waiting(ids[5])
    assert overlay.waiting == "concurrency key gpu"
    executor.handle = completed
    await house.publish_results(executor, [completed(task) for task in executor.seen[:3]])
    for one in ids:
        assert await finish(engine, one) == COMPLETED


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_who_waits_for_a_place_can_be_cancelled_and_times_out(how: str) -> None:
    @housed
    async def run(house: House) -> None:
        engine = await house.engine()
        executor = await house.executor(lambda task: None)
        timeout_us = 20 * SECOND_US if how == "timeout" else 3600 * SECOND_US
        plan_ = limited(("gpu", 1, 0), schedule_timeout_us=timeout_us)
        await house.workflow(plan_)
        first, second = [(await begin(engine, plan_)).execution for _ in range(2)]
        await until(lambda: len(executor.seen) == 1)
        if how == "cancel":
            await engine.cancel(second, reason="", actor="", request_id="")
            assert await finish(engine, second) == ExecutionStatus.CANCELLED
        else:
            assert await finish(engine, second, within_s=30) == ExecutionStatus.FAILED
            row = house.record(second).results[0, -1, 1]
            assert b"SCHEDULE_TIMEOUT" in (row.error or b"")
        await house.publish_results(executor, [completed(executor.seen[0])])
        assert await finish(engine, first) == COMPLETED
        assert not engine._parts.slots._wishes
        assert not engine._parts.slots._held

    run()


@housed
async def test_places_are_shared_by_engines(house: House) -> None:
    first, second = await house.engine("e1"), await house.engine("e2")
    await until(lambda: len(second._live.owned) == 32, within_s=120)
    running: set[int] = set()
    most = 0

    async def hold(task: object) -> object:
        nonlocal most
        running.add(task.execution)  # type: ignore[attr-defined]
        most = max(most, len(running))
        await house.pause(0.5)
        running.discard(task.execution)  # type: ignore[attr-defined]
        return completed(task)  # type: ignore[arg-type]

    await house.executor(hold)  # type: ignore[arg-type]
    plan_ = await house.workflow(limited(("gpu", 3, 0)))
    await house.pause(LEASE_US / 1e6)
    ids = []
    for engine in (first, second):
        outcomes = await engine.start_executions([command(plan_) for _ in range(10)])
        ids += [one.execution for one in outcomes]
    for one in ids:
        assert await finish(first, one) == COMPLETED
    assert most == 3


@housed
async def test_a_takeover_knows_who_holds_places(house: House) -> None:
    first = await house.engine("e1")
    executor = await house.executor(lambda task: None)
    plan_ = await house.workflow(limited(("gpu", 2, 0)))
    ids = [(await begin(first, plan_)).execution for _ in range(3)]
    await until(lambda: len(executor.seen) == 2)
    await house.crash(first)
    second = await house.engine("e2")
    await house.pause(8)
    assert len({task.execution for task in executor.seen}) == 2
    executor.handle = completed
    await house.publish_results(executor, [completed(task) for task in executor.seen[:2]])
    for one in ids:
        assert await finish(second, one) == COMPLETED


def test_the_books_lend_places_for_a_time_and_serve_in_order() -> None:
    books = SlotBooks()
    wishes = [Ask("k", 2, 0, (n, 0, -1, 1)) for n in range(4)]
    for number, ask in enumerate(wishes):
        books.ask(ask, number, 0)
        books.ask(ask, number, 0)
    granted = books.grants(0, everywhere=False)
    assert granted == [("k", wishes[0].holder, 0), ("k", wishes[1].holder, 1)]
    books.ask(wishes[0], 0, 1)
    assert books.grants(1, everywhere=False) == [granted[0]], "it has not heard of its grant"
    books.hold(wishes[0], LEASE_US // 2)
    assert books.grants(LEASE_US - 1, everywhere=True) == []
    assert books.grants(LEASE_US, everywhere=True) == [("k", wishes[2].holder, 2)]
    books.release("k", wishes[0].holder)
    assert books.grants(LEASE_US, everywhere=False) == [("k", wishes[3].holder, 3)]
    for ask in wishes:
        books.release("k", ask.holder)
    books.grants(LEASE_US, everywhere=True)
    assert len(books) == 0


def test_a_new_owner_grants_nothing_for_a_lease_time() -> None:
    books = SlotBooks()
    books.closed_until_us = LEASE_US
    ask = Ask("k", 1, 0, (1, 0, -1, 1))
    books.ask(ask, 0, 0)
    assert books.grants(LEASE_US - 1, everywhere=True) == []
    books.hold(Ask("k", 1, 0, (2, 0, -1, 1)), LEASE_US - 1)
    assert books.grants(LEASE_US, everywhere=True) == []
    books.release("k", (2, 0, -1, 1))
    assert books.grants(LEASE_US, everywhere=False) == [("k", ask.holder, 0)]


def test_a_bucket_fills_by_time_and_not_over_its_edge() -> None:
    books = SlotBooks()
    for n in range(10):
        books.ask(Ask("k", 2, SECOND_US, (n, 0, -1, 1)), 0, 0)
    assert len(books.grants(0, everywhere=False)) == 2
    assert books.next_us(0) == SECOND_US // 2 + 1
    assert len(books.grants(SECOND_US // 2, everywhere=False)) == 1
    assert len(books.grants(100 * SECOND_US, everywhere=False)) == 2
    assert books.grants(100 * SECOND_US, everywhere=True) == []
