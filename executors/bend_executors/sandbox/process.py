"""One sandbox: a process that was started and checked, and the socket and pipes to it.

Starting blocks for some 50 ms and belongs in a thread; everything else is for the event loop.
What comes over the socket was written by a stranger: lengths are bounded, and what is no JSON
object ends the sandbox.
"""

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from typing import IO, Any

from bend import payloads
from bend_executors.sandbox.isolation import Isolation, candidates
from bend_executors.sandbox.limits import Rules

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
READY_BYTES_MAX = 64 * 1024
# Some 50 ms on an idle machine; one that is far too busy still gets there.
START_S = 60.0
END_S = 5.0
COMPLAINT_BYTES = 2000
# By the kernel for want of memory: nobody else ends a sandbox that has not started.
KILLED = -signal.SIGKILL
# What a machine lacks for now, however many processes it could isolate.
SCARCE = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EINTR)
SCARCE_TEXTS = tuple(os.strerror(number) for number in SCARCE)


class Unavailable(Exception):
    """No way to isolate works here; the text says what was tried."""


class Busy(Unavailable):
    """A way may work, but the machine could not start it now: it says nothing about the way."""


class Garbage(Exception):
    """The sandbox sent what is no message."""


class Ended(Exception):
    """The sandbox is gone and sent no message."""


@dataclass(eq=False, slots=True)
class Sandbox:
    """A started sandbox. It takes one job and is ended by `end`, whatever happens."""

    isolation: Isolation
    process: "subprocess.Popen[bytes]"
    socket: socket.socket
    stdout: int
    stderr: int
    folder: str | None = None
    # It was ended because all its processes together took too much.
    over_memory: bool = False
    made_s: float = field(default_factory=time.monotonic)
    _killed: bool = False

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not self._killed and self.process.poll() is None

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message. Raises Ended."""
        data = payloads.dumps(message)
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self.socket, struct.pack(">I", len(data)) + data)
        except OSError:
            raise Ended from None

    async def receive(self) -> dict[str, Any]:
        """Wait for a message. Raises Ended, Garbage."""
        (size,) = struct.unpack(">I", await self._exactly(4))
        if size > MESSAGE_BYTES_MAX:
            raise Garbage(f"a message of {size} bytes")
        return parsed(await self._exactly(size))

    async def _exactly(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        found = bytearray()
        while len(found) < size:
            try:
                part = await loop.sock_recv(self.socket, min(size - len(found), 1 << 18))
            except OSError:
                part = b""
            if not part:
                raise Ended
            found += part
        return bytes(found)

    def exit_code(self) -> int:
        """Wait for its end and return the code: 128 + n for a signal. Blocks; for a thread."""
        code = self.process.wait()
        return 128 - code if code < 0 else code

    def kill(self) -> None:
        """End it with all that it started. Returns at once."""
        if self._killed:
            return
        self._killed = True
        if self.process.returncode is None or not self.isolation.real:
            # With namespaces the end of its first process is the end of all; without, this is.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def end(self) -> None:
        """Kill it, wait for its end, close what belongs to it. Blocks shortly; for a thread."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_S)
        self.socket.close()
        for descriptor in (self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def parsed(data: bytes) -> dict[str, Any]:
    """Return a message. Raises Garbage."""
    try:
        message = payloads.loads(data)
    except (ValueError, RecursionError):
        raise Garbage("what it sent is no JSON") from None
    if not isinstance(message, dict) or len(message) != 1:
        raise Garbage("what it sent is no message")
    return message


def started(isolation: Isolation, rules: Rules) -> Sandbox:
    """Start a sandbox and wait until it is ready and proven. Blocks; raises Unavailable, Busy."""
    ours, theirs = socket.socketpair()
    # Outside of any isolation there is no scratch folder but one of the machine's.
    folder = None if isolation.real else tempfile.mkdtemp(prefix="bend-task-")
    place = folder or "/tmp"  # noqa: S108 - inside of the sandbox, where it has its own
    try:
        process = subprocess.Popen(
            isolation.command(rules, theirs.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            env=environment(folder or "/scratch", place),
            cwd=folder or "/",
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        kind = Busy if error.errno in SCARCE else Unavailable
        raise kind(f"{isolation.name}: {error}") from None
    finally:
        theirs.close()
    made = Sandbox(
        isolation, process, ours, taken(process.stdout), taken(process.stderr), folder=folder
    )
    try:
        prove(made, rules)
    except BaseException:
        made.end()
        raise
    return made


def taken(pipe: "IO[bytes] | None") -> int:
    """Return a descriptor of a pipe that lives on when the object around it goes."""
    if pipe is None:
        raise AssertionError("it was started with a pipe")
    descriptor = os.dup(pipe.fileno())
    pipe.close()
    return descriptor


def environment(home: str, scratch: str) -> dict[str, str]:
    """Return all variables that a sandbox has; nothing of this process's."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": scratch,
        "LANG": "C.UTF-8",
    }


def prove(made: Sandbox, rules: Rules) -> None:
    """Read the first message and compare the facts. Blocks; raises Unavailable, Busy."""
    name = made.isolation.name
    made.socket.settimeout(START_S)
    try:
        message = parsed(_first(made.socket))
    except TimeoutError:
        raise Busy(f"{name}: not ready within {START_S:g} s") from None
    except (Garbage, OSError, struct.error):
        complaint, code = _complaint(made)
        text = f"{name}: {complaint or f'it did not start (code {code})'}"
        raise (Busy if code == KILLED or scarce(complaint) else Unavailable)(text) from None
    made.socket.setblocking(False)
    if "ready" not in message:
        error = message.get("error", {})
        text = f"{error.get('type', '')}: {error.get('message', '')}"
        raise (Busy if scarce(text) else Unavailable)(f"{name}: {text}")
    broken = made.isolation.broken(message["ready"], rules)
    if broken:
        raise Unavailable(f"{name}: {broken}")
    for descriptor in (made.stdout, made.stderr):
        os.set_blocking(descriptor, False)


def _first(found: socket.socket) -> bytes:
    header = found.recv(4, socket.MSG_WAITALL)
    (size,) = struct.unpack(">I", header)
    if size > READY_BYTES_MAX:
        raise Garbage("too long")
    return found.recv(size, socket.MSG_WAITALL)


def _complaint(made: Sandbox) -> tuple[str, int]:
    """Return what a program that never became ready said on its way out, and its code."""
    # It closed its socket, so it is about to end: its last word may come after that.
    with contextlib.suppress(subprocess.TimeoutExpired):
        made.process.wait(END_S)
    code = made.process.poll()
    made.kill()
    os.set_blocking(made.stderr, False)
    try:
        text = os.read(made.stderr, COMPLAINT_BYTES).decode("utf-8", "replace")
    except OSError:
        text = ""
    lines = text.strip().splitlines()
    return (lines[-1] if lines else ""), 0 if code is None else code


def scarce(text: str) -> bool:
    """Whether an error's text is about what the machine lacks for now."""
    return "MemoryError" in text or any(part in text for part in SCARCE_TEXTS)


def detect(rules: Rules) -> Sandbox:
    """Start the first sandbox by the best way that works; its `isolation` is the one to use.

    Blocks. Raises Unavailable, naming each way that was tried and why it does not work, and Busy
    where a way could not be tried: a busy machine is no reason to take the next best.
    """
    reasons = []
    for way in candidates(rules.isolation):
        try:
            return started(way, rules)
        except Busy:
            raise
        except Unavailable as error:
            reasons.append(str(error))
    raise Unavailable("; ".join(reasons))
