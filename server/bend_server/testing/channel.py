"""The client's calls, answered by servicers in the same process."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.rpc import status_pb2

from bend.settings import Settings
from bend.status import error_of
from bend_server.rpc import errors, identity, validation

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_NOWHERE = grpc.aio.Metadata()


class _Context:
    """What servicers ask of a call's context."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def time_remaining(self) -> float | None:
        return None


class LocalChannel:
    """Stands in for `bend.channel.Channel`; nothing is repeated, because nothing gets lost.

    Args:
        servicers: answer calls by the name of the method.
        namespace: of the caller.
    """

    def __init__(self, servicers: list[Any], namespace: str) -> None:
        self.settings = Settings("http://127.0.0.1:0", namespace=namespace)
        self.retry_s = 0.0
        self._servicers = servicers
        self._peer = identity.Peer("", namespace, "/user/test")

    def stub(self, _factory: Any) -> "LocalChannel":
        """Return what has a method for every call."""
        return self

    def __getattr__(self, name: str) -> Any:
        """Return a call by its name."""
        for servicer in self._servicers:
            method = getattr(servicer, name, None)
            if method is not None and name[0].isupper():
                return self._stream(method) if name.startswith("Watch") else self._unary(method)
        raise AttributeError(name)

    async def call(self, method: Any, request: Any, **_: Any) -> Any:
        """Make a unary call. Raises BendError."""
        try:
            return await method(request)
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed) from failed

    async def close(self) -> None:
        """Nothing to close."""

    def _unary(self, method: Any) -> Any:
        async def call(request: Any, **_: Any) -> Any:
            with self._judged(method, request):
                return await method(request, _Context())

        return call

    def _stream(self, method: Any) -> Any:
        def call(request: Any, **_: Any) -> AsyncIterator[Any]:
            async def answers() -> AsyncIterator[Any]:
                with self._judged(method, request):
                    async with contextlib.aclosing(method(request, _Context())) as found:
                        async for answer in found:
                            yield answer

            return answers()

        return call

    @contextlib.contextmanager
    def _judged(self, method: Any, request: Any) -> Any:
        """Check a request and turn every fault into the status that a client would get."""
        try:
            validation.check(request)
            identity.set_peer(self._peer)
            yield
        except Exception as error:
            raise _failed(errors.translate(error, method.__name__)) from error


def _failed(status: status_pb2.Status) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata((errors.DETAILS_KEY, status.SerializeToString()))
    return grpc.aio.AioRpcError(_CODES[status.code], _NOWHERE, trailing, status.message)
