"""What an executor leaves when it is killed goes on with the next one, where there is only one."""

import asyncio
from unittest.mock import patch

from bend.internal.v1 import frames_pb2
from bend_server.executor.groups import group_id
from bend_server.ports.queue import TASKS
from bend_server.queue.memory import MemoryQueue
from tests.executor.conftest import Stage, on_stage
from tests.executor.test_redelivery import Asked
from tests.kit.links import House, Service, contract, queued
from tests.kit.loops import eventually

QR = frames_pb2.QueuedResult
LONG = contract("train", long_running=True)


async def killed(stage: Stage, house: House, service: Service) -> None:
    """Kill an executor; its service notices."""
    house.queue.disconnect()  # type: ignore[attr-defined]
    service.crash()
    await stage.loop_sleep(0.5)


async def inherited(stage: Stage) -> tuple[House, Service]:
    """Return an executor, with a service, after one that was killed while a long task ran."""
    house = await stage.house(sole=True)
    service = await Service(house.room, components=[LONG]).up()
    await house.publish([queued(1)], "train")
    await service.got(1)
    await killed(stage, house, service)
    after = await stage.house("x2", sole=True)
    return after, await Service(after.room, components=[LONG], instance="i2").up()


def deliveries(stage: Stage) -> list[int]:
    """Return how often each frame that is not acked was delivered, in the stream's order."""
    [durable] = stage.broker.streams[TASKS].durables.values()
    return [count for _, count in sorted(durable.deliveries.items())]


@on_stage
async def test_a_killed_executors_frames_run_at_once(stage: Stage) -> None:
    """The queue does not wait out ack_wait, and what is closed is not run again."""
    asked = Asked(closed={1, 3})
    await stage.engine.serve("engine.open.0", asked.answer)
    house = await stage.house(sole=True)
    service = await Service(house.room).up()
    await house.publish([queued(0), queued(1)])
    await house.publish([queued(2), queued(3)])
    await service.got(4)
    await killed(stage, house, service)
    began = stage.loop.time()
    after = await stage.house("x2", sole=True)
    again = await Service(after.room, instance="i2").up()
    again.echo()
    results = await after.ended(2)
    assert stage.loop.time() - began < 0.5
    assert sorted(r.execution for r in results) == [0, 2]
    assert sorted(key[0] for key in asked.keys) == [0, 1, 2, 3]
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})
    assert len(again.tasks) == 2


@on_stage
async def test_frames_that_were_sent_and_never_read_come_too(stage: Stage) -> None:
    """They were in a buffer of the dead process: no book of its own could name them."""
    await stage.engine.serve("engine.open.0", Asked(closed=set()).answer)
    house = await stage.house(sole=True)
    group = group_id("default", "echo", "1.0.0", {})
    dead = MemoryQueue(stage.broker, "x0")
    gone = await dead.consume(TASKS, f"tasks.{group}", f"g-{group}", 10, None)
    gone.demand(2)
    for number in range(3):
        await house.publish([queued(number)])
    dead.disconnect()
    began = stage.loop.time()
    service = await Service(house.room).up()
    service.echo()
    assert sorted(r.execution for r in await house.ended(3)) == [0, 1, 2]
    assert stage.loop.time() - began < 0.5
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})


@on_stage
async def test_beside_others_the_queue_decides(stage: Stage) -> None:
    """Without `sole` somebody else may be alive and work on it."""
    await stage.engine.serve("engine.open.0", Asked(closed=set()).answer)
    house = await stage.house()
    service = await Service(house.room).up()
    await house.publish([queued(1)])
    await service.got(1)
    after = await stage.house("x2")
    other = await Service(after.room, instance="i2").up()
    await stage.loop_sleep(30)
    assert other.tasks == []
    assert deliveries(stage) == [1]
    await killed(stage, house, service)
    began = stage.loop.time()
    await other.got(1)
    assert stage.loop.time() - began > 5


@on_stage
async def test_what_was_wiped_meanwhile_is_not_touched(stage: Stage) -> None:
    """Sequences count from 1 again: a hand-back of the old 1 must not reach the new 1."""
    after, again = await inherited(stage)
    stage.broker.wipe()
    await after.publish([queued(2)], "train")
    await again.got(1)
    await stage.loop_sleep(15)
    assert deliveries(stage) == [1]
    assert [task.execution_id for task in again.tasks] == ["wf-2"]


@on_stage
async def test_long_running_tasks_wait_for_their_services(stage: Stage) -> None:
    """Who comes back within the grace goes on with its task; the others' are run again after it."""
    await stage.engine.serve("engine.open.0", Asked(closed=set()).answer)
    house = await stage.house(sole=True)
    service = await Service(house.room, components=[LONG], instance="i1").up()
    for number in (1, 2):
        await house.publish([queued(number, timeout_ms=600_000)], "train")
    tasks = list(await service.got(2))
    await killed(stage, house, service)
    after = await stage.house("x2", sole=True)
    # A quicker one is there before the one that runs them.
    began = stage.loop.time()
    quick = await Service(after.room, components=[LONG], instance="i2").up()
    await stage.loop_sleep(9)
    claim = (tasks[0].run_id, tasks[0].resume_token)
    back = await Service(after.room, components=[LONG], instance="i1", held=[claim], credit=1).up()
    assert back.welcome is not None
    assert list(back.welcome.kept) == [tasks[0].run_id]
    assert quick.tasks == []
    await quick.got(1)
    assert 10 <= stage.loop.time() - began < 11
    assert [task.execution_id for task in quick.tasks] == ["wf-2"]
    assert deliveries(stage) == [1, 2]
    back.answer(tasks[0])
    quick.answer(quick.tasks[0])
    ended = await after.ended(2)
    assert {(r.execution, r.status) for r in ended} == {(1, QR.COMPLETED), (2, QR.COMPLETED)}
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})
    assert back.tasks == []


@on_stage
async def test_a_stopped_executor_hands_nothing_back_later(stage: Stage) -> None:
    """Its own end leaves long-running tasks to whoever adopts them."""
    after, again = await inherited(stage)
    await after.room.stop()
    await eventually(lambda: again.ended)
    await stage.loop_sleep(15)
    assert deliveries(stage) == [1]
    [durable] = stage.broker.streams[TASKS].durables.values()
    assert durable.ready == []


@on_stage
async def test_an_engine_that_starts_is_waited_for(stage: Stage) -> None:
    """Killed with the executor, it knows a moment later what was done already."""
    asked = Asked(closed={1})
    house = await stage.house(sole=True)
    service = await Service(house.room).up()
    await house.publish([queued(1), queued(2)])
    await service.got(2)
    await killed(stage, house, service)
    after = await stage.house("x2", sole=True)
    again = await Service(after.room, instance="i2").up()
    again.echo()
    await asyncio.sleep(2)
    assert again.tasks == []
    await stage.engine.serve("engine.open.0", asked.answer)
    assert [r.execution for r in await after.ended(1)] == [2]
    assert [task.execution_id for task in again.tasks] == ["wf-2"]
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})


@on_stage
async def test_many_frames_wait_with_the_questions_of_one(stage: Stage) -> None:
    """A machine that starts everything anew has no time for questions that nobody answers."""
    kinds = [contract(f"kind{number}") for number in range(40)]
    house = await stage.house(sole=True)
    service = await Service(house.room, components=kinds, credit=100).up()
    for number, kind in enumerate(kinds):
        await house.publish([queued(number)], kind.name)
    await service.got(40)
    await killed(stage, house, service)
    asked = 0
    rings = MemoryQueue.request

    async def counted(queue: MemoryQueue, subject: str, data: bytes, timeout_s: float) -> bytes:
        nonlocal asked
        asked += 1
        return await rings(queue, subject, data, timeout_s)

    with patch.object(MemoryQueue, "request", counted):
        after = await stage.house("x2", sole=True)
        again = await Service(after.room, components=kinds, instance="i2", credit=100).up()
        again.echo()
        await stage.loop_sleep(4)
        # Each once, then one of them five times a second; 16 slots each.
        assert asked < 16 * (40 + 25)
        began = stage.loop.time()
        await stage.engine.serve("engine.open.0", Asked(closed=set(range(20))).answer)
        await again.got(20)
        assert stage.loop.time() - began < 0.5
    await after.ended(20)
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})
    assert len(again.tasks) == 20


@on_stage
async def test_an_engine_that_stays_away_is_not_waited_for_for_ever(stage: Stage) -> None:
    await stage.engine.serve("engine.open.0", Asked(closed=set(), mine=False).answer)
    house = await stage.house(sole=True)
    await house.publish([queued(1)])
    await stage.loop_sleep(6)
    began = stage.loop.time()
    service = await Service(house.room).up()
    await service.got(1)
    assert 5 < stage.loop.time() - began < 7
