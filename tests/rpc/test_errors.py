"""If these fail, a program cannot tell one failure from another, or a secret leaks in a text."""

import grpc
import pytest
from google.rpc import error_details_pb2

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import engine_service_pb2_grpc, error_reason_pb2
from bend_server.core import errors as domain
from bend_server.core.errors import DomainError, Finding
from bend_server.ports.queue import QueueDown
from bend_server.rpc import errors
from bend_server.rpc.server import service
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.door import channel, details, serving

EXPECTED = {
    "InvalidInput": grpc.StatusCode.INVALID_ARGUMENT,
    "InvalidDocument": grpc.StatusCode.INVALID_ARGUMENT,
    "InvalidRequest": grpc.StatusCode.INVALID_ARGUMENT,
    "NotFound": grpc.StatusCode.NOT_FOUND,
    "AlreadyExists": grpc.StatusCode.ALREADY_EXISTS,
    "WrongState": grpc.StatusCode.FAILED_PRECONDITION,
    "Conflict": grpc.StatusCode.ABORTED,
    "LeaseLost": grpc.StatusCode.ABORTED,
    "LimitExceeded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "Unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "NotPermitted": grpc.StatusCode.PERMISSION_DENIED,
    "DependencyDown": grpc.StatusCode.UNAVAILABLE,
    "CorruptHistory": grpc.StatusCode.DATA_LOSS,
    "InvariantBroken": grpc.StatusCode.INTERNAL,
}


def tree(kind: type[DomainError]) -> set[type[DomainError]]:
    return {kind}.union(*(tree(child) for child in kind.__subclasses__()))


def of_the_server() -> set[type[DomainError]]:
    return {
        kind for kind in tree(DomainError) - {DomainError} if kind.__module__.startswith("bend_")
    }


def made(kind: type[DomainError]) -> DomainError:
    if issubclass(kind, domain.InvalidDocument | errors.InvalidRequest):
        return kind([Finding("CYCLE", "a → b → a", "tasks[0]", 3, 5)])
    return kind("said")


def test_every_domain_error_has_a_code_and_a_reason_of_the_enum() -> None:
    names = list(error_reason_pb2.ErrorReason.keys())
    reasons = {name.removeprefix("ERROR_REASON_") for name in names}
    kinds = of_the_server()
    assert {kind.__name__ for kind in kinds} >= set(EXPECTED)
    for kind in kinds:
        error = made(kind)
        assert error.reason in reasons, kind
        if kind.__name__ in EXPECTED:
            assert errors.code_of(error) == EXPECTED[kind.__name__]
        else:
            assert errors.code_of(error) != grpc.StatusCode.INTERNAL, f"{kind} is not in the table"


class Failing(engine_service_pb2_grpc.EngineServiceServicer):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def ListWorkflows(self, request, context):
        raise self.error

    async def WatchExecution(self, request, context):
        yield pb.WatchExecutionResponse()
        raise self.error


async def drain(stub: engine_service_pb2_grpc.EngineServiceStub) -> None:
    async for _ in stub.WatchExecution(pb.WatchExecutionRequest(execution_id="x"), timeout=30):
        pass


async def raised(
    authority: TestAuthority, error: BaseException, *, stream: bool = False
) -> grpc.aio.AioRpcError:
    served = service(
        pb.DESCRIPTOR.services_by_name["EngineService"],
        engine_service_pb2_grpc.add_EngineServiceServicer_to_server,
        Failing(error),
    )
    async with (
        serving(authority, [served]) as server,
        channel(authority, server.port, "bench") as target,
    ):
        stub = engine_service_pb2_grpc.EngineServiceStub(target)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (drain(stub) if stream else stub.ListWorkflows(pb.ListWorkflowsRequest()))
        return caught.value


@pytest.mark.parametrize("name", sorted(set(EXPECTED) - {"InvariantBroken"}))
@in_loop
async def test_each_error_arrives_with_its_code_and_reason(
    authority: TestAuthority, name: str
) -> None:
    kind = getattr(domain, name, None) or getattr(errors, name)
    error = made(kind)
    caught = await raised(authority, error)
    assert caught.code() == EXPECTED[name]
    assert details(caught)[0] == error.reason


@in_loop
async def test_a_fault_of_ours_says_nothing_but_the_logs_id(authority: TestAuthority) -> None:
    for error in (RuntimeError("password=hunter2"), domain.InvariantBroken("password=hunter2")):
        caught = await raised(authority, error)
        reason, metadata, status = details(caught)
        assert caught.code() == grpc.StatusCode.INTERNAL
        assert reason == "INTERNAL"
        assert metadata["log_id"] in status.message
        assert b"hunter2" not in status.SerializeToString()


@in_loop
async def test_a_stream_fails_with_details_too(authority: TestAuthority) -> None:
    caught = await raised(authority, domain.NotFound("no execution x", execution="x"), stream=True)
    assert caught.code() == grpc.StatusCode.NOT_FOUND
    assert details(caught)[1] == {"execution": "x"}


@in_loop
async def test_findings_arrive_as_field_violations(authority: TestAuthority) -> None:
    findings = [
        Finding("UNKNOWN_KEY", f"key {n} " + "x" * 200, f"tasks[{n}]", n, 1) for n in range(1, 200)
    ]
    caught = await raised(authority, domain.InvalidDocument(findings))
    reason, metadata, status = details(caught)
    assert reason == "INVALID_DOCUMENT"
    assert metadata["path"] == "tasks[1]"
    assert metadata["line"] == "1"
    assert "198 more" in status.message
    request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(request) for detail in status.details)
    assert len(request.field_violations) > 5
    assert request.field_violations[0].field == "tasks[1]"
    assert request.field_violations[0].reason == "UNKNOWN_KEY"
    assert request.field_violations[0].description.startswith("1:1: key 1")


@pytest.mark.parametrize(
    "error", [domain.DependencyDown("sql is away"), QueueDown("away")], ids=["sql", "queue"]
)
@in_loop
async def test_what_helps_by_waiting_says_how_long(
    authority: TestAuthority, error: Exception
) -> None:
    caught = await raised(authority, error)
    assert caught.code() == grpc.StatusCode.UNAVAILABLE
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in details(caught)[2].details)
    assert retry.retry_delay.ToMilliseconds() == 500


@in_loop
async def test_limits_of_the_protos_are_checked_first(authority: TestAuthority) -> None:
    served = service(
        pb.DESCRIPTOR.services_by_name["EngineService"],
        engine_service_pb2_grpc.add_EngineServiceServicer_to_server,
        Failing(AssertionError("the servicer was reached")),
    )
    async with (
        serving(authority, [served]) as server,
        channel(authority, server.port, "bench") as target,
    ):
        stub = engine_service_pb2_grpc.EngineServiceStub(target)
        starts = [pb.StartRequest(workflow="w"), pb.StartRequest(workflow="w" * 129)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.StartExecutions(pb.StartExecutionsRequest(starts=starts), timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    reason, metadata, _ = details(caught.value)
    assert (reason, metadata["field"]) == ("INVALID_REQUEST", "starts[1].workflow")
