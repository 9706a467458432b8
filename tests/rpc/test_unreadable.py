"""Bytes that are no message: a client's mistake with a reason, never a fault of the server's."""

from typing import Any

import grpc
import pytest

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import engine_service_pb2_grpc
from bend_server.rpc.connect import executor_service
from bend_server.rpc.server import service
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.door import channel, details, serving

GET = "/bend.v1.EngineService/GetWorkflow"
WATCH = "/bend.v1.EngineService/WatchExecution"
CONNECT = "/bend.v1.ExecutorService/Connect"
# Field 1 is a text in both requests: not UTF-8, cut off, and no protobuf at all.
GARBAGE = [b"\x0a\x02\xff\xfe", b"\x0a\x7fabc", b"\xff" * 64]


class Engine(engine_service_pb2_grpc.EngineServiceServicer):
    async def GetWorkflow(self, request: Any, context: Any) -> Any:
        return pb.GetWorkflowResponse()

    async def WatchExecution(self, request: Any, context: Any) -> Any:
        yield pb.WatchExecutionResponse()


class Room:
    """Serves a stream by taking all that comes."""

    async def attach(self, link: Any) -> None:
        while await link.receive() is not None:
            continue


def refusal(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str, str]:
    reason, metadata, status = details(error)
    assert "UTF-8" in status.message
    return error.code(), reason, metadata["field"]


@pytest.mark.parametrize("garbage", GARBAGE)
@in_loop
async def test_an_unreadable_request_is_refused(authority: TestAuthority, garbage: bytes) -> None:
    descriptor = pb.DESCRIPTOR.services_by_name["EngineService"]
    add = engine_service_pb2_grpc.add_EngineServiceServicer_to_server
    async with (
        serving(authority, [service(descriptor, add, Engine())]) as server,
        channel(authority, server.port, "bench") as target,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as unary:
            await target.unary_unary(GET)(garbage, timeout=30)
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            async for _ in target.unary_stream(WATCH)(garbage, timeout=30):
                pass
        good = pb.GetWorkflowRequest(name="w").SerializeToString()
        assert await target.unary_unary(GET)(good, timeout=30) == b""
    for caught in (unary, stream):
        assert refusal(caught.value) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            "message",
        )


@pytest.mark.parametrize("garbage", GARBAGE)
@in_loop
async def test_garbage_on_a_stream_breaks_the_protocol(
    authority: TestAuthority, garbage: bytes
) -> None:
    async with (
        serving(authority, [executor_service(Room())], role="executor") as server,
        channel(authority, server.port, "component-vision") as target,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in target.stream_stream(CONNECT)(iter([garbage]), timeout=30):
                pass
    assert refusal(caught.value) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "PROTOCOL_VIOLATION",
        "message",
    )
