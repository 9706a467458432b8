"""A server on a free port with real certificates, and channels with any of them."""

import contextlib
from collections.abc import AsyncIterator, Sequence

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from bend_server.rpc.identity import Authenticator
from bend_server.rpc.server import RpcServer, Service, TlsFiles, serve
from tests.kit.certificates import TestAuthority


@contextlib.asynccontextmanager
async def serving(
    authority: TestAuthority,
    services: Sequence[Service],
    *,
    role: str = "engine",
    authenticator: Authenticator | None = None,
) -> AsyncIterator[RpcServer]:
    server = await serve(
        services,
        address="127.0.0.1",
        port=0,
        tls=TlsFiles(
            authority.folder / f"{role}.pem", authority.folder / f"{role}.key", authority.ca
        ),
        authenticator=authenticator or Authenticator(),
    )
    try:
        yield server
    finally:
        await server.stop(0.2)


def channel(authority: TestAuthority, port: int, stem: str | None) -> grpc.aio.Channel:
    """Open a channel with a certificate's file name, or None for no certificate."""
    key = chain = None
    if stem is not None:
        key = (authority.folder / f"{stem}.key").read_bytes()
        chain = (authority.folder / f"{stem}.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(
        root_certificates=authority.ca.read_bytes(), private_key=key, certificate_chain=chain
    )
    options = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options)


def details(error: grpc.aio.AioRpcError) -> tuple[str, dict[str, str], status_pb2.Status]:
    """Return reason, metadata and the whole status that an error carries."""
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            break
    assert info.domain == "bend.v1"
    return info.reason, dict(info.metadata), status
