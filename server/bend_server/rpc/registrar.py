"""The registry as executors reach it, over mutual TLS: contracts and pools."""

from pathlib import Path

import grpc
import grpc.aio

from bend.internal.v1 import pool_service_pb2, pool_service_pb2_grpc
from bend.v1 import component_pb2, registry_service_pb2, registry_service_pb2_grpc
from bend_server.core.errors import (
    DependencyDown,
    DomainError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    WrongState,
)

CALL_S = 8.0


class RegistryClient:
    """The registry's client; implements ports.links.Registrar and ports.pools.PoolRegistry.

    Args:
        target: `host:port` of the registry.
        server_name: the DNS name that its certificate must hold, for example
            `registry.bend.local`: who else has a certificate of the mesh is not the registry.
        certificate, key, roots: PEM files of this executor.
    """

    def __init__(
        self, target: str, *, server_name: str, certificate: Path, key: Path, roots: Path
    ) -> None:
        self._target = target
        self._server_name = server_name
        self._files = (certificate, key, roots)
        self._stamp: tuple[int, ...] = ()
        self._channel: grpc.aio.Channel | None = None

    async def register(self, namespace: str, contract: component_pb2.ComponentContract) -> None:
        """See ports.links.Registrar."""
        stub = registry_service_pb2_grpc.RegistryServiceStub(await self._open())
        request = registry_service_pb2.RegisterComponentRequest(
            contract=contract, namespace=namespace
        )
        try:
            await stub.RegisterComponent(request, timeout=CALL_S, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error

    async def sync_pools(
        self, request: pool_service_pb2.SyncPoolsRequest
    ) -> pool_service_pb2.SyncPoolsResponse:
        """See ports.pools.PoolRegistry."""
        stub = pool_service_pb2_grpc.PoolServiceStub(await self._open())  # type: ignore[no-untyped-call]
        try:
            answer: pool_service_pb2.SyncPoolsResponse = await stub.SyncPools(
                request, timeout=CALL_S
            )
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        return answer

    async def change_pool(
        self, request: pool_service_pb2.ChangePoolRequest
    ) -> pool_service_pb2.ChangePoolResponse:
        """See ports.pools.PoolRegistry."""
        stub = pool_service_pb2_grpc.PoolServiceStub(await self._open())  # type: ignore[no-untyped-call]
        try:
            answer: pool_service_pb2.ChangePoolResponse = await stub.ChangePool(
                request, timeout=CALL_S, wait_for_ready=True
            )
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error
        return answer

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _open(self) -> grpc.aio.Channel:
        """Return the channel; a new one when the certificate was renewed."""
        stamp = tuple(path.stat().st_mtime_ns for path in self._files)
        if self._channel is not None and stamp == self._stamp:
            return self._channel
        await self.close()
        certificate, key, roots = (path.read_bytes() for path in self._files)
        self._stamp = stamp
        self._channel = grpc.aio.secure_channel(
            self._target,
            grpc.ssl_channel_credentials(roots, key, certificate),
            options=[
                ("grpc.ssl_target_name_override", self._server_name),
                # A proxy in the environment leads out of the mesh.
                ("grpc.enable_http_proxy", 0),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 2000),
            ],
        )
        return self._channel


def _translated(error: grpc.aio.AioRpcError) -> DomainError:
    text = error.details() or "the registry refused"
    if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
        return WrongState(text, reason="CONTRACT_MISMATCH")
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInput(text)
    if error.code() is grpc.StatusCode.NOT_FOUND:
        return NotFound(text, reason="POOL_NOT_FOUND")
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return LimitExceeded(text)
    return DependencyDown(f"the registry cannot be reached: {error.code().name}")
