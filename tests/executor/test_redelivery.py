"""Frames that come twice or late: the engine is asked, nothing held is run again."""

from bend.internal.v1 import control_pb2, frames_pb2
from bend_server.executor.holdings import Key, key_of
from bend_server.ports.queue import TASKS
from tests.executor.conftest import Stage, on_stage
from tests.kit.links import Service, queued
from tests.kit.loops import eventually

QR = frames_pb2.QueuedResult
State = control_pb2.OpenKeysResponse


class Asked:
    """The engine's answers about open keys."""

    def __init__(self, closed: set[int], mine: bool = True) -> None:
        self.closed = closed
        self.mine = mine
        self.keys: list[Key] = []

    async def answer(self, data: bytes) -> bytes:
        keys = [key_of(key) for key in control_pb2.OpenKeysRequest.FromString(data).keys]
        self.keys += keys
        states = [
            State.NOT_MINE if not self.mine else State.CLOSED if k[0] in self.closed else State.OPEN
            for k in keys
        ]
        return control_pb2.OpenKeysResponse(states=states, epoch=1).SerializeToString()


@on_stage
async def test_redelivered_frames_ask_before_they_run(stage: Stage) -> None:
    """An executor dies with unacked frames; what is closed by then is not run again."""
    asked = Asked(closed={1, 3})
    await stage.engine.serve("engine.open.0", asked.answer)
    house = await stage.house()
    dying = await Service(house.room).up()
    await house.publish([queued(n) for n in range(4)])
    await dying.got(4)
    assert asked.keys == []
    house.queue.disconnect()  # type: ignore[attr-defined]
    other = await stage.house("x2")
    service = await Service(other.room, instance="i2").up()
    service.echo()
    results = await other.ended(2)
    assert sorted(r.execution for r in results) == [0, 2]
    assert [key[0] for key in asked.keys] == [0, 1, 2, 3]
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})


@on_stage
async def test_frames_from_before_the_start_ask_too(stage: Stage) -> None:
    """A queue that was killed with an executor forgets which frames it had been sent."""
    asked = Asked(closed={1})
    await stage.engine.serve("engine.open.0", asked.answer)
    before = await stage.house("x0")
    await before.publish([queued(1), queued(2)])
    await stage.loop_sleep(1)
    house = await stage.house()
    service = await Service(house.room).up()
    service.echo()
    assert [r.execution for r in await house.ended(1)] == [2]
    assert [key[0] for key in asked.keys] == [1, 2]
    await house.publish([queued(3)])
    await house.ended(2)
    assert len(asked.keys) == 2


@on_stage
async def test_another_engine_may_know(stage: Stage) -> None:
    mine, other = Asked(set(), mine=False), Asked({2})
    await stage.engine.serve("engine.open.0", mine.answer)
    await stage.engine.serve("engine.open.5", other.answer)
    house = await stage.house()
    await house.publish([queued(1), queued(2)])
    await stage.loop_sleep(6)
    service = await Service(house.room).up()
    service.echo()
    assert [r.execution for r in await house.ended(1)] == [1]
    assert [key[0] for key in other.keys] == [1, 2]
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})


@on_stage
async def test_nobody_to_ask_means_run(stage: Stage) -> None:
    house = await stage.house()
    await house.publish([queued(1)])
    await stage.loop_sleep(6)
    service = await Service(house.room).up()
    service.echo()
    await house.ended(1)


@on_stage
async def test_held_tasks_are_not_run_twice(stage: Stage) -> None:
    """The same try in another message (published again) waits for the one result."""
    house = await stage.house()
    service = await Service(house.room).up()
    await house.publish([queued(1)])
    [task] = await service.got(1)
    await house.publish([queued(1), queued(2)])
    await service.got(2)
    assert len(service.tasks) == 2
    service.answer(task)
    await eventually(lambda: len(stage.broker.streams[TASKS].messages) == 1)
    service.answer(service.tasks[1])
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})
    assert sorted(r.execution for r in await house.ended(2)) == [1, 2]


@on_stage
async def test_long_work_keeps_its_frame(stage: Stage) -> None:
    """Progress is reported for open frames: a task longer than ack_wait is not redelivered."""
    house = await stage.house()
    service = await Service(house.room).up()
    await house.publish([queued(1)])
    [task] = await service.got(1)
    await stage.loop_sleep(120)
    assert len(service.tasks) == 1
    service.answer(task)
    await house.ended(1)
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})
    [durable] = stage.broker.streams[TASKS].durables.values()
    assert durable.deliveries == {}


@on_stage
async def test_a_result_is_stored_before_its_frame_is_acked(stage: Stage) -> None:
    """With a full or dead RESULTS stream the frame stays: no result can be lost."""
    house = await stage.house()
    service = await Service(house.room).up()
    service.echo()
    results = stage.broker.streams["RESULTS"]
    results.bytes_max = 0
    await house.publish([queued(1)])
    await service.got(1)
    await stage.loop_sleep(30)
    assert len(stage.broker.streams[TASKS].messages) == 1
    results.bytes_max = 1 << 20
    await house.ended(1)
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})
    assert len(service.tasks) == 1


@on_stage
async def test_a_wiped_queue_loses_nothing_that_runs(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room).up()
    await house.publish([queued(1)])
    [task] = await service.got(1)
    stage.broker.wipe()
    await house.publish([queued(1), queued(2)])
    await service.got(2)
    service.answer(*service.tasks)
    results = await house.ended(2)
    assert sorted(r.execution for r in results) == [1, 2]
    assert len([t for t in service.tasks if t.execution_id == "wf-1"]) == 1
    assert task.execution_id == "wf-1"
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})
