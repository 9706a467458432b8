"""Cancel: durable before it is answered, wherever the owner is."""

import pytest

from bend_server.core.errors import NotFound, WrongState
from bend_server.core.ids import make_id
from bend_server.core.model import EventKind, ExecutionStatus
from tests.engine.house import (
    STATUS,
    House,
    begin,
    completed,
    fan_out,
    finish,
    housed,
    result,
    until,
)
from tests.kit.plans import chain


@housed
async def test_running_tasks_are_asked_to_stop(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(chain(2))
    outcome = await begin(engine, plan)
    await until(lambda: len(executor.seen) == 1)
    status = await engine.cancel(
        outcome.execution, reason="wrong input", actor="user/ada", request_id="c1"
    )
    assert status == ExecutionStatus.RUNNING
    (event,) = house.record(outcome.execution).events.values()
    assert (event.kind, event.actor) == (EventKind.CANCEL_REQUESTED, "user/ada")
    await until(lambda: len(executor.cancelled) == 1)
    assert executor.cancelled[0].execution == outcome.execution
    await house.publish_results(executor, [result(executor.seen[0], STATUS.CANCELLED)])
    assert await finish(engine, outcome.execution, 5) == ExecutionStatus.CANCELLED


@housed
async def test_the_grace_ends_what_does_not_stop(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(chain(2))
    outcome = await begin(engine, plan)
    await until(lambda: len(executor.seen) == 1)
    begun = house.clock.now_us()
    await engine.cancel(outcome.execution, reason="", actor="", request_id="")
    assert await finish(engine, outcome.execution) == ExecutionStatus.CANCELLED
    assert 10.0 <= (house.clock.now_us() - begun) / 1e6 < 10.2
    late = completed(executor.seen[0])
    await house.publish_results(executor, [late])
    await until(lambda: engine.counters.get("results_stale") == 1)


@housed
async def test_what_waits_for_an_instance_stops_at_once(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(fan_out(30))
    outcome = await begin(engine, plan)
    await engine.cancel(outcome.execution, reason="", actor="", request_id="")
    assert await finish(engine, outcome.execution, 1) == ExecutionStatus.CANCELLED
    executor = await house.executor()
    await house.pause(5)
    assert not executor.seen


@housed
async def test_cancel_is_idempotent_and_knows_ends(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(chain(1))
    outcome = await begin(engine, plan)
    for _ in range(3):
        status = await engine.cancel(outcome.execution, reason="", actor="", request_id="")
        await finish(engine, outcome.execution)
    assert status == ExecutionStatus.CANCELLED
    await house.executor()
    done = await begin(engine, plan)
    await finish(engine, done.execution)
    with pytest.raises(WrongState):
        await engine.cancel(done.execution, reason="", actor="", request_id="")
    with pytest.raises(NotFound):
        await engine.cancel(
            make_id(house.clock.now_us(), 3, 77), reason="", actor="", request_id=""
        )


@housed
async def test_a_cancel_reaches_the_owner_elsewhere(house: House) -> None:
    first = await house.engine("e1")
    plan = await house.workflow(chain(1))
    outcome = await begin(first, plan)
    second = await house.engine("e2")
    status = await second.cancel(outcome.execution, reason="", actor="", request_id="c")
    assert status in (ExecutionStatus.RUNNING, ExecutionStatus.CANCELLED)
    assert await finish(second, outcome.execution, 15) == ExecutionStatus.CANCELLED
    done = await begin(first, plan)
    await first.cancel(done.execution, reason="", actor="", request_id="")
    assert await second.cancel(done.execution, reason="", actor="", request_id="") == (
        ExecutionStatus.CANCELLED
    )
