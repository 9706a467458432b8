"""Instances that people take out of service. If these fail, a drain loses tasks or does nothing."""

from bend.internal.v1 import control_pb2
from bend_server.ports.queue import DRAIN
from tests.executor.conftest import Stage, on_stage
from tests.kit.links import House, Service, queued
from tests.kit.loops import eventually


async def notice(
    stage: Stage, instance: str, *, drain: bool = True, space: str = "default"
) -> None:
    said = control_pb2.DrainNotice(namespace=space, instance_id=instance, drain=drain)
    await stage.engine.broadcast(DRAIN, said.SerializeToString())
    await stage.loop_sleep(0.1)


class Announced:
    """What executors say of instances: id → draining."""

    def __init__(self) -> None:
        self.draining: dict[str, bool] = {}
        self.credit = 0

    async def hear(self, data: bytes) -> None:
        for group in control_pb2.InstanceAnnouncement.FromString(data).groups:
            self.credit = group.credit
            self.draining |= {one.instance_id: one.draining for one in group.instances}


async def pair(stage: Stage) -> tuple[House, Service, Service]:
    house = await stage.house()
    one = await Service(house.room, credit=2, instance="one").up()
    two = await Service(house.room, credit=8, instance="two").up()
    return house, one, two


@on_stage
async def test_a_drained_instance_ends_what_it_has_and_gets_nothing_new(stage: Stage) -> None:
    announced = Announced()
    await stage.engine.subscribe("registry.announce", announced.hear)
    house, one, two = await pair(stage)
    await house.publish([queued(n) for n in range(10)])
    await eventually(lambda: len(one.tasks) + len(two.tasks) == 10)
    held = len(one.tasks)
    assert held
    await notice(stage, "one")
    assert announced.draining == {"one": True, "two": False}
    assert announced.credit == 8
    two.echo()
    await house.publish([queued(n) for n in range(10, 20)])
    await house.ended(20 - held)
    assert len(one.tasks) == held
    one.echo()
    await house.ended(20)
    await notice(stage, "one", drain=False)
    assert announced.draining == {"one": False, "two": False}
    await house.publish([queued(n) for n in range(20, 30)])
    await house.ended(30)
    assert len(one.tasks) > held


@on_stage
async def test_a_drain_lasts_over_a_reconnect(stage: Stage) -> None:
    house, one, two = await pair(stage)
    await notice(stage, "one")
    one.crash()
    await eventually(lambda: one.ended)
    again = await Service(house.room, credit=2, instance="one").up()
    two.echo()
    await house.publish([queued(n) for n in range(20)])
    await house.ended(20)
    assert not again.tasks


@on_stage
async def test_what_waits_for_a_drained_instance_goes_back_to_the_queue(stage: Stage) -> None:
    """Another executor may serve the same: nothing may lie here until it expires."""
    house = await stage.house()
    one = await Service(house.room, credit=1, instance="one").up()
    for n in range(4):
        await house.publish([queued(n)])
    await one.got(1)
    await notice(stage, "one")
    other = await stage.house("x2")
    two = await Service(other.room, credit=8, instance="two").up()
    two.echo()
    one.echo()
    results = await house.ended(4)
    assert sorted((one.execution, one.worker) for one in results) == [
        (0, "one"),
        *((n, "two") for n in (1, 2, 3)),
    ]


@on_stage
async def test_an_instance_that_leaves_by_itself_is_not_called_back(stage: Stage) -> None:
    announced = Announced()
    await stage.engine.subscribe("registry.announce", announced.hear)
    house, one, _ = await pair(stage)
    one.drain()
    await notice(stage, "one", drain=False)
    assert announced.draining["one"]
    assert house.room.ready


@on_stage
async def test_notices_of_others_and_garbage_change_nothing(stage: Stage) -> None:
    house, one, two = await pair(stage)
    await notice(stage, "three")
    await notice(stage, "one", space="alien")
    await stage.engine.broadcast(DRAIN, b"\xff\xff")
    one.echo()
    two.echo()
    await house.publish([queued(n) for n in range(10)])
    await house.ended(10)
    assert one.tasks
