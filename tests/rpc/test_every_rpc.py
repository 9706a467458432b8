"""One table over every RPC: who may call it through the gateway, and what garbage does to it."""

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import registry_service_pb2
from bend_server.registry.registry import Registry
from bend_server.rpc import permissions
from bend_server.rpc.engine_service import engine_service
from bend_server.rpc.registry_service import registry_service
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.door import channel, serving
from tests.rpc.engine_room import engine_room

METHODS = {
    f"/{service.full_name}/{method.name}": method
    for service in (
        pb.DESCRIPTOR.services_by_name["EngineService"],
        registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"],
    )
    for method in service.methods
}
WHO = ("/user/ada", "/component/vision", "/executor", "/registry", "/gateway", "/stranger", "")
FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED)


async def code_of(target: grpc.aio.Channel, method: str, request: Message, who: str):
    """Call a method by its name; return the code it ends with."""
    described = METHODS[method]
    kind = GetMessageClass(described.output_type)
    make = target.unary_stream if described.server_streaming else target.unary_unary
    metadata = [("x-bend-peer", f"spiffe://bend.local{who}")] if who else []
    call = make(
        method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=kind.FromString,
    )(request, metadata=metadata, timeout=30)
    try:
        if described.server_streaming:
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def empty(method: str) -> Message:
    return GetMessageClass(METHODS[method].input_type)()


def garbled(method: str) -> Message:
    """Return a request whose every text and number is out of place."""
    request = empty(method)
    for field in request.DESCRIPTOR.fields:
        if field.is_repeated or field.message_type is not None:
            continue
        value = {"string": "\x00ü" * 3, "bool": True}.get(_kind(field), -1)
        if field.type == field.TYPE_BYTES:
            value = b"\xff\x00"
        setattr(request, field.name, value)
    return request


def _kind(field) -> str:
    if field.type == field.TYPE_STRING:
        return "string"
    return "bool" if field.type == field.TYPE_BOOL else "number"


@pytest.mark.parametrize("method", sorted(METHODS))
@in_loop
async def test_the_table_decides_and_garbage_is_the_callers_fault(
    authority: TestAuthority, method: str
) -> None:
    async with engine_room(authority) as it:
        registry = Registry(it.stores.registry, it.queue, it.clock)
        services = [engine_service(it.rooms()), registry_service(registry)]
        async with (
            serving(authority, services) as server,
            channel(authority, server.port, "gateway") as target,
        ):
            rule = permissions.RULES[method]
            for who in WHO:
                code = await code_of(target, method, empty(method), who)
                role = who.strip("/").partition("/")[0]
                if not who:
                    assert code == grpc.StatusCode.UNAUTHENTICATED
                elif rule.permission in permissions.GRANTS.get(role, ()):
                    assert code != grpc.StatusCode.PERMISSION_DENIED
                    assert code not in FAULTS, (method, who, code)
                else:
                    assert code == grpc.StatusCode.PERMISSION_DENIED, who
            code = await code_of(target, method, garbled(method), "/user/ada")
            assert code not in FAULTS
