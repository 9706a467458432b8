"""If these fail, an RPC is served unguarded, a stop cuts calls, or renewed certificates wait."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bend.v1 import (
    component_service_pb2,
    engine_service_pb2,
    executor_service_pb2,
    operations_service_pb2,
    registry_service_pb2,
)
from bend.v1 import engine_service_pb2_grpc as engine_grpc
from bend_server.rpc import permissions
from bend_server.rpc.server import UnruledMethods, service
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.door import channel, serving

FILES = (
    component_service_pb2,
    engine_service_pb2,
    executor_service_pb2,
    registry_service_pb2,
    operations_service_pb2,
)


def methods() -> list[str]:
    return [
        f"/{described.full_name}/{method.name}"
        for file in FILES
        for described in file.DESCRIPTOR.services_by_name.values()
        for method in described.methods
    ]


def test_every_rpc_has_a_permission_rule_and_every_rule_an_rpc() -> None:
    assert permissions.missing(methods()) == []
    ours = {method for method in permissions.RULES if method.startswith("/bend.v1.")}
    assert ours == set(methods())
    granted = set().union(*permissions.GRANTS.values())
    assert {rule.permission for rule in permissions.RULES.values()} - {""} <= granted


class Slow(engine_grpc.EngineServiceServicer):
    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()

    async def ListWorkflows(self, request, context):
        self.entered.set()
        await self.go.wait()
        return engine_service_pb2.ListWorkflowsResponse(next_page_token="done")


def slow_service(slow: Slow):
    return service(
        engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"],
        engine_grpc.add_EngineServiceServicer_to_server,
        slow,
    )


@in_loop
async def test_invariant_8_an_rpc_without_a_rule_is_not_served(
    authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(permissions.RULES, "/bend.v1.EngineService/CancelExecution")
    with pytest.raises(UnruledMethods, match="EngineService/CancelExecution"):
        async with serving(authority, [slow_service(Slow())]):
            pass


@in_loop
async def test_a_stop_lets_running_calls_end(authority: TestAuthority) -> None:
    slow = Slow()
    async with (
        serving(authority, [slow_service(slow)]) as server,
        channel(authority, server.port, "bench") as target,
    ):
        stub = engine_grpc.EngineServiceStub(target)
        call = stub.ListWorkflows(engine_service_pb2.ListWorkflowsRequest(), timeout=30)
        await slow.entered.wait()
        stopping = asyncio.create_task(server.stop(10))
        slow.go.set()
        assert (await call).next_page_token == "done"
        await stopping


@in_loop
async def test_a_call_ends_at_the_callers_deadline(authority: TestAuthority) -> None:
    slow = Slow()
    async with (
        serving(authority, [slow_service(slow)]) as server,
        channel(authority, server.port, "bench") as target,
    ):
        stub = engine_grpc.EngineServiceStub(target)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListWorkflows(engine_service_pb2.ListWorkflowsRequest(), timeout=0.3)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


@in_loop
async def test_health_follows_what_is_said(authority: TestAuthority) -> None:
    name = "bend.v1.EngineService"
    async with (
        serving(authority, [slow_service(Slow())]) as server,
        channel(authority, server.port, "gateway") as target,
    ):
        stub = health_pb2_grpc.HealthStub(target)
        kind = health_pb2.HealthCheckResponse

        async def status() -> int:
            request = health_pb2.HealthCheckRequest(service=name)
            return (await stub.Check(request, timeout=30)).status

        assert await status() == kind.SERVING
        await server.set_serving(name, False)
        assert await status() == kind.NOT_SERVING
        await server.set_serving(name, True)
        assert await status() == kind.SERVING


@in_loop
async def test_a_taken_port_is_an_error(authority: TestAuthority) -> None:
    from bend_server.rpc.identity import Authenticator
    from bend_server.rpc.server import TlsFiles, serve

    folder = authority.folder
    async with serving(authority, [slow_service(Slow())]) as server:
        with pytest.raises(OSError, match=str(server.port)):
            await serve(
                [],
                address="127.0.0.1",
                port=server.port,
                tls=TlsFiles(folder / "engine.pem", folder / "engine.key", authority.ca),
                authenticator=Authenticator(),
            )


@in_loop
async def test_a_renewed_certificate_is_used_by_new_connections(
    authority: TestAuthority, tmp_path
) -> None:
    other = TestAuthority(tmp_path)
    other.issue("/engine")
    other.issue("/bench")
    async with serving(other, [slow_service(slow := Slow())]) as server:
        slow.go.set()
        request = engine_service_pb2.ListWorkflowsRequest()
        async with channel(other, server.port, "bench") as target:
            await engine_grpc.EngineServiceStub(target).ListWorkflows(request, timeout=30)
        for name in ("engine.pem", "engine.key", "ca.pem"):
            (other.folder / name).write_bytes((authority.folder / name).read_bytes())
        async with channel(authority, server.port, "bench") as target:
            await engine_grpc.EngineServiceStub(target).ListWorkflows(request, timeout=30)
