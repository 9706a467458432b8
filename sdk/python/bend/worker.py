"""A worker connects component functions to a mesh: it dials out, registers, and runs tasks.

    Worker([detect, report]).run()        # until SIGTERM or SIGINT, then drains
    await Worker([detect]).serve()        # inside a running loop

It reconnects for ever. Long-running tasks survive a reconnect; short ones go to another instance.
"""

import asyncio
import logging
import os
import platform
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

from bend import __version__
from bend.cli.exits import code_of
from bend.components import Component, component_of
from bend.errors import (
    BendError,
    ConfigurationError,
    InvalidRequest,
    NotPermitted,
    Unauthenticated,
    Unreachable,
    WrongState,
)
from bend.settings import load_settings
from bend.stream import Stream
from bend.tasks import TaskRoom
from bend.v1 import component_pb2
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
CLOSE_S = 5.0
SETTLE_S = 0.1

log = logging.getLogger("bend.worker")


class Worker:
    """Serves components over one Connect stream.

    Args:
        components: functions decorated with `@component`.
        credit: how many tasks to hold at once, 1 to 65,536.
        threads: how many plain functions run at once, 1 to 1,024; default: the credit, at most 64.
        drain_timeout: seconds that held tasks may take after a stop was asked for.
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
        self.drain_timeout = drain_timeout
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
        self._ever_welcomed = False
        self._attempts = 0
        self._away_since = 0.0
        self._left_behind = 0
        self._fatal: BendError | None = None

    # Entries

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once.

        It is a process's main: what `serve` raises is one line on stderr and the exit code that
        `bend` has for it.
        """
        if not logging.getLogger().handlers and not log.handlers:
            logging.basicConfig(
                stream=sys.stderr,
                level=os.environ.get("BEND_LOG_LEVEL", "info").upper(),
                format="%(asctime)s %(levelname)s %(message)s",
            )
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._serve_with_signals())
        except BendError as error:
            log.error("%s: %s", error.reason, error)  # noqa: TRY400 - not a fault of the program
            if isinstance(error, NotPermitted):
                log.error("a component's certificate: bend components cert NAME")  # noqa: TRY400
            raise SystemExit(code_of(error)) from None

    async def _serve_with_signals(self) -> None:
        loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal, number)
        await self.serve()
        if self._left_behind:
            # Threads of author code cannot be stopped, and the interpreter would wait for them.
            logging.shutdown()
            os._exit(1)

    def _on_signal(self, number: int) -> None:
        if self._stop_wanted:
            os._exit(128 + number)
        log.info("stopping: finishing what is held")
        self.stop()

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
                if self._current is None and not self._connecting():
                    await self._connect()
                await self._woken()
            await self._drain()
        finally:
            for stream in list(self._open):
                stream.abort()
            self._rooms.drop_all()
            self._rooms.close()

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
        except ConfigurationError as error:
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
            self._left_behind = len(self._rooms.running)
            log.warning("%d tasks did not finish in time", self._left_behind)
            return
        for stream in self._open:
            stream.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._open:
                    await self._woken()
        except TimeoutError:
            log.warning("the executor did not close the stream in time")


def contract_of(component: Component) -> component_pb2.ComponentContract:
    """Return a component's contract as the hello carries it."""
    return component_pb2.ComponentContract(
        name=component.name,
        version=component.version,
        description=component.description,
        labels=component.labels,
        input_schema=component.input_schema,
        output_schema=component.output_schema,
        long_running=component.long_running,
        heartbeats=component.heartbeats,
    )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory when it is installed; it is no dependency of the SDK."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def require_platform() -> None:
    """Raise ConfigurationError where Bend does not run."""
    system, machine = platform.system(), platform.machine().lower()
    if system not in {"Linux", "Darwin"} or machine not in {"x86_64", "amd64", "arm64", "aarch64"}:
        raise ConfigurationError(
            f"Bend runs on Linux and macOS, x86-64 and arm64; this is {system} on {machine}",
            reason="UNSUPPORTED_PLATFORM",
        )
