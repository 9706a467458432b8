"""Long-running tasks survive a broken stream, on the same executor and on another one."""

import pytest

from bend.internal.v1 import frames_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.executor import tokens
from bend_server.ports.queue import TASKS
from tests.executor.conftest import Stage, on_stage
from tests.kit.links import KEY, House, Service, contract, queued
from tests.kit.loops import eventually

QR = frames_pb2.QueuedResult
LONG = contract("train", long_running=True)


async def running(stage: Stage, house: House, count: int = 1) -> tuple[Service, list[pb.Task]]:
    """Let a service hold long-running tasks."""
    service = await Service(house.room, components=[LONG], instance="i1").up()
    for number in range(1, count + 1):
        await house.publish([queued(number, timeout_ms=600_000)], "train")
    tasks = list(await service.got(count))
    assert all(task.resume_token for task in tasks)
    return service, tasks


def claims(tasks: list[pb.Task]) -> list[tuple[int, bytes]]:
    return [(task.run_id, task.resume_token) for task in tasks]


@on_stage
async def test_a_service_comes_back_to_its_tasks(stage: Stage) -> None:
    house = await stage.house()
    service, tasks = await running(stage, house, 2)
    service.crash()
    await eventually(lambda: service.ended)
    await stage.loop_sleep(4)
    back = await Service(house.room, components=[LONG], held=claims(tasks[:1]), credit=1).up()
    assert back.welcome is not None
    assert list(back.welcome.kept) == [tasks[0].run_id]
    back.answer(tasks[0])
    assert [r.execution for r in await house.ended(1)] == [1]
    again = await back.got(1)
    assert again[0].execution_id == "wf-2"
    assert again[0].run_id != tasks[1].run_id
    back.answer(again[0])
    await house.ended(2)
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})


@on_stage
async def test_who_does_not_come_back_loses_its_tasks_after_the_grace(stage: Stage) -> None:
    house = await stage.house()
    service, _ = await running(stage, house)
    began = stage.loop.time()
    service.crash()
    other = await Service(house.room, components=[LONG], instance="i2").up()
    await other.got(1)
    assert 10 <= stage.loop.time() - began < 11


@on_stage
async def test_another_executor_adopts(stage: Stage) -> None:
    """The first executor lets go; nobody runs the task a second time, its frame is acked."""
    house = await stage.house()
    other = await stage.house("x2")
    service, tasks = await running(stage, house, 2)
    service.crash()
    await eventually(lambda: service.ended)
    back = await Service(other.room, components=[LONG], held=claims(tasks)).up()
    assert back.welcome is not None
    assert sorted(back.welcome.kept) == sorted(task.run_id for task in tasks)
    await stage.loop_sleep(150)
    assert back.tasks == []
    back.answer(*tasks)
    results = await other.ended(2)
    assert {(r.execution, r.status) for r in results} == {(1, QR.COMPLETED), (2, QR.COMPLETED)}
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})


@on_stage
async def test_a_dead_executors_tasks_are_adopted(stage: Stage) -> None:
    house = await stage.house()
    other = await stage.house("x2")
    service, tasks = await running(stage, house)
    house.queue.disconnect()  # type: ignore[attr-defined]
    service.crash()
    back = await Service(other.room, components=[LONG], held=claims(tasks)).up()
    await stage.loop_sleep(150)
    back.answer(*tasks)
    await other.ended(1)
    assert back.tasks == []
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})


@on_stage
async def test_a_stopping_executor_leaves_long_tasks_to_be_claimed(stage: Stage) -> None:
    house = await stage.house(drain_grace_s=1)
    other = await stage.house("x2")
    service, tasks = await running(stage, house)
    await house.room.stop()
    await eventually(lambda: service.ended)
    back = await Service(other.room, components=[LONG], held=claims(tasks)).up()
    await stage.loop_sleep(100)
    assert back.tasks == []
    back.answer(*tasks)
    await other.ended(1)


@on_stage
async def test_the_attempts_time_goes_on_while_parked(stage: Stage) -> None:
    house = await stage.house(resume_grace_s=30)
    service = await Service(house.room, components=[LONG]).up()
    await house.publish([queued(1, timeout_ms=5000)], "train")
    await service.got(1)
    service.crash()
    [result] = await house.ended(1)
    assert (result.status, result.failure.reason) == (QR.TIMED_OUT, "TIMEOUT")
    assert stage.loop.time() < 8


def test_forged_claims_are_refused() -> None:
    @on_stage
    async def scenario(stage: Stage) -> None:
        house = await stage.house()
        service, [task] = await running(stage, house)
        service.crash()
        await eventually(lambda: service.ended)
        token = task.resume_token
        facts = tokens.unseal(KEY, token, stage.clock.now_us())
        assert facts is not None
        forged = [
            (task.run_id, b""),
            (task.run_id, token[:-1] + bytes([token[-1] ^ 1])),
            (task.run_id, tokens.seal(b"x" * 32, facts)),
            (task.run_id + 1, token),
            (task.run_id, tokens.seal(KEY, facts._replace(expires_us=1))),
            (task.run_id, tokens.seal(KEY, facts._replace(namespace="other"))),
        ]
        for claim in forged:
            liar = await Service(house.room, components=[LONG], held=[claim], credit=1).up()
            assert liar.welcome is not None
            assert list(liar.welcome.kept) == []
            liar.close()
            await eventually(lambda liar=liar: liar.ended)  # type: ignore[misc]
        thief = await Service(
            house.room, components=[LONG], instance="i2", held=[(task.run_id, token)]
        ).up()
        assert thief.welcome is not None
        assert list(thief.welcome.kept) == []

    scenario()


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 500])
def test_any_bytes_are_no_token(size: int) -> None:
    assert tokens.unseal(KEY, bytes(size), 0) is None


@on_stage
async def test_a_second_stream_of_an_instance_replaces_the_first(stage: Stage) -> None:
    """The service noticed the break before the executor did."""
    house = await stage.house()
    service, tasks = await running(stage, house)
    back = await Service(house.room, components=[LONG], held=claims(tasks)).up()
    await eventually(lambda: service.ended)
    assert back.welcome is not None
    assert list(back.welcome.kept) == [tasks[0].run_id]
    back.answer(tasks[0])
    await house.ended(1)
