"""A worker connects component functions to a mesh: it dials out, registers, and runs tasks.

    Worker([detect, report]).run()        # until SIGTERM or SIGINT, then drains
    await Worker([detect]).serve()        # inside a running loop

It reconnects for ever. Long-running tasks survive a reconnect; short ones go to another instance.
"""

import asyncio
import contextlib
import inspect
import logging
import os
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

from bend import __version__, process
from bend.components import Component, component_of
from bend.contracts import contract_of
from bend.errors import (
    BendError,
    ConfigurationError,
    InvalidRequest,
    NotPermitted,
    Unauthenticated,
    Unreachable,
    WrongState,
)
from bend.listening import ListeningWorker
from bend.platforms import require_platform
from bend.settings import load_settings
from bend.stream import Stream
from bend.tasks import TaskRoom
from bend.v1 import executor_service_pb2 as pb

PROTOCOL_VERSION = 1
CREDIT_MAX = 65_536
COMPONENTS_MAX = 256
THREADS_MAX = 64
BACKOFF_S_FIRST = 0.1
BACKOFF_S_SOON = 0.5
BACKOFF_S_MAX = 10.0
SOON_S = 5.0
"""A gateway or executor that was killed is back within that: so long, waits stay short."""
DRAIN_S = 30.0
# A stream ends after this long, more or less a fifth, so that connections move to where they should
# be: to gateways and executors that came later, with certificates that were renewed.
STREAM_AGE_S = 3600.0
STREAM_AGE_JITTER = 0.2
# So long an old stream may carry what it holds; then long tasks are claimed over the new one.
ROTATION_S = 60.0
CLOSE_S = 5.0
SETTLE_S = 0.1
ON_STOP_S = 4.0

log = logging.getLogger("bend.worker")


class Worker:
    """Serves components over one Connect stream.

    Args:
        components: functions decorated with `@component`.
        credit: how many tasks to hold at once, 1 to 65,536.
        threads: how many plain functions run at once, 1 to 1,024; default: the credit, at most 64.
        drain_timeout: seconds that held tasks may take after a stop was asked for.
        on_stop: called once when no task runs any more, to close what components hold open; a
            coroutine function, or a plain one, which gets a thread. It has 4 seconds; what it
            raises is logged.
        stream_age: seconds, more or less a fifth, after which the connection is replaced: the new
            one is opened first, then the old one is drained.
        url, ca_file, cert_file, key_file, token, home: how to reach the mesh; default: BEND_
            variables, then the local mesh of `bend up`.

    Raises:
        TypeError: a function has no `@component`.
        ValueError: no component, two of one name and version, or a number out of its range.
    """

    def __init__(
        self,
        components: Iterable[Callable[..., Any]],
        *,
        credit: int = 256,
        threads: int | None = None,
        drain_timeout: float = DRAIN_S,
        on_stop: Callable[[], Awaitable[None] | None] | None = None,
        stream_age: float = STREAM_AGE_S,
        url: str | None = None,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        token: str | None = None,
        home: str | Path | None = None,
    ) -> None:
        require_platform()
        self.components: list[Component] = [component_of(target) for target in components]
        if not 1 <= len(self.components) <= COMPONENTS_MAX:
            raise ValueError(f"a worker serves 1 to {COMPONENTS_MAX} components")
        names = [f"{c.name}@{c.version}" for c in self.components]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"served twice: {', '.join(sorted(twice))}")
        if not 1 <= credit <= CREDIT_MAX:
            raise ValueError(f"credit must be 1 to {CREDIT_MAX}, is {credit}")
        self.credit = credit
        self.threads = threads or min(credit, THREADS_MAX)
        if stream_age <= 0:
            raise ValueError(f"stream_age must be over 0, is {stream_age}")
        self.drain_timeout = drain_timeout
        self._on_stop = on_stop
        self.stream_age = stream_age
        self.instance_id = f"{socket.gethostname()[:64]}-{os.getpid()}-{uuid4().hex[:12]}"
        self._place: dict[str, Any] = {
            "url": url,
            "ca_file": ca_file,
            "cert_file": cert_file,
            "key_file": key_file,
            "token": token,
            "home": home,
        }
        self._wake = asyncio.Event()
        self._current: Stream | None = None
        self._open: set[Stream] = set()
        self._stop_wanted = False
        # The current stream is old: another one is to take its place.
        self._aged: Stream | None = None
        self._ever_welcomed = False
        self._attempts = 0
        self._away_since = 0.0
        self.left_behind = 0
        self._fatal: BendError | None = None

    # Entries

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once.

        It is a process's main: what `serve` raises is one line on stderr and the exit code that
        `bend` has for it.
        """
        process.run([self])

    def listen(self, address: str) -> None:
        """Serve as `run` does, to executors that dial `address` (`host:port`).

        The operator names the address in the executor's file of listeners. It needs a certificate
        of its own (`bend components cert NAME`); `stream_age` and `url` have no meaning here.
        """
        process.run([self.listener(address)])

    def listener(self, address: str) -> ListeningWorker:
        """Return what `listen` serves by, for a loop that runs already."""
        return ListeningWorker(
            self.components,
            address,
            instance_id=self.instance_id,
            credit=self.credit,
            threads=self.threads,
            drain_timeout=self.drain_timeout,
            clean_up=self._clean_up,
            place=self._place,
        )

    @classmethod
    def run_all(cls, workers: "Iterable[Worker]") -> None:
        """Serve several workers in one process, each with credit of its own, as `run` does one.

        Components of one worker share its credit: where some are slow and some are fast, a worker
        for each keeps the slow ones from holding what the fast ones need.
        """
        process.run(list(workers))

    def stop(self) -> None:
        """Ask to drain; `serve` then returns. Call it on the worker's loop."""
        self._stop_wanted = True
        self._wake.set()

    async def serve(self) -> None:
        """Serve until `stop` or cancellation.

        Raises:
            ConfigurationError: no mesh is known, or a certificate file is missing.
            ProtocolMismatch, ContractMismatch: executor and worker do not fit together.
            NotPermitted, Unauthenticated: this identity may not serve (at the first connection).
        """
        self._place_now()
        self._rooms = TaskRoom(self.components, self.threads)
        try:
            while not self._stop_wanted:
                if self._fatal is not None:
                    raise self._fatal
                aged = self._current is not None and self._current is self._aged
                if (self._current is None or aged) and not self._connecting():
                    await self._connect()
                await self._woken()
            await self._drain()
        finally:
            for stream in list(self._open):
                stream.abort()
            self._rooms.drop_all()
            self._rooms.close()
            await self._clean_up()

    @property
    def connected(self) -> bool:
        """Whether an executor has accepted this worker and gives it tasks."""
        return self._current is not None

    # Connecting

    def _place_now(self) -> Any:
        """Read the settings; again for each connection, since a new mesh may have other ports."""
        return load_settings(**self._place)

    def _connecting(self) -> bool:
        return any(not stream.welcomed for stream in self._open)

    async def _woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def _connect(self) -> None:
        """Open one stream, after a random wait when the last attempts failed (full jitter)."""
        if self._attempts:
            ceiling = min(self._ceiling_max(), BACKOFF_S_FIRST * 2 ** min(self._attempts, 10))
            try:
                async with asyncio.timeout(random.uniform(0, ceiling)):  # noqa: S311
                    while not self._stop_wanted:
                        await self._woken()
            except TimeoutError:
                pass
            if self._stop_wanted:
                return
        self._attempts += 1
        try:
            settings = self._place_now()
        except (ConfigurationError, Unreachable) as error:
            # The local mesh is down between two starts: its endpoints file comes back.
            log.warning("%s", error)
            asyncio.get_running_loop().call_later(BACKOFF_S_FIRST, self._wake.set)
            return
        stream = Stream(settings, self._hello(), self, asyncio.get_running_loop())
        self._open.add(stream)
        stream.open()

    def _ceiling_max(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._attempts == 1:
            self._away_since = now
        return BACKOFF_S_SOON if now - self._away_since < SOON_S else BACKOFF_S_MAX

    def _hello(self) -> pb.Hello:
        return pb.Hello(
            protocol_version=PROTOCOL_VERSION,
            instance_id=self.instance_id,
            sdk=f"bend-python/{__version__}",
            components=[contract_of(component) for component in self.components],
            credit=self.credit,
            held=self._rooms.claims(),
            # Streams that are well go on with what they hold.
            rotates=any(stream.welcomed and not stream.broken for stream in self._open),
            pool_instance=os.environ.get("BEND_POOL_INSTANCE", ""),
        )

    # What streams tell

    def on_welcome(self, stream: Stream, welcome: pb.Welcome) -> None:
        """The executor accepted the hello: this stream is the one for new tasks."""
        stream.welcomed = True
        self._ever_welcomed = True
        self._attempts = 0
        before, self._current = self._current, stream
        unclaimed = self._rooms.adopt(stream, welcome.kept)
        log.info(
            "connected to %s, serving %s",
            welcome.executor,
            ", ".join(f"{c.name}@{c.version}" for c in self.components),
        )
        self._grow_old(stream)
        if before is not None:
            self._retire(before)
        if unclaimed:
            self._renew()
        if self._stop_wanted:
            stream.drain()
        self._wake.set()

    def on_tasks(self, stream: Stream, tasks: Any) -> None:
        """Run a batch."""
        self._rooms.start(stream, tasks)

    def on_cancels(self, stream: Stream, run_ids: list[int]) -> None:
        """Stop what is no longer wanted."""
        self._rooms.cancel(run_ids)

    def on_go_away(self, stream: Stream, reason: str) -> None:
        """The executor leaves: connect elsewhere, finish over the old stream meanwhile."""
        log.info("executor %s leaves: %s", stream.executor, reason)
        if stream is self._current:
            self._current = None
        self._retire(stream)
        self._wake.set()

    def _retire(self, stream: Stream) -> None:
        """Let a stream finish what it holds, then close it."""
        if not stream.leaving:
            stream.drain()
        self._close_when_idle(stream)

    # Rotation

    def _grow_old(self, stream: Stream) -> None:
        """Note when a stream is to be replaced."""
        spread = random.uniform(1 - STREAM_AGE_JITTER, 1 + STREAM_AGE_JITTER)  # noqa: S311
        asyncio.get_running_loop().call_later(self.stream_age * spread, self._replace, stream)

    def _replace(self, stream: Stream) -> None:
        if stream is self._current and not self._stop_wanted:
            log.info("the connection to %s is old, opening another one", stream.executor)
            self._aged = stream
            self._wake.set()
            asyncio.get_running_loop().call_later(ROTATION_S, self._cut_off, stream)

    def _cut_off(self, stream: Stream) -> None:
        """Break an old stream that only long tasks keep open: they are claimed over the new one."""
        if stream not in self._open or self._stop_wanted:
            return
        if stream is self._current or not self._rooms.holds_only_claimable(stream):
            asyncio.get_running_loop().call_later(ROTATION_S, self._cut_off, stream)
        else:
            stream.abort()

    def _close_when_idle(self, stream: Stream) -> None:
        if stream not in self._open:
            return
        if self._rooms.busy(stream):
            asyncio.get_running_loop().call_later(SETTLE_S, self._close_when_idle, stream)
        else:
            stream.close()

    def on_closed(self, stream: Stream, error: BendError | None) -> None:
        """A stream ended: hold or give up its tasks, and connect again."""
        self._open.discard(stream)
        held = self._rooms.lose(stream)
        if stream is self._current:
            self._current = None
            if not self._stop_wanted:
                log.warning("connection lost (%s), connecting again", error or "closed")
        elif held and error is not None and self._current is not None and not self._stop_wanted:
            self._renew()
        if not stream.welcomed and error is not None:
            self._judge(error)
        self._wake.set()

    def _renew(self) -> None:
        """Open a new stream and retire this one: only a hello can claim a held task."""
        before, self._current = self._current, None
        if before is not None:
            self._retire(before)
        self._wake.set()

    def _judge(self, error: BendError) -> None:
        """Decide whether a refused hello can ever be accepted."""
        refused = isinstance(error, WrongState) or (
            isinstance(error, InvalidRequest | NotPermitted | Unauthenticated)
            and not self._ever_welcomed
        )
        if refused:
            self._fatal = error
        elif self._attempts in (1, 5) or self._attempts % 20 == 0:
            kind = "" if isinstance(error, Unreachable) else f"{error.reason}: "
            log.warning("cannot connect (%s%s), trying again", kind, error)

    # Stopping

    async def _clean_up(self) -> None:
        """Call `on_stop`."""
        if self._on_stop is None:
            return
        try:
            async with asyncio.timeout(ON_STOP_S):
                if inspect.iscoroutinefunction(self._on_stop):
                    await self._on_stop()
                else:
                    await in_thread(self._on_stop)
        except TimeoutError:
            log.warning("on_stop did not end within %g s", ON_STOP_S)
        except Exception:
            log.exception("on_stop failed")

    async def _drain(self) -> None:
        """Finish what is held, at most `drain_timeout` seconds, then close the streams."""
        for stream in self._open:
            if not stream.welcomed:
                stream.abort()
            elif not stream.leaving:
                stream.drain()
        try:
            async with asyncio.timeout(self.drain_timeout):
                # What was on its way before the executor read our wish still arrives.
                await asyncio.sleep(SETTLE_S)
                while self._open and self._rooms.running:
                    asyncio.get_running_loop().call_later(SETTLE_S / 5, self._wake.set)
                    await self._woken()
        except TimeoutError:
            self.left_behind = len(self._rooms.running)
            log.warning("%d tasks did not finish in time", self.left_behind)
            return
        for stream in self._open:
            stream.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._open:
                    await self._woken()
        except TimeoutError:
            log.warning("the executor did not close the stream in time")


async def in_thread(function: Callable[[], object]) -> None:
    """Run a function in a daemon thread of its own: one that hangs keeps nothing alive."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def work() -> None:
        failure: BaseException | None = None
        try:
            function()
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
            loop.call_soon_threadsafe(settle, failure)

    threading.Thread(target=work, name="bend-on-stop", daemon=True).start()
    await done
