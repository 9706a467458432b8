"""ExecutorService over gRPC: one stream of a component service becomes a WorkerLink."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

import grpc

from bend.v1 import executor_service_pb2, executor_service_pb2_grpc
from bend_server.core.errors import InvalidInput
from bend_server.ports.links import LinkBroken, LinkPeer, WorkerLink
from bend_server.rpc.identity import peer
from bend_server.rpc.pool_rpcs import PoolDesk, PoolRpcs
from bend_server.rpc.server import Service, service
from bend_server.rpc.validation import UNREADABLE, UNREADABLE_TEXT


class Room(Protocol):
    """What serves a stream: executor.room.ExecutorRoom."""

    async def attach(self, link: WorkerLink) -> None:
        """Serve one stream until it ends."""
        ...


class GrpcLink:
    """A stream of grpc.aio; implements ports.links.WorkerLink."""

    def __init__(
        self,
        requests: AsyncIterator[executor_service_pb2.ConnectRequest],
        context: Any,
        who: LinkPeer,
    ) -> None:
        self._requests = requests
        self._context = context
        self._peer = who

    @property
    def peer(self) -> LinkPeer:
        """See ports.links.WorkerLink."""
        return self._peer

    async def receive(self) -> executor_service_pb2.ConnectRequest | None:
        """See ports.links.WorkerLink."""
        try:
            message = await anext(self._requests)
        except StopAsyncIteration:
            return None
        except (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError):
            return None
        if message is UNREADABLE:
            raise InvalidInput(UNREADABLE_TEXT, reason="PROTOCOL_VIOLATION", field="message")
        return message

    async def send(self, message: executor_service_pb2.ConnectResponse) -> None:
        """See ports.links.WorkerLink."""
        try:
            await self._context.write(message)
        except (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError) as error:
            raise LinkBroken(str(error)) from error


class ExecutorServicer(PoolRpcs, executor_service_pb2_grpc.ExecutorServiceServicer):
    """Serves `ExecutorService`.

    Args:
        room: the executor.
        desk: the use cases of pools; None: it keeps none.
    """

    def __init__(self, room: Room, desk: PoolDesk | None) -> None:
        super().__init__(desk)
        self._room = room

    async def Connect(
        self,
        request_iterator: AsyncIterator[executor_service_pb2.ConnectRequest],
        context: Any,
    ) -> None:
        """Serve one component service until its stream ends."""
        who = peer(context)
        await self._room.attach(
            GrpcLink(request_iterator, context, LinkPeer(who.spiffe_id, who.subject, who.namespace))
        )


def executor_service(room: Room, desk: PoolDesk | None = None) -> Service:
    """Describe the service, for rpc.server.serve."""
    return service(
        executor_service_pb2.DESCRIPTOR.services_by_name["ExecutorService"],
        executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server,
        ExecutorServicer(room, desk),
    )
