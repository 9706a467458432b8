"""A stand-in gRPC service on 127.0.0.1:8086, described at run time, with server reflection."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection

PORT = 8086
SERVICE = "quotes.v1.Quotes"
PRICES = {"ACME": 1250}
Field = descriptor_pb2.FieldDescriptorProto


def description() -> descriptor_pb2.FileDescriptorProto:
    """Return what quotes.proto would say: Get one price, Watch several."""
    file = descriptor_pb2.FileDescriptorProto(
        name="quotes.proto", package="quotes.v1", syntax="proto3"
    )
    for name, fields in (
        ("Asked", (("symbol", Field.TYPE_STRING), ("count", Field.TYPE_INT32))),
        ("Quote", (("symbol", Field.TYPE_STRING), ("cents", Field.TYPE_INT32))),
    ):
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=kind, label=Field.LABEL_OPTIONAL)
    service = file.service.add(name="Quotes")
    asked, quote = ".quotes.v1.Asked", ".quotes.v1.Quote"
    service.method.add(name="Get", input_type=asked, output_type=quote)
    service.method.add(name="Watch", input_type=asked, output_type=quote, server_streaming=True)
    return file


def serve(port: int) -> None:
    """Serve until the process is ended."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(description())
    asked = message_factory.GetMessageClass(pool.FindMessageTypeByName("quotes.v1.Asked"))
    quote = message_factory.GetMessageClass(pool.FindMessageTypeByName("quotes.v1.Quote"))

    def get(request: Any, context: grpc.ServicerContext) -> Any:
        if request.symbol not in PRICES:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no symbol {request.symbol}")
        return quote(symbol=request.symbol, cents=PRICES[request.symbol])

    def watch(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for number in range(request.count):
            yield quote(symbol=request.symbol, cents=get(request, context).cents + number)
            time.sleep(0.3)

    codec: dict[str, Any] = {"request_deserializer": asked.FromString}
    codec["response_serializer"] = quote.SerializeToString
    handlers = {
        "Get": grpc.unary_unary_rpc_method_handler(get, **codec),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, **codec),
    }
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server, pool)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    serve(int(sys.argv[1]) if len(sys.argv) > 1 else PORT)
