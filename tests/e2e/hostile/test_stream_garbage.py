"""Garbage on the Connect stream of a real executor: that stream ends with a reason, no other does.

What would break in production if these fail: one faulty component service stops all services.
"""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bend.v1 import executor_service_pb2 as pb
from tests.e2e.hostile.house import END_S, House

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

CALL_S = 120.0
CONNECT = "/bend.v1.ExecutorService/Connect"
SCHEMA = b'{"type":"object"}'


def hello(**fields: Any) -> pb.ConnectRequest:
    """Return a first message that is right but for `fields`."""
    whole: dict[str, Any] = {
        "protocol_version": 1,
        "instance_id": "garbage-1",
        "credit": 4,
        "components": [
            {
                "name": "hostile.garbage",
                "version": "1.0.0",
                "input_schema": SCHEMA,
                "output_schema": SCHEMA,
            }
        ],
    }
    return pb.ConnectRequest(hello=pb.Hello(**{**whole, **fields}))


def named(name: str, version: str = "1.0.0", **fields: Any) -> dict[str, Any]:
    """Return the `components` of a hello with one contract."""
    return {"components": [{"name": name, "version": version, **fields}]}


RESULTS = pb.ConnectRequest(
    results=pb.TaskResultBatch(results=[pb.TaskResult(run_id=1, output=b"1")])
).SerializeToString()
GOOD = hello().SerializeToString()
STREAMS: dict[str, tuple[list[bytes], str]] = {
    "nothing readable": ([b"\xff" * 100], "message"),
    "an empty message": ([b""], "message"),
    "results before the hello": ([RESULTS], "message"),
    "two hellos": ([GOOD, GOOD], "hello"),
    "noise after the hello": ([GOOD, b"\xff" * 100], "message"),
    "an empty message after the hello": ([GOOD, b""], "message"),
    "no instance": ([hello(instance_id="").SerializeToString()], "instance_id"),
    "a hostile instance": ([hello(instance_id="a\0b").SerializeToString()], "instance_id"),
    "no credit": ([hello(credit=0).SerializeToString()], "credit"),
    "endless credit": ([hello(credit=(1 << 31) - 1).SerializeToString()], "credit"),
    "no components": ([hello(components=[]).SerializeToString()], "components"),
    "a hostile name": ([hello(**named("../x")).SerializeToString()], "components[0].name"),
    "a hostile version": (
        [hello(**named("hostile.x", "1")).SerializeToString()],
        "components[0].version",
    ),
    "an endless schema": (
        [hello(**named("hostile.x", input_schema=b" " * 300_000)).SerializeToString()],
        "components[0].input_schema",
    ),
    "too many components": (
        [
            hello(
                components=[{"name": f"hostile.c{n}", "version": "1.0.0"} for n in range(257)]
            ).SerializeToString()
        ],
        "components",
    ),
}


def refused(house: House, messages: list[bytes]) -> tuple[grpc.StatusCode, str, str, str]:
    """Send raw messages; return code, reason, field and text of the stream's end."""
    over = threading.Event()

    def requests() -> Iterator[bytes]:
        yield from messages
        over.wait(CALL_S)

    with house.channel(house.gateway, "component-hostile") as channel:
        call = channel.stream_stream(CONNECT)(requests(), timeout=CALL_S)
        try:
            with pytest.raises(grpc.RpcError) as caught:
                for _ in call:
                    pass
        finally:
            over.set()
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    if status is not None and status.details:
        status.details[0].Unpack(info)
    return caught.value.code(), info.reason, info.metadata["field"], caught.value.details()


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_breaks_the_protocol_ends_alone(house: House, name: str) -> None:
    messages, place = STREAMS[name]
    load = house.start_load(5)
    code, reason, field, text = refused(house, messages)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PROTOCOL_VIOLATION"), text
    assert field == place
    assert text
    house.judge(load)


def test_a_schema_that_is_no_schema_is_refused(house: House) -> None:
    broken = named("hostile.broken", input_schema=b"{not json", output_schema=SCHEMA)
    code, reason, _, text = refused(house, [hello(**broken).SerializeToString()])
    assert code is grpc.StatusCode.INVALID_ARGUMENT, (code, reason, text)
    assert "JSON" in text


def test_a_message_over_every_limit_ends_its_own_stream(house: House) -> None:
    """65 MiB: gRPC itself refuses it; the executor and its other streams live on."""
    load = house.start_load(10)
    huge = pb.ConnectRequest(
        results=pb.TaskResultBatch(results=[pb.TaskResult(run_id=1, output=b"x" * (65 << 20))])
    ).SerializeToString()
    code, *_ = refused(house, [GOOD, huge])
    assert code in {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
    house.judge(load)


def test_results_of_others_and_late_ones_count_for_nothing(house: House) -> None:
    """Answers for run ids that this stream was never given are dropped."""
    load = house.start_load(10)
    over = threading.Event()

    def requests() -> Iterator[bytes]:
        yield GOOD
        for run_id in (*range(200), (1 << 64) - 1):
            result = pb.TaskResult(run_id=run_id, output=b'"forged"')
            chunk = pb.Chunk(run_id=run_id, kind=pb.Chunk.PARTIAL, data=b"{not json")
            yield pb.ConnectRequest(
                results=pb.TaskResultBatch(results=[result, result])
            ).SerializeToString()
            yield pb.ConnectRequest(chunks=pb.ChunkBatch(chunks=[chunk])).SerializeToString()
        yield pb.ConnectRequest(heartbeat=pb.Heartbeat(run_ids=[1, 2])).SerializeToString()
        house.judge(load)
        yield pb.ConnectRequest(drain=pb.Drain()).SerializeToString()
        over.wait(CALL_S)

    with house.channel(house.gateway, "component-hostile") as channel:
        call = channel.stream_stream(CONNECT)(requests(), timeout=2 * END_S)
        welcome = pb.ConnectResponse.FromString(next(call))
        assert welcome.WhichOneof("message") == "welcome"
        house.judge(load)
        over.set()
        call.cancel()
