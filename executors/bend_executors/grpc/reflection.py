"""Server reflection: asks a server for the files that describe one of its services."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2 as pb

from bend import TerminalError
from bend_executors.grpc.descriptors import BYTES_MAX, FILES_MAX, invalid, known_file

# Both versions have the same messages on the wire; servers speak one or both.
PATHS = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    for version in ("v1", "v1alpha")
)


async def files_of(
    channel: grpc.aio.Channel, service: str, timeout_s: float, metadata: list[tuple[str, str]]
) -> list[descriptor_pb2.FileDescriptorProto]:
    """Return the file of a service and all that it imports.

    Raises:
        TerminalError: NO_REFLECTION, METHOD_NOT_FOUND, INVALID_DESCRIPTOR.
        grpc.aio.AioRpcError: the server cannot be asked.
    """
    for path in PATHS:
        try:
            return await _ask(channel, path, service, timeout_s, metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
    raise TerminalError(
        "NO_REFLECTION", "the server has no reflection; give a descriptor_set with the task"
    )


async def _ask(
    channel: grpc.aio.Channel,
    path: str,
    service: str,
    timeout_s: float,
    metadata: list[tuple[str, str]],
) -> list[descriptor_pb2.FileDescriptorProto]:
    # The stream of requests has one each: what is written later may meet the end of the call, and
    # then grpc.aio forgets the server's status for one of its own.
    opened: Any = channel.unary_stream(
        path,
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    size = 0
    wanted = [pb.ServerReflectionRequest(file_containing_symbol=service)]
    while wanted:
        request = wanted.pop()
        call = opened(request, timeout=max(0.001, deadline - loop.time()), metadata=metadata)
        try:
            async for file, length in _answer(call, request, service):
                size += length
                found.setdefault(file.name, file)
        finally:
            call.cancel()
        if len(found) > FILES_MAX or size > BYTES_MAX:
            raise invalid(f"{service} is described by more than {FILES_MAX} files or 8 MiB")
        asked = {one.file_by_filename for one in wanted}
        missing = {name for file in found.values() for name in file.dependency}
        wanted += [
            pb.ServerReflectionRequest(file_by_filename=name)
            for name in sorted(missing - found.keys() - asked)
            if known_file(name) is None
        ]
    return list(found.values())


async def _answer(
    call: Any, request: pb.ServerReflectionRequest, service: str
) -> AsyncIterator[tuple[descriptor_pb2.FileDescriptorProto, int]]:
    answer = await call.read()
    if answer is grpc.aio.EOF:
        # A server without reflection ends the stream at once; its status says why.
        raise invalid(f"the server ended the reflection of {service}")
    if answer.HasField("error_response"):
        name = request.file_by_filename or service
        raise TerminalError(
            "METHOD_NOT_FOUND",
            f"the server does not know {name}: {answer.error_response.error_message[:500]}",
        )
    for data in answer.file_descriptor_response.file_descriptor_proto:
        try:
            yield descriptor_pb2.FileDescriptorProto.FromString(data), len(data)
        except DecodeError:
            raise invalid(f"the server's description of {service} does not parse") from None
