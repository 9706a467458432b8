"""One supervised process: started, watched, started again, stopped."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 10.0
STEADY_S = 1.0
"""A process that did its work for so long starts again without a growing pause: it was killed, or
fell over something rare; one that fails at its start waits ever longer."""
POLL_S = 0.05
POLL_STEADY_S = 0.1
CONFIGURATION_EXIT = 2
PR_SET_PDEATHSIG = 1

Check = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class ProcessSpec:
    """What to run.

    Args:
        name: as `bend status` shows it.
        command: program and arguments.
        environment: variables on top of our own; an empty value removes one.
        address: where it listens, for people.
        log: takes its output.
        ready: tells by asking it (or who depends on it) whether it does its work.
        stop_s: seconds that an ordered stop may take.
        after: name of a process that must be ready before the first start; empty: none.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    address: str
    log: Path
    ready: Check
    stop_s: float
    after: str = ""


@dataclass
class Condition:
    """What is known about a process now; `fault` says why it could not even be started."""

    pid: int = 0
    state: str = "starting"
    restarts: int = 0
    exit_code: int | None = field(default=None)
    fault: str = ""


class SupervisedProcess:
    """Keeps one process running until it is stopped.

    States: starting → running (its check answered) → restarting (it ended) → … → stopped.
    `failed`: it refuses its configuration, starting again is useless.

    Args:
        spec: what to run.
        changed: called after each change of `condition`.
    """

    def __init__(self, spec: ProcessSpec, changed: Callable[["SupervisedProcess"], None]) -> None:
        self.spec = spec
        self.condition = Condition()
        self.is_ready = asyncio.Event()
        self._changed = changed
        self._stopping = False
        self._process: asyncio.subprocess.Process | None = None
        self._wake = asyncio.Event()
        self._ready_at = 0.0

    async def run(self) -> None:
        """Run it until `stop` was called, or it failed for good."""
        loop = asyncio.get_running_loop()
        pause = BACKOFF_FIRST_S
        while not self._stopping:
            code = await self._once()
            steady = self.is_ready.is_set() and loop.time() - self._ready_at >= STEADY_S
            self.is_ready.clear()
            if self._stopping:
                break
            if code == CONFIGURATION_EXIT:
                self._set("failed", code)
                return
            if steady:
                pause = BACKOFF_FIRST_S
            self.condition.restarts += 1
            self._set("restarting", code)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            pause = min(pause * 2, BACKOFF_MAX_S)
        self._set("stopped", None)

    async def _once(self) -> int:
        self._set("starting", None)
        self.condition.fault = ""
        try:
            process = await self._spawn()
        except FileNotFoundError as error:
            self.condition.fault = f"cannot be started: {error}"
            return CONFIGURATION_EXIT
        except OSError as error:
            # A full disk, no memory for a fork: it may go by.
            self.condition.fault = f"cannot be started: {error}"
            return 1
        self.condition.pid = process.pid
        self._changed(self)
        probe = asyncio.create_task(self._await_ready())
        try:
            return await process.wait()
        finally:
            probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probe
            self.condition.pid = 0
            self._process = None

    async def _spawn(self) -> asyncio.subprocess.Process:
        environment = {**os.environ, **self.spec.environment}
        environment = {name: value for name, value in environment.items() if value}
        descriptor = os.open(self.spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=environment,
                # Ctrl-C is for the supervisor, which stops the others in order.
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),
            )
        finally:
            os.close(descriptor)
        return self._process

    async def _await_ready(self) -> None:
        pause = POLL_S
        while not await self.spec.ready():
            await asyncio.sleep(pause)
            pause = min(pause * 1.1, POLL_STEADY_S)
        self._ready_at = asyncio.get_running_loop().time()
        self.is_ready.set()
        self._set("running", None)

    def _set(self, state: str, code: int | None) -> None:
        self.condition.state = state
        if code is not None:
            self.condition.exit_code = code
        self._changed(self)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it, when it runs."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def retire(self) -> None:
        """Start it no more; what runs goes on."""
        self._stopping = True
        self._wake.set()

    async def stop(self, within_s: float) -> None:
        """Stop it: SIGTERM, and SIGKILL when it has not ended after `within_s` seconds."""
        self.retire()
        process = self._process
        if process is None:
            return
        self._set("stopping", None)
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within_s):
                await process.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await process.wait()


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """Return what a child does before it becomes its program: it must not outlive us.

    Linux only. Elsewhere our own programs watch their parent, and the next `bend up` ends the rest.
    """
    if sys.platform != "linux":
        return None
    # Loaded here, in the parent: after the fork only a system call is safe.
    libc = ctypes.CDLL(None, use_errno=True)

    def before_exec() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec
