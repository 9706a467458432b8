"""What the engine tells those who keep pools: tasks that wait, and tasks that are handed out."""

from dataclasses import replace
from typing import Any

from bend.internal.v1 import control_pb2
from bend_server.core.model import ExecutionStatus
from tests.engine.house import House, begin, command, fan_out, finish, housed, until
from tests.kit.plans import Task, chain, make_plan


async def listen(house: House) -> list[control_pb2.DemandNotice]:
    """Collect what is broadcast from now on."""
    heard: list[control_pb2.DemandNotice] = []

    async def hear(data: bytes) -> None:
        heard.append(control_pb2.DemandNotice.FromString(data))

    await house.queue("listener").subscribe("engine.demand", hear)
    return heard


@housed
async def test_waiting_tasks_are_told_every_second_with_their_age(house: House) -> None:
    heard = await listen(house)
    engine = await house.engine()
    await house.pause(5)
    assert heard == []
    plan = await house.workflow(chain(1))
    started_us = house.clock.now_us()
    await engine.start_executions([command(plan) for _ in range(7)])
    await house.pause(5.1)
    assert len(heard) == 5
    (lane,) = heard[-1].lanes
    assert (lane.namespace, lane.component, lane.waiting) == ("default", "test.echo", 7)
    assert not lane.exact_version
    assert not lane.HasField("major")
    assert 0 <= lane.oldest_us - started_us < 1_000_000
    assert heard[-1].engine == "e1"
    assert not heard[-1].groups


@housed
async def test_pins_and_labels_are_told(house: House) -> None:
    heard = await listen(house)
    engine = await house.engine()
    task = make_plan([Task(id="a")]).tasks[0]
    kinds: dict[str, dict[str, Any]] = {
        "major": {"major": 2},
        "exact": {"exact_version": "1.2.3"},
        "label": {"requires": (("gpu", "yes"),)},
    }
    for name, fields in kinds.items():
        plan = replace(make_plan([Task(id="a")]), workflow=name, tasks=(replace(task, **fields),))
        await begin(engine, await house.workflow(plan))
    await house.pause(1.5)
    lanes = heard[-1].lanes
    assert sorted(
        (one.exact_version, one.HasField("major"), dict(one.requires)) for one in lanes
    ) == [
        ("", False, {"gpu": "yes"}),
        ("", True, {}),
        ("1.2.3", False, {}),
    ]


@housed
async def test_what_is_handed_out_is_told_until_it_is_answered(house: House) -> None:
    heard = await listen(house)
    engine = await house.engine()
    # It takes tasks and never answers.
    executor = await house.executor(lambda task: None, labels={"zone": "a"}, version="1.4.0")
    plan = await house.workflow(fan_out(30))
    outcome = await begin(engine, plan)
    await until(lambda: len(executor.seen) >= 30)
    await house.pause(1.5)
    (group,) = heard[-1].groups
    assert (group.component, group.version, dict(group.labels)) == (
        "test.echo",
        "1.4.0",
        {"zone": "a"},
    )
    assert group.open >= 30
    assert 0 < group.oldest_us <= house.clock.now_us()
    await engine.cancel(outcome.execution, reason="", actor="", request_id="")
    assert await finish(engine, outcome.execution) == ExecutionStatus.CANCELLED
    await house.pause(5)
    assert not heard[-1].groups
    assert not heard[-1].lanes
    said = len(heard)
    await house.pause(5)
    # Nothing is said about nothing.
    assert len(heard) == said
