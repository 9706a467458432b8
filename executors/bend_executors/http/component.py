"""The component: one pool of connections, a circuit for each host, every connection guarded."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from bend import Context, Final, RetryableError, TerminalError, component
from bend_executors.bounds import PIECES_KEPT_MAX
from bend_executors.http import bodies
from bend_executors.http.durations import retry_after_s, seconds
from bend_executors.http.options import Options

if TYPE_CHECKING:
    from bend_executors.http.breaker import Breakers, Circuit
    from bend_executors.http.events import Pieces
    from bend_executors.http.headers import Request
    from bend_executors.http.pool import Exchange, Pool

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
Collect = Literal["all", "last", "count"]
Duration = float | str

SNIPPET_CHARS = 1000
SNIPPET_BYTES_MAX = 16 * 1024
SNIPPET_S = 2.0
# A few bytes that were packed may become the whole limit at once.
SLICE_BYTES = 64 * 1024
RETRYABLE_CODES = frozenset({408, 425, 429})
BROKEN_CODES = frozenset({502, 503, 504})
REDIRECT_CODES = frozenset({301, 302, 303, 307, 308})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class HttpComponent:
    """Holds pool and circuits; they and their libraries are loaded with the first task."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self._pool: Pool | None = None
        self._breakers: Breakers | None = None

    def _opened(self) -> "tuple[Pool, Breakers]":
        if self._pool is None or self._breakers is None:
            # Parsers, TLS and HTTP/2 cost 15 MB and 0.1 s, which an idle mesh should not pay.
            from bend_executors.http.breaker import Breakers
            from bend_executors.http.pool import Pool

            self._pool = Pool(self.options)
            self._breakers = Breakers(self.options.breaker)
        return self._pool, self._breakers

    def stats(self) -> dict[str, Any]:
        """Return the state: hosts, connections, idle and waiting ones, and each circuit."""
        pool, breakers = self._opened()
        return {**pool.stats(), "circuits": breakers.stats()}

    async def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            await self._pool.close()

    @component("http", version="1.1.0")
    async def request(
        self,
        context: Context,
        url: str,
        method: Method = "GET",
        headers: dict[str, str] | None = None,
        query: dict[str, str | int | float | bool] | None = None,
        body: Any = None,
        timeout_connect: Duration = 10.0,
        timeout_read: Duration | None = None,
        timeout_write: Duration | None = None,
        timeout_pool: Duration | None = None,
        timeout_total: Duration | None = None,
        response_bytes_max: int | None = None,
        stream: bool = False,
        collect: Collect = "all",
    ) -> AsyncIterator[Any]:
        """Call a URL and answer its parsed body.

        JSON is parsed; other text becomes `{"text"}`, anything else `{"base64", "content_type"}`.
        Server-sent events and lines of JSON are partial outputs as they come, with `stream` other
        text too; the output is then all of them, the last, or their count (`collect`). A code
        outside 2xx fails the task with the reason `HTTP_<code>`; 408, 425, 429 and 5xx are tried
        again, honouring Retry-After. Methods that change something carry an `Idempotency-Key`
        that is the same in every attempt. Addresses outside the public internet are refused
        (ADDRESS_REFUSED) unless the operator opened them. A host that keeps failing is left alone
        for a while (CIRCUIT_OPEN).
        """
        loop = asyncio.get_running_loop()
        total = context.timeout_s
        if timeout_total is not None:
            total = min(total, seconds(timeout_total, "timeout_total"))
        timeouts = {
            "connect": min(total, seconds(timeout_connect, "timeout_connect")),
            "read": seconds(timeout_read, "timeout_read") if timeout_read is not None else 0.0,
            "write": seconds(timeout_write, "timeout_write") if timeout_write is not None else 0.0,
            "pool": seconds(timeout_pool, "timeout_pool") if timeout_pool is not None else 0.0,
        }
        made = self._made(context, url, method, headers, query, body)
        limit = self.options.response_bytes_max
        if response_bytes_max is not None:
            if response_bytes_max < 1:
                raise TerminalError("INVALID_INPUT", "response_bytes_max: at least 1 is wanted")
            limit = min(limit, response_bytes_max)
        call = Call(self, context.namespace, timeouts, limit, stream=stream, collect=collect)
        # Not one timeout around all: while a partial output is handed over, the time is the
        # reader's, and a timeout that fires there would cancel the reader.
        deadline = loop.time() + total
        async with aclosing(call.answers(made)) as values:
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        value = await anext(values)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    call.timed_out()
                    raise RetryableError(
                        "HTTP_TIMEOUT", f"{method} {made.target.shown}: total timed out"
                    ) from None
                yield value

    def _made(
        self,
        context: Context,
        url: str,
        method: str,
        headers: dict[str, str] | None,
        query: dict[str, str | int | float | bool] | None,
        body: Any,
    ) -> "Request":
        from bend_executors.http.headers import Request, checked
        from bend_executors.http.target import parse

        target = parse(url, query)
        sent = checked(headers, target)
        content = None
        if body is not None:
            content, kind = bodies.encode(body)
            if len(content) > self.options.request_bytes_max:
                raise TerminalError("REQUEST_TOO_LARGE", f"the body has {len(content)} bytes")
            sent.setdefault("content-type", kind)
        if method not in SAFE_METHODS:
            sent.setdefault("idempotency-key", context.idempotency_key)
        return Request(method, target, sent, content)


class Call:
    """One task's call: redirects are followed, each hop through guard, pool and circuit."""

    def __init__(
        self,
        owner: HttpComponent,
        namespace: str,
        timeouts: dict[str, float],
        limit: int,
        *,
        stream: bool,
        collect: str,
    ) -> None:
        self._pool, self._breakers = owner._opened()  # noqa: SLF001 - the same room
        self._redirects_max = owner.options.redirects_max
        self._namespace = namespace
        self._timeouts = timeouts
        self._limit = limit
        self._stream = stream
        self._collect = collect
        self._circuit: Circuit | None = None

    async def answers(self, request: "Request") -> AsyncGenerator[Any, None]:
        """Yield partial outputs and at last Final(output)."""
        from bend_executors.http.target import redirected

        for _ in range(self._redirects_max + 1):
            async with aclosing(self._hop(request)) as values:
                moved: tuple[int, str] | None = None
                async for value in values:
                    if isinstance(value, Moved):
                        moved = value.code, value.location
                    else:
                        yield value
            if moved is None:
                return
            request = request.follow(moved[0], redirected(request.target, moved[1]))
        raise TerminalError(
            "TOO_MANY_REDIRECTS",
            f"{request.target.shown}: more than {self._redirects_max} redirects",
        )

    async def _hop(self, request: "Request") -> AsyncGenerator[Any, None]:
        from bend_executors.http.pool import connection_error
        from bend_executors.http.wire import WireError, WireTimeout

        breakers = self._breakers
        options, clock = breakers.options, breakers.clock
        circuit = breakers.circuit(self._namespace, request.target.place)
        circuit.enter(options, clock())
        self._circuit = circuit
        place = f"{request.method} {request.target.shown}"
        try:
            async with self._pool.exchange(request, self._timeouts) as exchange:
                if exchange.status in BROKEN_CODES:
                    circuit.failed(options, clock())
                else:
                    circuit.succeeded(options, clock())
                self._circuit = None
                async with aclosing(self._read(request, exchange)) as values:
                    async for value in values:
                        yield value
        except WireTimeout as error:
            if error.phase != "pool":
                self._failed()
            raise RetryableError("HTTP_TIMEOUT", f"{place}: {error.phase} timed out") from None
        except WireError as error:
            self._failed()
            raise RetryableError("HTTP_CONNECTION", f"{place}: {error}") from None
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            self._failed()
            raise connection_error(error, place) from None
        except RetryableError as error:
            if error.reason == "DNS_FAILED":
                self._failed()
            raise
        finally:
            if self._circuit is not None:
                self._circuit.left()

    def _failed(self) -> None:
        """Count a failure of the host, once a hop."""
        circuit, self._circuit = self._circuit, None
        if circuit is not None:
            circuit.failed(self._breakers.options, self._breakers.clock())

    def timed_out(self) -> None:
        """Count a call that took all its time before the host answered."""
        self._failed()

    async def _read(self, request: "Request", exchange: "Exchange") -> AsyncGenerator[Any, None]:
        found = dict(exchange.headers)
        status = exchange.status
        if status in REDIRECT_CODES and "location" in found:
            yield Moved(status, found["location"])
            return
        kind = found.get("content-type", "")
        incoming = Incoming(exchange, found.get("content-encoding", ""), self._limit)
        if not 200 <= status < 300:
            raise refused(request, status, found, await incoming.snippet())
        from bend_executors.http.events import pieces_of

        pieces = pieces_of(kind, stream=self._stream) if kind else None
        if pieces is None:
            yield Final(bodies.decode(await incoming.whole(), kind))
            return
        kept: list[Any] = []
        count = 0
        while True:
            data = await incoming.part()
            for value in taken(pieces, data):
                count += 1
                if self._collect == "last":
                    kept = [value]
                elif self._collect == "all":
                    if count > PIECES_KEPT_MAX:
                        raise TerminalError(
                            "RESPONSE_TOO_LARGE",
                            f"more than {PIECES_KEPT_MAX} pieces for one output: collect 'last' or "
                            "'count' takes any number",
                        )
                    kept.append(value)
                yield value
            if data is None:
                break
        if self._collect == "count":
            yield Final(count)
        else:
            yield Final(kept if self._collect == "all" else (kept[0] if kept else None))


def taken(pieces: "Pieces", data: bytes | None) -> Iterator[Any]:
    """Give the pieces that bytes complete, None being the end; few at a time are in memory."""
    if data is None:
        yield from pieces.end()
        return
    for at in range(0, len(data), SLICE_BYTES):
        yield from pieces.feed(data[at : at + SLICE_BYTES])


class Moved:
    """A redirect; travels where answers do."""

    __slots__ = ("code", "location")

    def __init__(self, code: int, location: str) -> None:
        self.code = code
        self.location = location


class Incoming:
    """A response's body: unpacked, counted, and never more than the limit."""

    def __init__(self, exchange: "Exchange", coding: str, limit: int) -> None:
        self._exchange = exchange
        self._limit = limit
        self._size = 0
        coding = coding.strip().lower()
        self._unpacker = bodies.Unpacker(coding) if coding not in ("", "identity") else None

    async def part(self) -> bytes | None:
        """Return the next bytes, None at the end. Raises TerminalError RESPONSE_TOO_LARGE."""
        data = await self._exchange.part()
        if data is None:
            if self._unpacker is not None:
                self._unpacker.end()
            return None
        if self._unpacker is not None:
            data = self._unpacker.feed(data, self._limit - self._size)
        self._size += len(data)
        if self._size > self._limit:
            raise TerminalError("RESPONSE_TOO_LARGE", f"the body has more than {self._limit} bytes")
        return data

    async def whole(self) -> bytes:
        """Return the whole body."""
        first = await self.part()
        if first is None:
            return b""
        second = await self.part()
        if second is None:
            return first
        parts = [first, second]
        while (data := await self.part()) is not None:
            parts.append(data)
        return b"".join(parts)

    async def snippet(self) -> str:
        """Return the beginning of a body that is shown in an error."""
        from bend_executors.http.wire import WireError, WireTimeout

        self._limit = max(self._limit, SNIPPET_BYTES_MAX)
        data = b""
        try:
            # The code is the answer: a body that does not come must not become its reason.
            async with asyncio.timeout(SNIPPET_S):
                while len(data) < SNIPPET_CHARS * 4 and (part := await self.part()) is not None:
                    data += part
        except (TerminalError, WireError, WireTimeout, TimeoutError):
            pass
        return data[: SNIPPET_CHARS * 4].decode("utf-8", "replace")[:SNIPPET_CHARS]


def refused(
    request: "Request", code: int, found: dict[str, str], snippet: str
) -> RetryableError | TerminalError:
    """Return the error of a response outside 2xx."""
    message = f"{request.method} {request.target.shown} answered {code}"
    details = {"status_code": code, "body": snippet}
    if code >= 500 or code in RETRYABLE_CODES:
        wait = retry_after_s(found.get("retry-after", ""))
        return RetryableError(f"HTTP_{code}", message, retry_after=wait, details=details)
    return TerminalError(f"HTTP_{code}", message, details=details)
