"""HTTP/2 over a connection that the guard has made: httpcore's state machine on our transport."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpcore

from bend_executors.http.headers import Request
from bend_executors.http.wire import Wire, WireError, WireTimeout


class Stream(httpcore.AsyncNetworkStream):
    """Bytes of a connected transport as httpcore wants them."""

    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
        self._reader = asyncio.StreamReader(limit=256 * 1024, loop=loop)
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        transport = wire.transport
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)
        if wire.early:
            self._reader.feed_data(bytes(wire.early))
        if wire.closed:
            self._reader.feed_eof()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what is there."""
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError:
            raise httpcore.ReadTimeout("read timed out") from None
        except OSError as error:
            raise httpcore.ReadError(str(error)) from None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all."""
        if not buffer:
            return
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError:
            raise httpcore.WriteTimeout("write timed out") from None
        except OSError as error:
            raise httpcore.WriteError(str(error)) from None

    async def aclose(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    @property
    def closing(self) -> bool:
        """Whether the server has closed it, perhaps while nobody read."""
        return self._reader.at_eof() or self._writer.transport.is_closing()

    def get_extra_info(self, info: str) -> Any:
        """Tell whether the peer has closed; nothing else is asked."""
        return self.closing if info == "is_readable" else None


class Shared:
    """One HTTP/2 connection for all tasks that call its host."""

    def __init__(self, wire: Wire, origin: tuple[str, str, int], idle_s: float) -> None:
        scheme, host, port = origin
        self._stream = Stream(wire, asyncio.get_running_loop())
        self._inner = httpcore.AsyncHTTP2Connection(
            httpcore.Origin(scheme.encode(), host.encode(), port), self._stream, idle_s
        )
        self.used = False

    @property
    def live(self) -> bool:
        """Whether another request may be sent on it."""
        inner = self._inner
        if self._stream.closing or inner.is_closed() or inner.has_expired():
            return False
        return inner.is_available()

    @property
    def idle(self) -> bool:
        """Whether nothing runs on it."""
        return self._inner.is_idle()

    async def close(self) -> None:
        """Close it."""
        await self._inner.aclose()

    def exchange(self, request: Request, timeouts: dict[str, float]) -> "Exchange2":
        """Return a new exchange on this connection."""
        return Exchange2(self._inner, request, timeouts)


class Exchange2:
    """One request and its response on an HTTP/2 connection; the same verbs as `Wire`."""

    def __init__(
        self,
        connection: httpcore.AsyncHTTP2Connection,
        request: Request,
        timeouts: dict[str, float],
    ) -> None:
        self._connection = connection
        self._request = request
        self._timeouts = {phase: value or None for phase, value in timeouts.items()}
        self._response: httpcore.Response | None = None
        self._parts: AsyncIterator[bytes] | None = None
        self.status = 0
        self.headers: list[tuple[str, str]] = []

    async def open(self) -> None:
        """Send the request and wait for the response's head. Raises WireError, WireTimeout."""
        request = self._request
        headers = [("host", request.target.authority), *request.headers.items()]
        if request.body is not None:
            headers.append(("content-length", str(len(request.body))))
        scheme, host, port = request.target.origin
        sent = httpcore.Request(
            request.method,
            httpcore.URL(scheme=scheme, host=host, port=port, target=request.target.path),
            headers=[(name.encode(), value.encode()) for name, value in headers],
            content=request.body,
            extensions={"timeout": self._timeouts},
        )
        try:
            self._response = await self._connection.handle_async_request(sent)
        except httpcore.ConnectionNotAvailable:
            raise WireError("the connection was closed", silent=True) from None
        except Exception as error:
            raise translated(error) from error
        self.status = self._response.status
        self.headers = [(k.decode("latin-1"), v.decode("latin-1"))
                        for k, v in self._response.headers]  # fmt: skip
        self._parts = self._response.aiter_stream()

    async def part(self) -> bytes | None:
        """Return the next bytes of the body, None at its end."""
        if self._parts is None:
            return None
        try:
            return await anext(self._parts, None)
        except Exception as error:
            raise translated(error) from error

    async def close(self) -> None:
        """End the stream, whether it was read to its end or not."""
        if self._response is not None:
            try:
                await self._response.aclose()
            except httpcore.NetworkError:
                pass


def translated(error: Exception) -> Exception:
    """Return httpcore's errors in our terms."""
    if isinstance(error, httpcore.TimeoutException):
        return WireTimeout(type(error).__name__.removesuffix("Timeout").lower())
    if isinstance(error, httpcore.NetworkError | httpcore.ProtocolError):
        return WireError(str(error) or type(error).__name__)
    return error
