"""gRPC and gRPC-Web through a real Envoy."""

import struct

import grpc
import pytest

from bend.v1 import (
    engine_service_pb2 as engine,
)
from bend.v1 import (
    engine_service_pb2_grpc,
    executor_service_pb2,
    executor_service_pb2_grpc,
)
from bend_envoy.listeners import STREAMS_MAX
from tests.mesh.doors import Gateway


def channel(door: Gateway, stem: str | None) -> grpc.Channel:
    """Return a channel to the HTTPS door."""
    key = chain = None
    if stem:
        key = (door.authority.folder / f"{stem}.key").read_bytes()
        chain = (door.authority.folder / f"{stem}.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(door.authority.ca.read_bytes(), key, chain)
    return grpc.secure_channel(f"127.0.0.1:{door.settings.https_port}", credentials)


def test_unary_passes_through(door: Gateway) -> None:
    with channel(door, "user-ada") as link:
        stub = engine_service_pb2_grpc.EngineServiceStub(link)
        answer = stub.RunWorkflow(engine.RunWorkflowRequest(start={"workflow": "w"}), timeout=60)
    assert answer.execution.execution_id == "w"


def test_forged_peer_in_metadata_is_replaced(door: Gateway) -> None:
    with channel(door, "component-x") as link:
        stub = executor_service_pb2_grpc.ExecutorServiceStub(link)
        answers = stub.Connect(
            iter([executor_service_pb2.ConnectRequest()] * 3),
            metadata=[("x-bend-peer", "spiffe://bend.local/engine")],
            timeout=60,
        )
        peers = [answer.welcome.executor for answer in answers]
    assert peers == ["spiffe://bend.local/component/x"] * 3


def test_native_errors_keep_status_and_plain_text(door: Gateway) -> None:
    with channel(door, "user-ada") as link:
        stub = engine_service_pb2_grpc.EngineServiceStub(link)
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetExecution(engine.GetExecutionRequest(execution_id="e"), timeout=60)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert (
            b"EXECUTION_NOT_FOUND"
            in dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
        )
        unknown = link.unary_unary("/no.Such/Method")
        with pytest.raises(grpc.RpcError) as missing:
            unknown(b"", timeout=60)
    assert missing.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert missing.value.details() == "no such path"


def test_h2_without_tls_serves_grpc_on_the_loopback_door(door: Gateway) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{door.settings.http_port}") as link:
        stub = engine_service_pb2_grpc.EngineServiceStub(link)
        answer = stub.RunWorkflow(engine.RunWorkflowRequest(start={"workflow": "v"}), timeout=60)
    assert answer.execution.execution_id == "v"


def test_grpc_web(door: Gateway) -> None:
    request = engine.RunWorkflowRequest(start={"workflow": "web"}).SerializeToString()
    with door.plain() as client:
        answer = client.post(
            "/bend.v1.EngineService/RunWorkflow",
            content=struct.pack(">BI", 0, len(request)) + request,
            headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
        )
    assert answer.status_code == 200
    flags, length = struct.unpack(">BI", answer.content[:5])
    message = engine.RunWorkflowResponse.FromString(answer.content[5 : 5 + length])
    assert (flags, message.execution.execution_id) == (0, "web")
    assert b"grpc-status:0" in answer.content[5 + length :].replace(b" ", b"")


def test_many_streams_fit_in_one_connection(door: Gateway) -> None:
    """Envoy's default of 100 would let the 101st component link wait silently."""
    assert STREAMS_MAX >= 1000
    hold = 150
    with channel(door, "component-x") as link:
        stub = executor_service_pb2_grpc.ExecutorServiceStub(link)
        calls = [
            stub.Connect(iter([executor_service_pb2.ConnectRequest()]), timeout=30)
            for _ in range(hold)
        ]
        assert sum(len(list(call)) for call in calls) == hold


def test_grpc_health_of_the_mesh_is_not_for_outsiders(door: Gateway) -> None:
    with channel(door, "user-ada") as link, pytest.raises(grpc.RpcError) as refused:
        link.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=60)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
