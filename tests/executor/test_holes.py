"""Holes: secrets and blobs are filled in by the executor, once, and secrets do not come out."""

import base64
import json
from urllib.parse import quote, quote_plus

import orjson
import pytest

from bend.internal.v1 import frames_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.executor.secrets import scrub, scrub_text, traces
from bend_server.ports.queue import CHUNKS, TASKS
from tests.executor.conftest import Stage, on_stage
from tests.kit.links import Service, contract, queued
from tests.kit.loops import eventually

QR = frames_pb2.QueuedResult
SECRET = "hunter2hunter2"


def hole(path: str, *parts: frames_pb2.HolePart) -> frames_pb2.Hole:
    return frames_pb2.Hole(path=path, parts=parts)


def secret(name: str = "token") -> frames_pb2.HolePart:
    return frames_pb2.HolePart(secret=name)


def text(value: str) -> frames_pb2.HolePart:
    return frames_pb2.HolePart(text=value)


def blob(key: str) -> frames_pb2.HolePart:
    return frames_pb2.HolePart(blob=frames_pb2.BlobRef(key=key, size_bytes=1))


@on_stage
async def test_holes_are_filled(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room).up()
    house.blobs.data["default/1/a"] = b'{"big":[1,12345678901234567890123]}'
    house.blobs.data["default/1/b"] = b'"raw text"'
    document = b'{"a":null,"b":{"c/d":[0,null,null]},"n":12345678901234567890123,"t":"\xc3\xa9"}'
    holes = [
        hole("/a", blob("default/1/a")),
        hole("/b/c~1d/1", text("Bearer "), secret()),
        hole("/b/c~1d/2", text("<"), blob("default/1/b"), blob("default/1/a"), text(">")),
    ]
    await house.publish([queued(1, input=document, holes=holes)])
    [task] = await service.got(1)
    assert json.loads(task.input) == {
        "a": {"big": [1, 12345678901234567890123]},
        "b": {
            "c/d": [
                0,
                f"Bearer {SECRET}",
                '<raw text{"big":[1,12345678901234567890123]}>',
            ]
        },
        "n": 12345678901234567890123,
        "t": "é",
    }


@on_stage
async def test_a_whole_input_may_be_a_hole(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room).up()
    house.blobs.data["default/1/a"] = b"[1,2]"
    await house.publish([queued(1, input=b"null", holes=[hole("", blob("default/1/a"))])])
    assert (await service.got(1))[0].input == b"[1,2]"


@on_stage
async def test_filled_values_are_not_read_again(stage: Stage) -> None:
    """A response that looks like a template or a mark stays what it is."""
    house = await stage.house()
    service = await Service(house.room).up()
    tricky = json.dumps({"x": "{{ secrets.token }}", "y": "0000000000000001-0"}).encode()
    house.blobs.data["default/1/a"] = tricky
    holes = [hole("/a", blob("default/1/a")), hole("/b", secret())]
    await house.publish([queued(1, input=b'{"a":null,"b":null}', holes=holes)])
    [task] = await service.got(1)
    assert json.loads(task.input) == {"a": json.loads(tricky), "b": SECRET}


@pytest.mark.parametrize(
    ("path", "part", "reason", "retryable"),
    [
        ("/a", secret("nobody"), "SECRET_NOT_FOUND", False),
        ("/a", blob("default/1/gone"), "BLOB_NOT_FOUND", False),
        ("/a", blob("other/1/theirs"), "INVALID_INPUT", False),
        ("/x/y", text("t"), "INVALID_INPUT", False),
        ("/a", frames_pb2.HolePart(), "INVALID_INPUT", False),
        ("/a", blob("down"), "DEPENDENCY_DOWN", True),
    ],
)
def test_what_cannot_be_filled_fails(
    path: str, part: frames_pb2.HolePart, reason: str, retryable: bool
) -> None:
    @on_stage
    async def scenario(stage: Stage) -> None:
        house = await stage.house()
        if part.blob.key == "down":
            house.blobs.down = True
            part.blob.key = "default/1/a"
        service = await Service(house.room).up()
        service.echo()
        await house.publish([queued(1, input=b'{"a":null}', holes=[hole(path, part)]), queued(2)])
        results = {r.execution: r for r in await house.ended(2)}
        assert (results[1].status, results[1].failure.reason) == (QR.FAILED, reason)
        assert results[1].failure.retryable == retryable
        assert results[2].status == QR.COMPLETED
        await eventually(lambda: stage.broker.streams[TASKS].messages == {})

    scenario()


@on_stage
async def test_invariant_9_secrets_do_not_come_out(stage: Stage) -> None:
    house = await stage.house()
    service = await Service(house.room).up()
    holes = [hole("/a", secret())]
    await house.publish([queued(n, input=b'{"a":null}', holes=holes) for n in (1, 2)])
    one, two = await service.got(2)
    chunk = pb.Chunk(run_id=one.run_id, kind=pb.Chunk.PARTIAL, data=b'"my %s!"' % SECRET.encode())
    service.say(pb.ConnectRequest(chunks=pb.ChunkBatch(chunks=[chunk])))
    service.answer(one, output=json.dumps({"echo": f"<{SECRET}>"}).encode())
    service.fail(two, reason="X", message=f"bad {SECRET}", details=json.dumps([SECRET]).encode())
    results = {r.execution: r for r in await house.ended(2)}
    assert results[1].output == b'{"echo": "<***>"}'
    assert results[2].failure.message == "bad ***"
    assert results[2].failure.details == b'["***"]'
    await eventually(lambda: len(stage.broker.streams[CHUNKS].messages) == 1)
    for stream in stage.broker.streams.values():
        for _, data, _ in stream.messages.values():
            assert SECRET.encode() not in data


@on_stage
async def test_a_secret_cut_over_chunks_does_not_come_out(stage: Stage) -> None:
    """What is held goes with the result at the latest, and before it."""
    house = await stage.house()
    service = await Service(house.room).up()
    await house.publish([queued(1, input=b'{"a":null}', holes=[hole("/a", secret())])])
    (one,) = await service.got(1)
    pieces = [f"<{SECRET[:6]}", f"{SECRET[6:]}>", SECRET[:-1]]
    chunks = [
        pb.Chunk(run_id=one.run_id, index=n, kind=pb.Chunk.PARTIAL, data=json.dumps(text).encode())
        for n, text in enumerate(pieces)
    ]
    for chunk in chunks:
        service.say(pb.ConnectRequest(chunks=pb.ChunkBatch(chunks=[chunk])))
    service.answer(one)
    await house.ended(1)

    def texts() -> list[str]:
        stored = [
            chunk
            for _, data, _ in stage.broker.streams[CHUNKS].messages.values()
            for chunk in frames_pb2.ChunkFrame.FromString(data).chunks
        ]
        assert {chunk.run_id for chunk in stored} <= {one.run_id}
        return [json.loads(chunk.data) for chunk in stored]

    await eventually(lambda: len(texts()) == 3)
    assert texts() == ["<***", ">", "***"]


@pytest.mark.parametrize("secret", ["s3cr3t/+&?=ä", "\xfb\xff\xfe passw0rd", "sixteen letters!"])
@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", "x", "xy", "xyz"])
def test_traces_know_how_a_secret_travels(secret: str, before: str, after: str) -> None:
    """As in `Authorization: Basic`, in a query and in a form, all of which services echo."""
    found = traces([secret])
    data = f"{before}{secret}{after}".encode()
    for text in (
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
    ):
        masked = scrub_text(text, found)
        assert "***" in masked
        # A letter at each end is shared with what is around it.
        assert len(masked) <= len(text) - len(secret) + 3
    for text in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        assert scrub_text(f"{before}{text}{after}", found) == f"{before}***{after}"
        assert scrub(orjson.dumps({"a": text}), found) == b'{"a":"***"}'


def test_short_secrets_have_no_encodings() -> None:
    assert traces(["four"]).text == ("four",)


def test_traces_know_escapes() -> None:
    value = 'pä"ss\\wörd\n'
    found = traces([value, "abc"])
    for dumped in (json.dumps({"x": value}), json.dumps({"x": value}, ensure_ascii=False)):
        assert json.loads(scrub(dumped.encode(), found)) == {"x": "***"}
    assert scrub_text(f"a {value} abc", found) == "a *** abc"


@on_stage
async def test_an_adopter_scrubs_too(stage: Stage) -> None:
    """A task that another executor filled keeps its secrets after its stream moved."""
    long = contract("train", long_running=True)
    house, other = await stage.house(), await stage.house("x2")
    service = await Service(house.room, components=[long]).up()
    await house.publish([queued(1, input=b'{"a":null}', holes=[hole("/a", secret())])], "train")
    [task] = await service.got(1)
    assert SECRET.encode() not in task.resume_token
    service.crash()
    held = [(task.run_id, task.resume_token)]
    back = await Service(other.room, components=[long], held=held).up()
    back.answer(task, output=b'"%s"' % SECRET.encode())
    assert [r.output for r in await other.ended(1)] == [b'"***"']
