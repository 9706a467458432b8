"""One HTTP/1.1 connection: an asyncio protocol around llhttp, the parser of Node.js.

httpx and httpcore are one to two milliseconds of Python a request, most of it layers; this is a
tenth of it (docs/adr/0008-http-transport.md). A connection carries one exchange at a time:
`send`, then `part` until it gives None, then `reusable`.
"""

import asyncio
from collections import deque
from typing import Any

import httptools

HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 256
BUFFERED_BYTES_MAX = 512 * 1024
EARLY_BYTES_MAX = 64 * 1024


class WireError(Exception):
    """The connection ended or the peer broke the protocol; `silent`: before any byte came."""

    def __init__(self, text: str, *, silent: bool = False) -> None:
        super().__init__(text)
        self.silent = silent


class WireTimeout(Exception):
    """A phase took too long; `phase` is connect, read, write or pool."""

    def __init__(self, phase: str) -> None:
        super().__init__(f"{phase} timed out")
        self.phase = phase


class Wire(asyncio.Protocol):
    """A connection; the pool keeps it between exchanges."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.closed = False
        self.used = False
        self.idle_since = 0.0
        self.on_lost: Any = None
        self.early = bytearray()
        self._parser: httptools.HttpResponseParser | None = None
        self._open = False
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._dirty = False
        self._reset(head_only=False)

    def _reset(self, *, head_only: bool) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self._head_only = head_only
        self._head_done = False
        self._head_bytes = 0
        self._complete = False
        self._keep = False
        self._framed = False
        self._parts: deque[bytes] = deque()
        self._buffered = 0
        self._error: Exception | None = None

    # The exchange

    async def send(
        self, head: bytes, body: bytes | None, *, head_only: bool, read_s: float, write_s: float
    ) -> None:
        """Send a request and wait for the response's head: `status` and `headers`.

        Args:
            read_s: the longest silence of the peer, seconds; 0 is no bound.
            write_s: the longest time until the body is with the operating system; 0 is no bound.

        Raises WireError or WireTimeout; the connection is closed then.
        """
        if self.closed or self._dirty or self.early:
            raise WireError("the connection was closed", silent=True)
        self._reset(head_only=head_only)
        self._open = True
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self.transport.write(head + body if body and len(body) < 65536 else head)
        if body and len(body) >= 65536:
            self.transport.write(body)
        # A server may answer before it took the whole body, such as with 413.
        if self._room is not None and not self._head_done:
            await self._written(write_s)
        if read_s:
            self._last = self._loop.time()
            self._timer = self._loop.call_later(read_s, self._expire, read_s)
        while not self._head_done:
            if self._error is not None:
                raise self._error
            await self._wait()
        self.used = True

    async def _written(self, write_s: float) -> None:
        room = self._room
        if room is None:
            return
        try:
            async with asyncio.timeout(write_s or None):
                await room
        except TimeoutError:
            self.abort()
            raise WireTimeout("write") from None
        except WireError:
            if not self._head_done:
                raise

    async def part(self) -> bytes | None:
        """Return the next bytes of the body, None at its end. Raises as `send` does."""
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._complete:
                return None
            await self._wait()
        data = self._parts.popleft()
        self._buffered -= len(data)
        if self._paused and self._buffered < BUFFERED_BYTES_MAX // 2:
            self._paused = False
            self.transport.resume_reading()
        return data

    def reusable(self) -> bool:
        """End the exchange; tell whether the connection may carry another one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        good = (
            self._complete
            and self._keep
            and not self._dirty
            and not self.closed
            and not self._head_only
            and self._room is None
        )
        self._open = False
        self._parts.clear()
        return good

    def abort(self) -> None:
        """Close at once; what is under way is lost."""
        if not self.closed:
            self.closed = True
            if self._timer is not None:
                self._timer.cancel()
            self.transport.abort()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._wake()
        if self._room is not None and not self._room.done():
            self._room.set_exception(WireError(str(error)))
            # Nobody may be waiting for it any more.
            self._room.exception()
        self.abort()

    def _expire(self, read_s: float) -> None:
        """Fail when nothing came for `read_s`; a reader that is slow itself is no silence."""
        quiet = self._loop.time() - self._last
        if self._paused or self._parts:
            quiet = 0.0
        if quiet >= read_s - 0.001:
            self._timer = None
            self._fail(WireTimeout("read"))
        else:
            self._timer = self._loop.call_later(read_s - quiet, self._expire, read_s)

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if not self._open:
            # Before the first request it may be HTTP/2's settings; else nobody asked for it.
            self.early += data
            if self.used or len(self.early) > EARLY_BYTES_MAX:
                self._dirty = True
                self.transport.abort()
            return
        if self._timer is not None:
            self._last = self._loop.time()
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)  # type: ignore[union-attr]
        except httptools.HttpParserUpgrade:
            self._fail(WireError("the server changes to a protocol that nobody asked for"))
        except httptools.HttpParserError as error:
            if not self._complete:
                cause = error.__context__
                text = cause if isinstance(cause, WireError) else f"no sound HTTP: {error}"
                self._fail(WireError(str(text)))
            self._dirty = True
            return
        if not self._head_done and self._head_bytes > HEAD_BYTES_MAX:
            self._fail(WireError(f"the response's head has more than {HEAD_BYTES_MAX} bytes"))
        elif self._head_done:
            self._wake()

    def eof_received(self) -> None:
        """Let the transport close."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End a body that only the connection's end delimits; fail what is cut."""
        self.closed = True
        if self._open and not self._complete:
            if self._head_done and not self._framed and exc is None and self._error is None:
                self._complete = True
                self._wake()
            else:
                silent = not self._head_bytes
                why = f": {exc}" if exc else ""
                where = "before it answered" if silent else "in the middle of the answer"
                self._fail(WireError(f"the server closed the connection {where}{why}",
                                     silent=silent))  # fmt: skip
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if self.on_lost is not None:
            self.on_lost(self)

    def pause_writing(self) -> None:
        """Make the sender wait."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let the sender go on."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # The parser's calls

    def on_message_begin(self) -> None:
        """Notice a response that nobody asked for."""
        if self._complete:
            self._dirty = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are dropped."""
        if self._head_done or self._complete:
            return
        if len(self.headers) >= HEADERS_MAX:
            raise WireError(f"the response has more than {HEADERS_MAX} headers")
        low = name.decode("latin-1").lower()
        if low in ("content-length", "transfer-encoding"):
            self._framed = True
        self.headers.append((low, value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Take the status; interim responses (1xx) are no answer."""
        if self._complete:
            return
        status = self._parser.get_status_code()  # type: ignore[union-attr]
        if 100 <= status < 200:
            return
        self.status = status
        self._head_done = True
        if self._head_only or status in (204, 304):
            self._framed = True
        if self._head_only:
            # The parser does not know that a length is announced and no body comes.
            self._complete = True

    def on_body(self, data: bytes) -> None:
        """Keep a part, and stop reading while too much is kept."""
        if self._complete:
            self._dirty = True
            return
        self._parts.append(data)
        self._buffered += len(data)
        if self._buffered > BUFFERED_BYTES_MAX and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        """End the response, or an interim one."""
        if not self._head_done:
            self.headers.clear()
            self._framed = False
            return
        if not self._complete:
            self._complete = True
            self._keep = bool(self._parser.should_keep_alive())  # type: ignore[union-attr]
