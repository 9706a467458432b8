"""If these fail, a load balancer sends work to a server that cannot do it."""

import grpc
import orjson
import pytest

from bend.v1 import engine_service_pb2
from bend.v1 import operations_service_pb2 as pb
from bend.v1.operations_service_pb2_grpc import OperationsServiceStub
from bend_server.core.errors import DependencyDown
from bend_server.rpc.operations_service import operations_service
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.door import channel, details, serving

DESCRIBED = [engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"]]
ANONYMOUS_REST = [("x-envoy-original-path", "/readyz"), ("x-bend-peer", "")]


class Parts:
    def __init__(self) -> None:
        self.database = True
        self.queue = True

    async def check_database(self) -> bool:
        if not self.database:
            raise DependencyDown("sql is away")
        return True

    async def check_queue(self) -> bool:
        return self.queue


@in_loop
async def test_readiness_needs_every_part_and_no_proof(authority: TestAuthority) -> None:
    parts = Parts()
    checks = {"database": parts.check_database, "queue": parts.check_queue}
    async with (
        serving(authority, [operations_service(checks, DESCRIBED, "1.0")]) as server,
        channel(authority, server.port, "gateway") as target,
    ):
        stub = OperationsServiceStub(target)
        request = pb.GetReadinessRequest()
        answer = await stub.GetReadiness(request, metadata=ANONYMOUS_REST, timeout=30)
        assert orjson.loads(answer.body.data) == {"database": "ok", "queue": "ok"}
        answer = await stub.GetReadiness(request, timeout=30)
        assert dict(answer.parts) == {"database": "ok", "queue": "ok"}
        parts.queue = False
        parts.database = False
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetReadiness(request, metadata=ANONYMOUS_REST, timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        reason, metadata, _ = details(caught.value)
        assert reason == "DEPENDENCY_DOWN"
        assert metadata == {"database": "down", "queue": "down"}


@in_loop
async def test_the_openapi_document_is_served(authority: TestAuthority) -> None:
    async with (
        serving(authority, [operations_service({}, DESCRIBED, "1.0")]) as server,
        channel(authority, server.port, "gateway") as target,
    ):
        answer = await OperationsServiceStub(target).GetOpenApi(
            pb.GetOpenApiRequest(), metadata=ANONYMOUS_REST, timeout=30
        )
        assert answer.body.content_type == "application/json"
        document = orjson.loads(answer.body.data)
        assert document["openapi"] == "3.1.0"
        assert "/v1/run" in document["paths"]
