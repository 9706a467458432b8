"""If these fail, a valid certificate of another role, or a forged header, opens a door."""

from pathlib import Path

import grpc
import pytest

from bend.v1 import (
    engine_service_pb2,
    engine_service_pb2_grpc,
    executor_service_pb2,
    executor_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
)
from bend_server.rpc import identity
from bend_server.rpc.identity import Authenticator
from bend_server.rpc.server import Service, service
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.door import channel, details, serving


class Engine(engine_service_pb2_grpc.EngineServiceServicer):
    """Answers who called in place of a workflow's name."""

    async def ListWorkflows(self, request, context):
        caller = identity.peer(context)
        answer = engine_service_pb2.ListWorkflowsResponse()
        answer.workflows.add(name=caller.subject, description=caller.spiffe_id)
        return answer


class Registry(registry_service_pb2_grpc.RegistryServiceServicer):
    async def RegisterComponent(self, request, context):
        return registry_service_pb2.RegisterComponentResponse(created=True)


class Executor(executor_service_pb2_grpc.ExecutorServiceServicer):
    async def Connect(self, request_iterator, context):
        async for _ in request_iterator:
            answer = executor_service_pb2.ConnectResponse()
            answer.welcome.executor = identity.peer(context).subject
            yield answer


def engine() -> Service:
    return service(
        engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"],
        engine_service_pb2_grpc.add_EngineServiceServicer_to_server,
        Engine(),
    )


def registry() -> Service:
    return service(
        registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"],
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server,
        Registry(),
    )


def executor() -> Service:
    return service(
        executor_service_pb2.DESCRIPTOR.services_by_name["ExecutorService"],
        executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server,
        Executor(),
    )


async def who(target: grpc.aio.Channel, metadata: list[tuple[str, str]] | None = None) -> str:
    stub = engine_service_pb2_grpc.EngineServiceStub(target)
    request = engine_service_pb2.ListWorkflowsRequest()
    answer = await stub.ListWorkflows(request, metadata=metadata, timeout=30)
    return answer.workflows[0].name


async def call(target: grpc.aio.Channel, name: str, *, refused: bool = False) -> None:
    """Call one RPC of the named service, as that service's callers do."""
    if name == "engine":
        await who(target)
    elif name == "registry":
        request = registry_service_pb2.RegisterComponentRequest()
        request.contract.name, request.contract.version = "a", "1.0.0"
        await registry_service_pb2_grpc.RegistryServiceStub(target).RegisterComponent(
            request, timeout=30
        )
    else:
        stub = executor_service_pb2_grpc.ExecutorServiceStub(target)
        # A write into a stream that is refused already hides the refusal: then only listen.
        said = [] if refused else [executor_service_pb2.ConnectRequest()]
        stream = stub.Connect(timeout=30)
        for message in said:
            await stream.write(message)
        while await stream.read() is not grpc.aio.EOF:
            if not refused:
                await stream.done_writing()


MAKERS = {"engine": engine, "registry": registry, "executor": executor}
DIRECT = {
    "engine": {"bench"},
    "registry": {"executor", "bench"},
    "executor": {"bench", "component-vision"},
}
STEMS = ("engine", "registry", "executor", "bench", "component-vision", "user-ada")


@pytest.mark.parametrize("server_role", sorted(MAKERS))
@pytest.mark.parametrize("stem", STEMS)
@in_loop
async def test_each_server_admits_only_its_own_peers(
    authority: TestAuthority, server_role: str, stem: str
) -> None:
    async with (
        serving(authority, [MAKERS[server_role]()], role=server_role) as server,
        channel(authority, server.port, stem) as target,
    ):
        if stem in DIRECT[server_role]:
            await call(target, server_role)
            return
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(target, server_role, refused=True)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert details(caught.value)[0] == "PERMISSION_DENIED"


@in_loop
async def test_a_certificate_without_an_id_is_refused(authority: TestAuthority) -> None:
    async with (
        serving(authority, [engine()]) as server,
        channel(authority, server.port, "nameless") as target,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await who(target)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("stem", [None, "stranger"])
@in_loop
async def test_no_certificate_and_one_of_another_authority_do_not_connect(
    authority: TestAuthority, tmp_path: Path, stem: str | None
) -> None:
    other = TestAuthority(tmp_path)
    certificate, key = other.issue("/gateway", file="stranger")
    for source in (certificate, key):
        (authority.folder / source.name).write_bytes(source.read_bytes())
    async with (
        serving(authority, [engine()]) as server,
        channel(authority, server.port, stem) as target,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await who(target)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@in_loop
async def test_the_gateway_is_believed_and_nobody_else(authority: TestAuthority) -> None:
    claim = [("x-bend-peer", "spiffe://bend.local/user/eve")]
    async with serving(authority, [engine()]) as server:
        async with channel(authority, server.port, "gateway") as target:
            assert await who(target, claim) == "/user/eve"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await who(target, [("x-bend-peer", "spiffe://elsewhere/user/eve")])
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await who(target, [("x-bend-peer", "spiffe://bend.local/component/x")])
            assert details(caught.value)[1]["permission"] == "workflows:read"
        async with channel(authority, server.port, "bench") as target:
            assert await who(target, claim) == "/bench"


@in_loop
async def test_a_client_without_certificate_needs_the_token(
    authority: TestAuthority, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    authenticator = Authenticator(token_file=token)
    async with (
        serving(authority, [engine()], authenticator=authenticator) as server,
        channel(authority, server.port, "gateway") as target,
    ):
        assert await who(target, [("authorization", "Bearer s3cret")]) == "/user/local"
        assert await who(target, [("x-bend-listener", "http")]) == "/user/local"
        token.write_text("another one\n")
        for metadata in (
            [("authorization", "Bearer s3cret")],
            [("authorization", "Bearer s3cret"), ("x-bend-listener", "http")],
            [("authorization", "Basic another")],
            [("x-bend-listener", "https")],
            [],
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await who(target, metadata)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED, metadata
        assert await who(target, [("authorization", "bearer another one")]) == "/user/local"


@in_loop
async def test_web_pages_of_others_are_not_the_local_user(
    authority: TestAuthority, tmp_path: Path
) -> None:
    """Any page in a browser on this machine can post to loopback."""
    token = tmp_path / "token"
    token.write_text("s3cret")
    local = ("x-bend-listener", "http")
    async with (
        serving(authority, [engine()], authenticator=Authenticator(token_file=token)) as server,
        channel(authority, server.port, "gateway") as target,
    ):
        for page in (
            [("origin", "https://evil.example")],
            [("origin", "null")],
            [("origin", "http://localhost.evil.example")],
            [("sec-fetch-site", "cross-site")],
            [("sec-fetch-site", "same-site"), ("origin", "http://localhost:9")],
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await who(target, [local, *page])
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED, page
            proof = ("authorization", "Bearer s3cret")
            assert await who(target, [local, proof, *page]) == "/user/local"
        own = [("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:8080")]
        assert await who(target, [local, *own]) == "/user/local"


@in_loop
async def test_a_namespace_must_be_the_callers_own(authority: TestAuthority) -> None:
    async with (
        serving(authority, [engine()]) as server,
        channel(authority, server.port, "bench") as target,
    ):
        assert await who(target, [("bend-namespace", "default")]) == "/bench"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await who(target, [("bend-namespace", "theirs")])
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert details(caught.value)[1]["namespace"] == "theirs"
