"""OperationsService: readiness, and the OpenAPI document of the REST interface."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.descriptor import ServiceDescriptor

from bend.v1 import operations_service_pb2 as pb
from bend.v1 import operations_service_pb2_grpc
from bend_server.core.errors import DependencyDown, DomainError
from bend_server.rpc import identity, openapi
from bend_server.rpc.rest_json import JSON
from bend_server.rpc.server import Service, service

CHECK_S = 2.0
OK = "ok"
DOWN = "down"

Check = Callable[[], Awaitable[bool]]


class OperationsService(operations_service_pb2_grpc.OperationsServiceServicer):
    """Serves every RPC of bend.v1.OperationsService.

    Args:
        checks: part → whether it works now; each gets 2 s and may raise DomainError.
        document: the OpenAPI document as JSON.
    """

    def __init__(self, checks: dict[str, Check], document: bytes) -> None:
        self._checks = checks
        self._document = document

    async def GetReadiness(self, request: pb.GetReadinessRequest, context: Any) -> Any:
        words = await asyncio.gather(*(_word(check) for check in self._checks.values()))
        parts = dict(zip(self._checks, words, strict=True))
        down = [name for name, word in parts.items() if word != OK]
        if down:
            raise DependencyDown(f"not ready: {', '.join(down)}", **parts)
        if identity.peer(context).rest:
            return pb.GetReadinessResponse(
                body=HttpBody(content_type=JSON, data=orjson.dumps(parts))
            )
        return pb.GetReadinessResponse(parts=parts)

    async def GetOpenApi(self, request: pb.GetOpenApiRequest, context: Any) -> Any:
        return pb.GetOpenApiResponse(body=HttpBody(content_type=JSON, data=self._document))


async def _word(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_S):
            return OK if await check() else DOWN
    except (DomainError, TimeoutError):
        return DOWN


def operations_service(
    checks: dict[str, Check], described: Iterable[ServiceDescriptor], version: str
) -> Service:
    """Return OperationsService, ready to be served.

    Args:
        checks: part → whether it works now: `database`, `queue`, `ownership`.
        described: descriptors of the services that REST shows.
        version: of the product, for the OpenAPI document.
    """
    document = orjson.dumps(openapi.document(described, version))
    return service(
        pb.DESCRIPTOR.services_by_name["OperationsService"],
        operations_service_pb2_grpc.add_OperationsServiceServicer_to_server,
        OperationsService(checks, document),
    )
