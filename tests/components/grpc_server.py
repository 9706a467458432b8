"""A gRPC server for tests, its service described at run time: nothing is compiled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from bend_executors.grpc.descriptors import known_file

Field = descriptor_pb2.FieldDescriptorProto
ORDER = "shop.v1.Order"
SERVICE = "shop.v1.Shop"


def field(
    message: Any, name: str, number: int, kind: int, of: str = "", many: bool = False
) -> None:
    """Add a field to a message's description."""
    message.field.add(
        name=name,
        number=number,
        type=kind,
        type_name=of or None,
        label=Field.LABEL_REPEATED if many else Field.LABEL_OPTIONAL,
    )


def shop_file() -> descriptor_pb2.FileDescriptorProto:
    """Describe the shop: orders that are got, watched, uploaded, and a method that fails."""
    file = descriptor_pb2.FileDescriptorProto(
        name="shop/v1/shop.proto", package="shop.v1", syntax="proto3"
    )
    file.dependency.extend(["google/protobuf/timestamp.proto", "shop/v1/lines.proto"])
    order = file.message_type.add(name="Order")
    field(order, "order_id", 1, Field.TYPE_STRING)
    field(order, "amount_cents", 2, Field.TYPE_INT64)
    field(order, "placed_at", 3, Field.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    field(order, "lines", 4, Field.TYPE_MESSAGE, ".shop.v1.Line", many=True)
    field(order, "note", 5, Field.TYPE_BYTES)
    service = file.service.add(name="Shop")
    for name, takes, gives in (
        ("Echo", False, False),
        ("Watch", False, True),
        ("Upload", True, False),
        ("Talk", True, True),
        ("Fail", False, False),
        ("Hang", False, False),
    ):
        service.method.add(
            name=name,
            input_type=f".{ORDER}",
            output_type=f".{ORDER}",
            client_streaming=takes,
            server_streaming=gives,
        )
    return file


def lines_file() -> descriptor_pb2.FileDescriptorProto:
    """Describe what the shop's file imports."""
    file = descriptor_pb2.FileDescriptorProto(
        name="shop/v1/lines.proto", package="shop.v1", syntax="proto3"
    )
    line = file.message_type.add(name="Line")
    field(line, "sku", 1, Field.TYPE_STRING)
    field(line, "count", 2, Field.TYPE_INT32)
    return file


def descriptor_set() -> bytes:
    """Return the shop's FileDescriptorSet."""
    return descriptor_pb2.FileDescriptorSet(file=[shop_file(), lines_file()]).SerializeToString()


class Shop:
    """The service. `seen` are metadata and remaining seconds of each call."""

    def __init__(self) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        timestamp = known_file("google/protobuf/timestamp.proto")
        for file in (timestamp, lines_file(), shop_file()):
            self.pool.Add(file)
        self.order = message_factory.GetMessageClass(self.pool.FindMessageTypeByName(ORDER))
        self.seen: list[tuple[dict[str, Any], float]] = []
        self.reflections = 0
        self.code = grpc.StatusCode.UNAVAILABLE
        self.trailing: tuple[tuple[str, Any], ...] = ()

    def _note(self, context: Any) -> None:
        self.seen.append((dict(context.invocation_metadata()), context.time_remaining()))

    async def echo(self, request: Any, context: Any) -> Any:
        """Answer the request."""
        self._note(context)
        return request

    async def watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Answer as many orders as the amount says."""
        self._note(context)
        for number in range(request.amount_cents):
            yield self.order(order_id=f"o{number}", note=request.note)

    async def fail(self, _: Any, context: Any) -> Any:
        """Fail as the test wants."""
        await context.abort(self.code, "no stock", self.trailing)

    async def hang(self, _: Any, context: Any) -> Any:
        """Never answer."""
        self._note(context)
        await asyncio.Event().wait()

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return what serves it."""
        codec = {
            "request_deserializer": self.order.FromString,
            "response_serializer": self.order.SerializeToString,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Echo": grpc.unary_unary_rpc_method_handler(self.echo, **codec),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch, **codec),
                "Fail": grpc.unary_unary_rpc_method_handler(self.fail, **codec),
                "Hang": grpc.unary_unary_rpc_method_handler(self.hang, **codec),
            },
        )

    def reflect(self, version: str) -> grpc.GenericRpcHandler:
        """Return a reflection service of this version, v1 or v1alpha."""
        served = reflection.aio.ReflectionServicer([SERVICE], self.pool)

        async def info(requests: Any, context: Any) -> AsyncIterator[Any]:
            self.reflections += 1
            async for answer in served.ServerReflectionInfo(requests, context):
                yield answer

        handler = grpc.stream_stream_rpc_method_handler(
            info,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            f"grpc.reflection.{version}.ServerReflection", {"ServerReflectionInfo": handler}
        )


def retry_info(seconds: int) -> tuple[str, bytes]:
    """Return a trailing pair with RetryInfo and ErrorInfo."""
    status = status_pb2.Status(code=14, message="no stock")
    wait = error_details_pb2.RetryInfo()
    wait.retry_delay.seconds = seconds
    status.details.add().Pack(wait)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="EMPTY", domain="shop"))
    return "grpc-status-details-bin", status.SerializeToString()


@asynccontextmanager
async def serving(
    shop: Shop, *, reflections: str = "v1", tls: grpc.ServerCredentials | None = None
) -> AsyncIterator[int]:
    """Serve the shop and the health service on a free loopback port; gives the port.

    Args:
        reflections: v1, v1alpha, or empty for none.
    """
    server = grpc.aio.server()
    handlers = [shop.handlers()]
    if reflections:
        handlers.append(shop.reflect(reflections))
    server.add_generic_rpc_handlers(handlers)
    checks = health.aio.HealthServicer()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, tls) if tls else server.add_insecure_port(address)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)
