"""The registry as executors use it: in the same process, or over mTLS."""

import contextlib
from collections.abc import AsyncIterator

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from bend.v1 import component_pb2, registry_service_pb2, registry_service_pb2_grpc
from bend_server.core.errors import DependencyDown, DomainError, InvalidInput, WrongState
from bend_server.registry import Contract, Registry
from bend_server.rpc.errors import DOMAIN
from bend_server.rpc.server import TlsFiles

CALL_S = 10.0
_KINDS: dict[grpc.StatusCode, type[DomainError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.FAILED_PRECONDITION: WrongState,
}


class LocalRegistrar:
    """Registers with a registry of this process; implements ports.links.Registrar."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def register(self, namespace: str, contract: component_pb2.ComponentContract) -> None:
        """See ports.links.Registrar."""
        await self._registry.register(namespace, contract_of(contract))


class RemoteRegistrar:
    """Registers by RegistryService; implements ports.links.Registrar.

    Args:
        stub: of RegistryService, on a channel with the executor's certificate.
    """

    def __init__(self, stub: registry_service_pb2_grpc.RegistryServiceStub) -> None:
        self._stub = stub

    async def register(self, namespace: str, contract: component_pb2.ComponentContract) -> None:
        """See ports.links.Registrar. Raises DependencyDown when the registry is away."""
        request = registry_service_pb2.RegisterComponentRequest(
            contract=contract, namespace=namespace
        )
        try:
            await self._stub.RegisterComponent(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            raise _translated(error) from error


@contextlib.asynccontextmanager
async def remote_registrar(target: str, tls: TlsFiles) -> AsyncIterator[RemoteRegistrar]:
    """Open a channel to a registry.

    Args:
        target: `host:port`.
        tls: the executor's certificate, its key, and the mesh's roots.
    """
    credentials = grpc.ssl_channel_credentials(
        root_certificates=tls.roots.read_bytes(),
        private_key=tls.key.read_bytes(),
        certificate_chain=tls.certificate.read_bytes(),
    )
    async with grpc.aio.secure_channel(target, credentials) as channel:
        yield RemoteRegistrar(registry_service_pb2_grpc.RegistryServiceStub(channel))


def contract_of(message: component_pb2.ComponentContract) -> Contract:
    """Return what a message promises; labels belong to the instance and are left out."""
    return Contract(
        name=message.name,
        version=message.version,
        description=message.description,
        input_schema=message.input_schema,
        output_schema=message.output_schema,
        long_running=message.long_running,
        heartbeats=message.heartbeats,
    )


def _translated(error: grpc.aio.AioRpcError) -> DomainError:
    kind = _KINDS.get(error.code())
    text = error.details() or error.code().name
    if kind is None:
        return DependencyDown(f"the registry answered {error.code().name}: {text}")
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in () if status is None else status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            return kind(text, reason=info.reason, **dict(info.metadata))
    return kind(text)
