"""The ordinary road: frames in, hand-overs by credit, results out, acks after storage."""

from bend.internal.v1 import frames_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.executor.groups import group_id
from bend_server.ports.queue import CHUNKS, TASKS
from tests.executor.conftest import Stage, on_stage
from tests.kit.links import Service, contract, queued
from tests.kit.loops import eventually

QR = frames_pb2.QueuedResult


@on_stage
async def test_tasks_reach_a_service_and_results_the_engine(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room).up()
    assert house.registered.seen == [("default", "echo", "1.0.0")]
    await house.publish([queued(7, 2, try_=3, item=4, attempt=2, iteration=1, timeout_ms=9000)])
    [task] = await service.got(1)
    assert (task.execution_id, task.task, task.item, task.attempt) == ("wf-7", "t2", 4, 2)
    assert (task.iteration, task.timeout_ms, task.input) == (1, 9000, b'{"n":7}')
    assert (task.namespace, task.component) == ("default", 0)
    assert task.resume_token == b""
    service.answer(task, output=b'{"a":[1,2]}')
    [result] = await house.ended(1)
    assert (result.execution, result.task, result.item, getattr(result, "try")) == (7, 2, 4, 3)
    assert (result.status, result.output) == (QR.COMPLETED, b'{"a":[1,2]}')
    assert (result.run_id, result.worker) == (task.run_id, "i1")
    assert 0 < result.started_us <= result.finished_us
    await eventually(lambda: stage.broker.streams[TASKS].messages == {})
    await house.room.stop()


@on_stage
async def test_credit_is_never_exceeded(stage: Stage) -> None:
    """A service that asked for 4 tasks gets the fifth only after an answer."""
    house = await stage.house()
    service = await Service(house.room, credit=4).up()
    await house.publish([queued(n) for n in range(10)])
    await service.got(4)
    await house.publish([queued(n) for n in range(10, 12)])
    assert len(service.tasks) == 4
    service.answer(service.tasks[0])
    await service.got(5)
    assert len(service.tasks) == 5
    service.echo()
    results = await house.ended(12)
    assert sorted(r.execution for r in results) == list(range(12))
    assert len(service.tasks) == 12


@on_stage
async def test_tasks_travel_in_batches(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room, credit=1000).up()
    service.echo()
    for start in range(0, 512, 128):
        await house.publish([queued(n) for n in range(start, start + 128)])
    assert len(await house.ended(512)) == 512
    assert max(service.batches) <= 128
    assert len(service.batches) <= 16


@on_stage
async def test_instances_share_by_free_credit(stage: Stage) -> None:
    house = await stage.house()
    big = await Service(house.room, credit=30, instance="big").up()
    small = await Service(house.room, credit=10, instance="small").up()
    await house.publish([queued(n) for n in range(40)])
    await eventually(lambda: len(big.tasks) + len(small.tasks) == 40)
    assert (len(big.tasks), len(small.tasks)) == (30, 10)


@on_stage
async def test_an_executor_does_not_hoard(stage: Stage) -> None:
    """Without free credit only one frame is taken in advance: others may serve the rest."""
    house = await stage.house()
    service = await Service(house.room, credit=4).up()
    for start in range(0, 400, 10):
        await house.publish([queued(n) for n in range(start, start + 10)])
    await service.got(4)
    other = await stage.house("x2")
    helper = await Service(other.room, credit=400, instance="i2").up()
    helper.echo()
    await eventually(lambda: len(helper.tasks) >= 350, 5)


@on_stage
async def test_two_components_on_one_stream(stage: Stage) -> None:
    house = await stage.house()
    service = Service(house.room, components=[contract("echo"), contract("vision.detect", "2.1.0")])
    await service.up()
    await house.publish([queued(1, component="vision.detect")], "vision.detect", version="2.1.0")
    [task] = await service.got(1)
    assert task.component == 1
    service.answer(task)
    await house.ended(1)


@on_stage
async def test_labels_make_groups(stage: Stage) -> None:
    house = await stage.house()
    gpu = await Service(house.room, components=[contract(labels={"gpu": "yes"})]).up()
    await house.publish([queued(1)])
    await house.publish([queued(2)], labels={"gpu": "yes"})
    [task] = await gpu.got(1)
    assert task.execution_id == "wf-2"
    assert group_id("a", "b", "1.0.0", {"x": "1", "y": "2"}) == group_id(
        "a", "b", "1.0.0", {"y": "2", "x": "1"}
    )


@on_stage
async def test_large_outputs_go_to_the_blob_store(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room).up()
    await house.publish([queued(1), queued(2)])
    one, two = await service.got(2)
    large = b'"' + b"x" * 70_000 + b'"'
    service.answer(one, output=large)
    [result] = await house.ended(1)
    assert result.output == b""
    assert house.blobs.data[result.blob.key] == large
    assert result.blob.key.startswith("default/1/")
    assert result.blob.size_bytes == len(large)
    house.blobs.down = True
    service.answer(two, output=large)
    failed = (await house.ended(2))[1]
    assert (failed.status, failed.failure.reason) == (QR.FAILED, "DEPENDENCY_DOWN")
    assert failed.failure.retryable


@on_stage
async def test_chunks_are_batched_into_their_partition(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room).up()
    execution = 5 << 16
    await house.publish([queued(execution, try_=2, attempt=2)])
    [task] = await service.got(1)
    partial = pb.Chunk.PARTIAL
    chunks = [
        pb.Chunk(run_id=task.run_id, index=n, kind=partial, data=b'"%d"' % n) for n in range(20)
    ]
    chunks.append(pb.Chunk(run_id=task.run_id, index=20, kind=pb.Chunk.PARTIAL, data=b"{bad"))
    chunks.append(pb.Chunk(run_id=12345, index=0, kind=pb.Chunk.PARTIAL, data=b"1"))
    service.say(pb.ConnectRequest(chunks=pb.ChunkBatch(chunks=chunks)))
    stream = stage.broker.streams[CHUNKS]
    await eventually(lambda: len(stream.messages) > 0)
    [(subject, data, _)] = stream.messages.values()
    assert subject == "chunks.5"
    stored = frames_pb2.ChunkFrame.FromString(data).chunks
    assert [c.index for c in stored] == list(range(20))
    assert {(c.execution, getattr(c, "try"), c.attempt, c.run_id) for c in stored} == {
        (execution, 2, 2, task.run_id)
    }
    result = pb.TaskResult(run_id=task.run_id, output=b"1", chunk_count=20)
    service.say(pb.ConnectRequest(results=pb.TaskResultBatch(results=[result])))
    assert (await house.ended(1))[0].chunk_count == 20
