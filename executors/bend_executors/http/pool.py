"""The pool: connections by origin, bounded for each and in all, closed when idle too long."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bend import RetryableError, TerminalError
from bend_executors.http.headers import Request
from bend_executors.http.http2 import Exchange2, Shared
from bend_executors.http.options import Options
from bend_executors.http.target import Target
from bend_executors.http.wire import Wire, WireError, WireTimeout
from bend_executors.reach import dial

Key = tuple[str, str, int]
Exchange = Wire | Exchange2


class Host:
    """What the pool holds for one origin; `count` are connections, used and idle."""

    __slots__ = ("count", "idle", "learning", "shared")

    def __init__(self) -> None:
        self.count = 0
        self.idle: list[Wire] = []
        self.shared: Shared | None = None
        # Until the first handshake nobody knows whether one connection is enough for all.
        self.learning: asyncio.Lock | None = asyncio.Lock()


class Pool:
    """All connections of the component. One event loop."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._hosts: dict[Key, Host] = {}
        self._count = 0
        self._waiting: deque[tuple[Key, asyncio.Future[None]]] = deque()
        self._tls: ssl.SSLContext | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def exchange(
        self, request: Request, timeouts: dict[str, float]
    ) -> AsyncIterator[Exchange]:
        """Send a request; gives the exchange with the response's head, and takes it back.

        A connection that was idle may have been closed by the server while the request was on its
        way; then it is sent once more on a new one, which is safe: a request that changes
        something carries an Idempotency-Key.

        Args:
            timeouts: seconds by phase: connect, pool, read, write; 0 is no bound.

        Raises: WireError, WireTimeout, OSError; TerminalError ADDRESS_REFUSED and
            RetryableError DNS_FAILED of the guard.
        """
        failed: Wire | Shared | None = None
        while True:
            found = await self._acquire(request.target, timeouts, failed)
            reused = found.used and failed is None
            try:
                if isinstance(found, Shared):
                    opened = found.exchange(request, timeouts)
                    try:
                        await opened.open()
                        found.used = True
                        reused = False
                        yield opened
                    finally:
                        await opened.close()
                else:
                    try:
                        await found.send(
                            request.head(),
                            request.body,
                            head_only=request.method == "HEAD",
                            read_s=timeouts["read"],
                            write_s=timeouts["write"],
                        )
                        reused = False
                        yield found
                    finally:
                        self._release(request.target.origin, found)
            except WireError as error:
                # Over HTTP/2 nobody can tell a late goodbye from a request that was lost.
                if not (reused and (error.silent or isinstance(found, Shared))):
                    raise
                failed = found
            else:
                return

    async def _acquire(
        self, target: Target, timeouts: dict[str, float], failed: Wire | Shared | None
    ) -> Wire | Shared:
        """Return a connection; after a `failed` one none that was idle."""
        key = target.origin
        while True:
            host = self._hosts.get(key)
            if host is None:
                host = self._hosts[key] = Host()
            if host.shared is not None:
                if host.shared is not failed and host.shared.live:
                    return host.shared
                await self._retire(key, host)
                continue
            while host.idle and failed is None:
                wire = host.idle.pop()
                if not wire.closed:
                    return wire
            if self._has_room(key, host):
                return await self._connect(key, host, target, timeouts["connect"])
            await self._turn(key, timeouts["pool"])

    def _has_room(self, key: Key, host: Host) -> bool:
        if host.count >= self._options.connections_per_host_max:
            # After a failed one a new one is wanted, though idle ones are there.
            return bool(host.idle) and self._evict(key, host, kept=host)
        if self._count < self._options.connections_max:
            return True
        idle = next(((k, other) for k, other in self._hosts.items() if other.idle), None)
        return idle is not None and self._evict(*idle, kept=host)

    def _evict(self, key: Key, host: Host, kept: Host | None = None) -> bool:
        """Close the longest idle connection of a host; forget the host when it was its last."""
        wire = host.idle.pop(0)
        wire.on_lost = None
        wire.abort()
        self._forget(host)
        if host is not kept:
            self._drop_if_empty(key, host)
        return True

    def _forget(self, host: Host) -> None:
        host.count -= 1
        self._count -= 1

    async def _turn(self, key: Key, pool_s: float) -> None:
        """Wait until a connection may be free."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (key, turn)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(pool_s or None):
                await turn
        except TimeoutError:
            raise WireTimeout("pool") from None
        except asyncio.CancelledError:
            # The turn may have come in the same moment; it belongs to the next one then.
            if turn.done() and not turn.cancelled():
                self._next(key)
            raise
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
            host = self._hosts.get(key)
            if host is not None:
                self._drop_if_empty(key, host)

    def _next(self, key: Key) -> None:
        """Wake the first task that waits for this origin, else the first that may go on."""
        if not self._waiting:
            return
        most = self._options.connections_per_host_max
        chosen = next((entry for entry in self._waiting if entry[0] == key), None)
        if chosen is None:
            for entry in self._waiting:
                host = self._hosts.get(entry[0])
                if host is None or host.count < most:
                    chosen = entry
                    break
        if chosen is not None:
            self._waiting.remove(chosen)
            if not chosen[1].done():
                chosen[1].set_result(None)

    async def _connect(
        self, key: Key, host: Host, target: Target, connect_s: float
    ) -> Wire | Shared:
        host.count += 1
        self._count += 1
        lock = host.learning if target.scheme == "https" else None
        try:
            if lock is None:
                return await self._dial(key, host, target, connect_s)
            return await self._learn(key, host, target, connect_s, lock)
        except BaseException:
            self._forget(host)
            self._drop_if_empty(key, host)
            self._next(key)
            raise

    async def _learn(
        self, key: Key, host: Host, target: Target, connect_s: float, lock: asyncio.Lock
    ) -> Wire | Shared:
        """Connect, one task after the other until it is known whether the host speaks HTTP/2.

        Waiting for the others counts: they may all wait for a host that does not answer.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + connect_s
        try:
            async with asyncio.timeout(connect_s):
                await lock.acquire()
        except TimeoutError:
            raise WireTimeout("connect") from None
        try:
            if host.shared is not None and host.shared.live:
                self._forget(host)
                self._next(key)
                return host.shared
            found = await self._dial(key, host, target, max(0.001, end - loop.time()))
            host.learning = lock if isinstance(found, Shared) else None
            return found
        finally:
            lock.release()

    async def _dial(self, key: Key, host: Host, target: Target, connect_s: float) -> Wire | Shared:
        loop = asyncio.get_running_loop()
        tls = self._context() if target.scheme == "https" else None
        try:
            transport, wire = await dial(
                target.host,
                target.port,
                self._options.allow,
                lambda: Wire(loop),
                tls=tls,
                timeout_s=connect_s,
            )
        except TimeoutError:
            raise WireTimeout("connect") from None
        sealed = transport.get_extra_info("ssl_object")
        if sealed is not None and sealed.selected_alpn_protocol() == "h2":
            host.shared = Shared(wire, key, self._options.idle_s)
            self._sweep_later()
            return host.shared
        wire.on_lost = lambda lost: self._lost(key, lost)
        return wire

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._options.ca_file or None)
            if self._options.ca_file:
                self._tls.load_default_certs()
            self._tls.set_alpn_protocols(["h2", "http/1.1"])
        return self._tls

    def _release(self, key: Key, wire: Wire) -> None:
        host = self._hosts[key]
        if wire.reusable():
            wire.idle_since = asyncio.get_running_loop().time()
            host.idle.append(wire)
            self._sweep_later()
        else:
            wire.on_lost = None
            wire.abort()
            self._forget(host)
            self._drop_if_empty(key, host)
        if self._waiting:
            self._next(key)

    def _lost(self, key: Key, wire: Wire) -> None:
        """Forget a connection that its server closed while it was idle."""
        host = self._hosts.get(key)
        if host is not None and wire in host.idle:
            host.idle.remove(wire)
            self._forget(host)
            self._drop_if_empty(key, host)
            self._next(key)

    async def _retire(self, key: Key, host: Host) -> None:
        """Take leave of an HTTP/2 connection; what runs on it may end."""
        shared, host.shared = host.shared, None
        if shared is not None:
            self._forget(host)
            if shared.idle:
                await shared.close()
        self._drop_if_empty(key, host)
        self._next(key)

    def _drop_if_empty(self, key: Key, host: Host) -> None:
        waits = any(entry[0] == key for entry in self._waiting) if self._waiting else False
        if host.count == 0 and not waits and self._hosts.get(key) is host:
            del self._hosts[key]

    def _sweep_later(self) -> None:
        if self._sweeper is None:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(
                self._options.idle_s, lambda: loop.create_task(self._sweep())
            )

    async def _sweep(self) -> None:
        """Close what was idle too long."""
        self._sweeper = None
        oldest = asyncio.get_running_loop().time() - self._options.idle_s
        for key, host in list(self._hosts.items()):
            while host.idle and host.idle[0].idle_since <= oldest + 0.01:
                self._evict(key, host)
            if host.shared is not None and not host.shared.live:
                await self._retire(key, host)
            self._drop_if_empty(key, host)
        if any(host.idle or host.shared is not None for host in self._hosts.values()):
            self._sweep_later()

    async def close(self) -> None:
        """Close all connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for key, host in list(self._hosts.items()):
            while host.idle:
                self._evict(key, host)
            if host.shared is not None:
                await self._retire(key, host)
            self._drop_if_empty(key, host)

    def stats(self) -> dict[str, int]:
        """Return how many hosts, connections and idle connections there are, and who waits."""
        return {
            "hosts": len(self._hosts),
            "connections": self._count,
            "idle": sum(len(host.idle) for host in self._hosts.values()),
            "waiting": len(self._waiting),
        }


def connection_error(error: OSError, place: str) -> RetryableError | TerminalError:
    """Return what a connection that was not made means for a task."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TerminalError(
            "CERTIFICATE_REFUSED", f"{place}: {error.verify_message or 'not trusted'}"
        )
    text = error.strerror or str(error) or type(error).__name__
    return RetryableError("HTTP_CONNECTION", f"{place}: {text}")
