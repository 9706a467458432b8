"""Streams that begin wrongly, break, drain, fall silent or talk nonsense."""

import asyncio

import pytest

from bend.internal.v1 import control_pb2, frames_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.core.errors import (
    DependencyDown,
    DomainError,
    InvalidInput,
    NotPermitted,
    WrongState,
)
from bend_server.executor.groups import group_id
from bend_server.ports.queue import ASK_ANNOUNCE, TASKS
from tests.executor.conftest import Stage, on_stage
from tests.executor.test_redelivery import Asked
from tests.kit.links import MemoryLink, Service, contract, queued
from tests.kit.loops import eventually

QR = frames_pb2.QueuedResult


def test_a_bad_hello_is_refused() -> None:
    cases: list[tuple[pb.ConnectRequest, type[DomainError], str]] = [
        (pb.ConnectRequest(), InvalidInput, "PROTOCOL_VIOLATION"),
        (pb.ConnectRequest(drain=pb.Drain()), InvalidInput, "PROTOCOL_VIOLATION"),
        (_hello(protocol_version=2), WrongState, "PROTOCOL_MISMATCH"),
        (_hello(credit=0), InvalidInput, "PROTOCOL_VIOLATION"),
        (_hello(credit=70_000), InvalidInput, "PROTOCOL_VIOLATION"),
        (_hello(instance_id=""), InvalidInput, "PROTOCOL_VIOLATION"),
        (_hello(instance_id="x\n"), InvalidInput, "PROTOCOL_VIOLATION"),
        (_hello(components=[]), InvalidInput, "PROTOCOL_VIOLATION"),
        (_hello(components=[contract("Bad Name")]), InvalidInput, "PROTOCOL_VIOLATION"),
        (_hello(components=[contract(version="1")]), InvalidInput, "PROTOCOL_VIOLATION"),
        (_hello(components=[contract(), contract()]), InvalidInput, "PROTOCOL_VIOLATION"),
    ]

    @on_stage
    async def scenario(stage: Stage) -> None:
        house = await stage.house()
        for message, kind, reason in cases:
            link = MemoryLink()
            link.to_executor.put_nowait(message)
            with pytest.raises(kind) as caught:
                await house.room.attach(link)
            assert caught.value.reason == reason
        assert house.registered.seen == []

    scenario()


def _hello(**fields: object) -> pb.ConnectRequest:
    good: dict[str, object] = {
        "protocol_version": 1,
        "instance_id": "i1",
        "credit": 1,
        "components": [contract()],
        **fields,
    }
    return pb.ConnectRequest(hello=pb.Hello(**good))  # type: ignore[arg-type]


@on_stage
async def test_only_components_may_serve(stage: Stage) -> None:
    house = await stage.house()
    for subject in ("/user/ada", "/engine", "/gateway", "/component/", ""):
        link = MemoryLink(subject)
        link.to_executor.put_nowait(_hello())
        with pytest.raises(NotPermitted):
            await house.room.attach(link)


@on_stage
async def test_a_contract_mismatch_reaches_the_service(stage: Stage) -> None:
    house = await stage.house()
    house.registered.error = WrongState("other contract", reason="CONTRACT_MISMATCH")
    service = Service(house.room)
    await eventually(lambda: service.ended)
    assert isinstance(service.error, WrongState)
    assert service.error.reason == "CONTRACT_MISMATCH"


@on_stage
async def test_nonsense_on_a_stream_ends_only_that_stream(stage: Stage) -> None:
    house = await stage.house()
    good = await Service(house.room, instance="good").up()
    nonsense = [
        pb.ConnectRequest(),
        _hello(),
        pb.ConnectRequest(results=pb.TaskResultBatch(results=[pb.TaskResult()] * 1025)),
        pb.ConnectRequest(chunks=pb.ChunkBatch(chunks=[pb.Chunk()] * 1025)),
    ]
    for index, message in enumerate(nonsense):
        bad = await Service(house.room, instance=f"bad{index}").up()
        bad.say(message)
        await eventually(lambda bad=bad: bad.ended)  # type: ignore[misc]
        assert isinstance(bad.error, InvalidInput)
        assert bad.error.reason == "PROTOCOL_VIOLATION"
    good.say(pb.ConnectRequest(results=pb.TaskResultBatch(results=[pb.TaskResult(run_id=99)])))
    good.echo()
    await house.publish([queued(1)])
    assert (await house.ended(1))[0].status == QR.COMPLETED
    assert not good.ended


class SlowLink(MemoryLink):
    """A link whose writes take a second, like one to a service that reads slowly."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = False

    async def send(self, message: pb.ConnectResponse) -> None:
        self.writing = True
        await asyncio.sleep(1)
        await super().send(message)
        self.writing = False


@on_stage
async def test_a_stream_ends_after_the_write_under_way(stage: Stage) -> None:
    """gRPC refuses to send a status beside a message, and the service would never hear of it."""
    house = await stage.house()
    link = SlowLink()
    bad = Service(house.room, link=link)
    await eventually(lambda: link.writing)
    bad.say(pb.ConnectRequest())
    await eventually(lambda: bad.ended)
    assert isinstance(bad.error, InvalidInput)
    assert not link.writing


@on_stage
async def test_malformed_frames_are_dropped(stage: Stage) -> None:
    """Garbage on the queue is acked and logged; the next frame runs."""
    house = await stage.house()
    service = await Service(house.room).up()
    service.echo()
    group = group_id("default", "echo", "1.0.0", {})
    other = frames_pb2.TaskFrame(namespace="other", group=group, tasks=[queued(5)])
    empty = frames_pb2.TaskFrame(namespace="default", group=group)
    for data in (b"\xff\xff garbage", other.SerializeToString(), empty.SerializeToString(), b""):
        await house.queue.publish(f"tasks.{group}", data)
    await house.publish([queued(1)])
    assert [r.execution for r in await house.ended(1)] == [1]
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})
    await house.queue.broadcast("executor.cancel", b"\xff\xff")
    await house.queue.broadcast("executor.adopted", b"\xff\xff")
    await house.publish([queued(2)])
    await house.ended(2)


@on_stage
async def test_bad_outputs_become_failures(stage: Stage) -> None:
    """A component's nonsense fails its task and nothing else."""
    house = await stage.house()
    service = await Service(house.room, credit=20).up()
    outputs = [b"", b"{", b"NaN", b"\xff", b'{"a":1}x']
    await house.publish([queued(n) for n in range(len(outputs) + 3)])
    tasks = await service.got(len(outputs) + 3)
    for task, output in zip(tasks, outputs, strict=False):
        service.answer(task, output=output)
    service.say(
        pb.ConnectRequest(
            results=pb.TaskResultBatch(results=[pb.TaskResult(run_id=tasks[-3].run_id)])
        )
    )
    service.fail(tasks[-2], reason="not upper", message="x" * 20_000, details=b"{bad")
    service.fail(tasks[-1], reason="HTTP_503", message="m", retryable=True, details=b'{"a":1}')
    results = {r.execution: r for r in await house.ended(len(outputs) + 3)}
    for index in range(len(outputs) + 1):
        assert results[index].failure.reason == "INVALID_OUTPUT", index
        assert results[index].status == QR.FAILED
    vague, clear = results[len(outputs) + 1].failure, results[len(outputs) + 2].failure
    assert (vague.reason, len(vague.message), vague.details) == ("COMPONENT_ERROR", 8192, b"")
    assert (clear.reason, clear.retryable, clear.details) == ("HTTP_503", True, b'{"a":1}')


@on_stage
async def test_a_broken_stream_requeues_short_tasks_at_once(stage: Stage) -> None:
    house = await stage.house()
    dying = await Service(house.room, credit=4, instance="dying").up()
    await house.publish([queued(n) for n in range(4)])
    await dying.got(4)
    began = stage.loop.time()
    healthy = await Service(house.room, credit=4, instance="healthy").up()
    healthy.echo()
    dying.crash()
    results = await house.ended(4)
    assert stage.loop.time() - began < 1
    assert {r.worker for r in results} == {"healthy"}
    assert sorted(r.execution for r in results) == [0, 1, 2, 3]


@on_stage
async def test_the_last_instance_gone_hands_frames_back(stage: Stage) -> None:
    """Another executor gets them at once, not after ack_wait."""
    await stage.engine.serve("engine.open.0", Asked(closed=set()).answer)
    house = await stage.house()
    other = await stage.house("x2")
    dying = await Service(house.room, credit=2).up()
    await house.publish([queued(n) for n in range(6)])
    await dying.got(2)
    began = stage.loop.time()
    dying.crash()
    helper = await Service(other.room, credit=10, instance="i2").up()
    helper.echo()
    assert len(await house.ended(6)) == 6
    assert stage.loop.time() - began < 3


@on_stage
async def test_workers_lost_too_often_fail_the_attempt(stage: Stage) -> None:
    """A task that kills its workers does not kill them for ever."""
    house = await stage.house()
    await house.publish([queued(1)])
    for number in range(4):
        service = await Service(house.room, instance=f"i{number}").up()
        await service.got(1)
        service.crash()
        await eventually(lambda s=service: s.ended)  # type: ignore[misc]
    last = await Service(house.room, instance="last").up()
    [result] = await house.ended(1)
    assert last.tasks == []
    assert (result.status, result.failure.reason) == (QR.FAILED, "WORKER_LOST")
    assert result.failure.retryable


@on_stage
async def test_silence_is_death(stage: Stage) -> None:
    house = await stage.house()
    silent = await Service(house.room, beats=False).up()
    spoken = await Service(house.room, instance="i2").up()
    began = stage.loop.time()
    await eventually(lambda: silent.ended, 60)
    assert 14 < stage.loop.time() - began < 17
    assert isinstance(silent.error, DependencyDown)
    assert not spoken.ended


@on_stage
async def test_a_draining_service_gets_nothing_new(stage: Stage) -> None:
    house = await stage.house()
    leaving = await Service(house.room, credit=2, instance="leaving").up()
    await house.publish([queued(1), queued(2), queued(3)])
    await leaving.got(2)
    leaving.say(pb.ConnectRequest(drain=pb.Drain()))
    staying = await Service(house.room, credit=5, instance="staying").up()
    staying.echo()
    assert [r.execution for r in await house.ended(1)] == [3]
    leaving.answer(*leaving.tasks)
    leaving.close()
    await eventually(lambda: leaving.ended)
    results = await house.ended(3)
    assert sorted((r.execution, r.worker) for r in results) == [
        (1, "leaving"),
        (2, "leaving"),
        (3, "staying"),
    ]
    assert leaving.error is None


@on_stage
async def test_a_stopping_executor_lets_tasks_end(stage: Stage) -> None:
    """GoAway, what waits goes back to the queue, what runs may end, then the streams are cut."""
    house = await stage.house()
    other = await stage.house("x2")
    service = await Service(house.room, credit=2).up()
    await house.publish([queued(n) for n in range(2)])
    await house.publish([queued(n) for n in range(2, 6)])
    await service.got(2)
    stopping = stage.loop.create_task(house.room.stop())
    await eventually(lambda: service.gone_away)
    with pytest.raises(DependencyDown):
        await house.room.attach(MemoryLink())
    helper = await Service(other.room, credit=10, instance="i2").up()
    helper.echo()
    assert {r.execution for r in await house.ended(4)} == {2, 3, 4, 5}
    service.answer(*service.tasks)
    await stopping
    results = await other.results()
    assert sorted(r.execution for r in results) == [0, 1, 2, 3, 4, 5]
    assert {r.worker for r in results if r.execution < 2} == {"i1"}
    await eventually(lambda: service.ended)


@on_stage
async def test_an_executor_that_is_asked_announces_itself_at_once(stage: Stage) -> None:
    """A restarted engine must not leave tasks undispatched until the next period."""
    heard: list[bytes] = []

    async def hear(data: bytes) -> None:
        heard.append(data)

    await stage.engine.subscribe("registry.announce", hear)
    house = await stage.house()
    await Service(house.room).up()
    await eventually(lambda: bool(heard), 1)
    count, began = len(heard), stage.loop.time()
    await stage.engine.broadcast(ASK_ANNOUNCE, b"")
    await eventually(lambda: len(heard) > count, 10)
    assert stage.loop.time() - began < 0.5


@on_stage
async def test_announcements_tell_what_lives_here(stage: Stage) -> None:
    heard: list[control_pb2.InstanceAnnouncement] = []

    async def hear(data: bytes) -> None:
        heard.append(control_pb2.InstanceAnnouncement.FromString(data))

    await stage.engine.subscribe("registry.announce", hear)
    house = await stage.house()
    service = await Service(house.room, credit=7, components=[contract(labels={"a": "b"})]).up()
    await eventually(lambda: bool(heard) and bool(heard[-1].groups), 1)
    [group] = heard[-1].groups
    assert group.group == group_id("default", "echo", "1.0.0", {"a": "b"})
    assert (group.component, group.version, group.credit) == ("echo", "1.0.0", 7)
    assert [i.instance_id for i in group.instances] == ["i1"]
    count = len(heard)
    began = stage.loop.time()
    await eventually(lambda: len(heard) >= count + 2, 20)
    assert stage.loop.time() - began < 7
    service.close()
    await eventually(lambda: not heard[-1].groups, 1)
    await house.room.stop()
    await eventually(lambda: heard[-1].leaving)
    assert [a.sequence for a in heard] == list(range(1, len(heard) + 1))
    assert len({a.incarnation for a in heard}) == 1


@on_stage
async def test_a_stream_that_takes_anothers_place_leaves_it_what_it_holds(stage: Stage) -> None:
    """A connection that is only old must not cost a task a second run."""
    house = await stage.house()
    old = await Service(house.room, credit=2, instance="same").up()
    await house.publish([queued(1), queued(2), queued(3)])
    await old.got(2)
    new = await Service(house.room, credit=2, instance="same", rotates=True).up()
    new.echo()
    assert [result.execution for result in await house.ended(1)] == [3]
    old.answer(*old.tasks)
    old.close()
    await house.ended(3)
    assert old.error is None
    assert sorted(task.execution_id for task in old.tasks) == ["wf-1", "wf-2"]
    await house.publish([queued(4)])
    await house.ended(4)
    broken = await Service(house.room, credit=2, instance="same").up()
    await eventually(lambda: new.ended)
    assert isinstance(new.error, DependencyDown)
    assert not broken.ended
