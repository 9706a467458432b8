"""Timeouts, heartbeats of tasks, cancels, and hints about what runs."""

from bend.internal.v1 import control_pb2, frames_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.executor.holdings import Key, key_of, task_key
from bend_server.ports.queue import TASKS
from tests.executor.conftest import Stage, on_stage
from tests.kit.links import House, Service, contract, queued
from tests.kit.loops import eventually

QR = frames_pb2.QueuedResult


async def cancel(house: House, *keys: Key) -> None:
    """Broadcast a cancel as an engine does."""
    notice = control_pb2.CancelNotice(keys=[task_key(key) for key in keys])
    await house.queue.broadcast("executor.cancel", notice.SerializeToString())


@on_stage
async def test_an_attempt_has_its_time(stage: Stage) -> None:
    """The result comes at once; the credit only when the worker answers."""
    house = await stage.house()
    service = await Service(house.room, credit=1).up()
    await house.publish([queued(1, timeout_ms=2000)])
    await house.publish([queued(2)])
    [task] = await service.got(1)
    began = stage.loop.time()
    [result] = await house.ended(1)
    assert 2.0 <= stage.loop.time() - began < 2.6
    assert (result.status, result.failure.reason) == (QR.TIMED_OUT, "TIMEOUT")
    assert result.failure.retryable
    await eventually(lambda: service.cancelled == [task.run_id])
    await stage.loop_sleep(3)
    assert len(service.tasks) == 1
    service.answer(task, output=b'"late"')
    await service.got(2)
    service.answer(service.tasks[1])
    results = await house.ended(2)
    assert [r.execution for r in results] == [1, 2]


@on_stage
async def test_a_task_may_wait_only_so_long(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room, credit=1).up()
    soon = stage.clock.now_us() + 3_000_000
    await house.publish([queued(1), queued(2, schedule_deadline_us=soon)])
    await service.got(1)
    [result] = await house.ended(1)
    assert result.execution == 2
    assert (result.status, result.failure.reason) == (QR.TIMED_OUT, "SCHEDULE_TIMEOUT")
    assert (result.run_id, result.worker) == (0, "")
    service.answer(service.tasks[0])
    await house.ended(2)
    await house.publish([queued(3, schedule_deadline_us=stage.clock.now_us() - 1)])
    assert (await house.ended(3))[2].failure.reason == "SCHEDULE_TIMEOUT"
    assert len(service.tasks) == 1
    await house.publish([queued(4)])
    assert (await service.got(2))[1].execution_id == "wf-4"


@on_stage
async def test_heartbeats_count_where_the_contract_asks(stage: Stage) -> None:
    house = await stage.house()
    beating = contract(heartbeats=True)
    service = await Service(house.room, components=[beating, contract("plain")]).up()
    await house.publish([queued(n, heartbeat_timeout_ms=4000) for n in (1, 2)])
    await house.publish([queued(3, heartbeat_timeout_ms=4000)], "plain")
    tasks = {task.execution_id: task for task in await service.got(3)}
    for _ in range(4):
        await stage.loop_sleep(2)
        run_ids = [tasks["wf-2"].run_id]
        service.say(pb.ConnectRequest(heartbeat=pb.Heartbeat(run_ids=run_ids)))
    [result] = await house.results()
    assert (result.execution, result.failure.reason) == (1, "HEARTBEAT_TIMEOUT")
    assert result.status == QR.TIMED_OUT
    service.answer(tasks["wf-2"], tasks["wf-3"])
    assert sorted(r.execution for r in await house.ended(3)) == [1, 2, 3]


@on_stage
async def test_cancels_stop_what_waits_and_what_runs(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room, credit=2).up()
    await house.publish([queued(n) for n in range(1, 6)])
    tasks = await service.got(2)
    await cancel(house, (1, 0, 0, 1), (3, 0, 0, 1), (4, 0, 0, 0), (9, 0, 0, 1))
    results = await house.ended(2)
    ends = sorted((r.execution, r.status) for r in results)
    assert ends == [(3, QR.CANCELLED), (4, QR.CANCELLED)]
    await eventually(lambda: service.cancelled == [tasks[0].run_id])
    stopped = pb.TaskResult(run_id=tasks[0].run_id, cancelled=pb.Cancelled())
    service.say(pb.ConnectRequest(results=pb.TaskResultBatch(results=[stopped])))
    third = (await house.ended(3))[2]
    assert (third.execution, third.status) == (1, QR.CANCELLED)
    service.echo()
    assert sorted(r.execution for r in await house.ended(5)) == [1, 2, 3, 4, 5]
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})


@on_stage
async def test_a_cancel_that_is_not_obeyed_ends_in_the_grace(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room, credit=1).up()
    await house.publish([queued(1)])
    await service.got(1)
    began = stage.loop.time()
    await cancel(house, (1, 0, 0, 0))
    [result] = await house.ended(1)
    assert result.status == QR.CANCELLED
    assert 10 <= stage.loop.time() - began < 11


@on_stage
async def test_cancelled_tries_are_remembered(stage: Stage) -> None:
    """A cancel may overtake the frame; for 60 s it still counts."""
    house = await stage.house()
    service = await Service(house.room).up()
    await cancel(house, (1, 0, 0, 1), (2, 0, 0, 0))
    await stage.loop_sleep(1)
    await house.publish([queued(1), queued(1, try_=2), queued(2, task=5)])
    [task] = await service.got(1)
    assert task.execution_id == "wf-1"
    results = await house.ended(2)
    assert {(r.execution, getattr(r, "try")) for r in results} == {(1, 1), (2, 1)}
    service.answer(task)
    await stage.loop_sleep(61)
    await house.publish([queued(1)])
    await service.got(2)


@on_stage
async def test_engines_hear_what_runs_long(stage: Stage) -> None:
    heard: list[tuple[Key, str]] = []

    async def hear(data: bytes) -> None:
        notice = control_pb2.StartedNotice.FromString(data)
        heard.extend(zip(map(key_of, notice.keys), notice.workers, strict=True))

    await stage.engine.subscribe("engine.started.3", hear)
    house = await stage.house()
    service = await Service(house.room).up()
    await house.publish([queued(1), queued(2)], slot=3)
    one, two = await service.got(2)
    service.answer(one)
    await eventually(lambda: heard == [((2, 0, 0, 1), "i1")], 5)
    await stage.loop_sleep(5)
    assert len(heard) == 1
    service.answer(two)
