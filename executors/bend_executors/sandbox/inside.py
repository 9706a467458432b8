"""What runs inside a sandbox: confine yourself, say what holds, take one job, end.

Started as `python -I -S -c <this text> FD SETTINGS`: it imports the standard library alone.
FD is one end of a socket pair; a message is four bytes of length (big endian) and JSON. SETTINGS
is JSON: `limits` (name → number), `uid` (or null), `filter` (hex of a seccomp program), `path`
(more folders of modules), `preload` (modules to import before the job).
"""

import ctypes
import json
import os
import re
import resource
import socket
import struct
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
TEXT_CHARS_MAX = 8 * 1024
NESTED_MAX = 1000
"""Levels of lists and maps in a message; where `json` gives up differs by version of Python."""
# As many as the largest double has.
DIGITS = re.compile(r"\d{309}", re.ASCII)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 22, 38, 4
SECCOMP_MODE_FILTER = 2
RESOURCES = {
    "cpu_s": resource.RLIMIT_CPU,
    "memory_bytes": resource.RLIMIT_AS,
    "file_bytes": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
}


class InvalidOutput(Exception):
    """A value is no JSON, or too large; its name is the failure's type."""


class Channel:
    """The socket to the component."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. Raises InvalidOutput: too large, or no JSON."""
        try:
            text = json.dumps(message, allow_nan=False, default=plain, ensure_ascii=False)
        except RecursionError:
            raise InvalidOutput("nested too deeply") from None
        except Exception as error:  # noqa: BLE001 - a script's own objects
            # Whatever the objects of a script do when they are looked at.
            raise InvalidOutput(worded(error)) from None
        if text.count("[") + text.count("{") > NESTED_MAX and nested(message) > NESTED_MAX:
            raise InvalidOutput("nested too deeply")
        if DIGITS.search(text):
            json.loads(text, parse_int=bounded)
        data = text.encode("utf-8", "replace")
        if len(data) > MESSAGE_BYTES_MAX:
            raise InvalidOutput(f"{len(data)} bytes, at most {MESSAGE_BYTES_MAX}")
        self._socket.sendall(struct.pack(">I", len(data)) + data)

    def receive(self) -> Any:
        """Wait for a message; the component's end ends this process."""
        (size,) = struct.unpack(">I", self._exactly(4))
        return json.loads(self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._socket.recv(min(size - len(parts), 1 << 20))
            if not part:
                os._exit(0)
            parts += part
        return bytes(parts)


def bounded(digits: str) -> None:
    """Refuse an integer beyond all doubles, which other programs do not read."""
    if abs(float(digits)) == float("inf"):
        raise InvalidOutput(f"an integer of {len(digits)} digits")


def worded(value: object) -> str:
    """Return what an error says; its own words may be broken, too."""
    try:
        return str(value)[:TEXT_CHARS_MAX]
    except Exception:  # noqa: BLE001 - a script's own class
        return type(value).__name__


def plain(value: Any) -> Any:
    """Turn what JSON does not know into what it knows."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    if hasattr(value, "__fspath__"):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def nested(value: Any) -> int:
    """Return how many levels of containers a value without cycles has, at most NESTED_MAX + 1."""
    level, depth = [value], 0
    while level and depth <= NESTED_MAX:
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list, tuple, set, frozenset))
        ]
        depth += 1
    return depth


# Confinement


def confine(settings: dict[str, Any]) -> None:
    """Give up root, take the limits, and load the filter of system calls. Raises OSError."""
    uid = settings["uid"]
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        # Else its own entries in /proc stay root's, and programs that read them fail.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    for name, wanted in settings["limits"].items():
        # One second more before the hard end: SIGXCPU tells what happened, SIGKILL does not.
        value, hard = wanted, wanted + 1 if name == "cpu_s" else wanted
        known = resource.getrlimit(RESOURCES[name])[1]
        if known != resource.RLIM_INFINITY:
            # The machine's own limit may be lower, and cannot be raised.
            value, hard = min(value, known), min(hard, known)
        resource.setrlimit(RESOURCES[name], (value, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    program = bytes.fromhex(settings["filter"])
    if program:
        load_filter(program)


def load_filter(program: bytes) -> None:
    """Load a seccomp program for this process and all that it starts. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    loaded = Program(len(program) // 8, ctypes.addressof(buffer))
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(loaded), 0, 0),
    ):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "the kernel refuses the filter of system calls")


def facts() -> dict[str, Any]:
    """Return what holds in here, for the component to compare with what it wants."""
    found: dict[str, Any] = {"uid": os.getuid(), "pid": os.getpid(), "interfaces": []}
    try:
        found["interfaces"] = [name for _, name in socket.if_nameindex()]
        found["processes"] = sum(name.isdigit() for name in os.listdir("/proc"))
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            lines = dict(line.split(":", 1) for line in status if ":" in line)
    except OSError:
        return found
    found["capabilities"] = int(lines.get("CapEff", "1"), 16)
    found["no_new_privileges"] = int(lines.get("NoNewPrivs", "0"))
    found["seccomp"] = int(lines.get("Seccomp", "0"))
    found["writable"] = os.access("/", os.W_OK) or os.access("/usr", os.W_OK)
    return found


# A program


def run_program(channel: Channel, job: dict[str, Any]) -> None:
    """Become a program: the socket closes when that worked, else it carries why not."""
    import signal
    import tempfile

    try:
        with tempfile.TemporaryFile() as source:
            source.write(job["stdin"].encode("utf-8", "surrogateescape"))
            source.seek(0)
            os.dup2(source.fileno(), 0)
        # Python ignores them; programs expect their defaults.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        words = [job["name"], *job["arguments"]]
        os.execve(job["program"], words, job["environment"])  # noqa: S606 - no shell is the point
    except OSError as error:
        channel.send({"error": {"type": "NotStarted", "message": error.strerror or str(error)}})
        os._exit(127)


# A script


class ScriptError(Exception):
    """Raised by scripts on purpose, as `bend.RetryableError` and `bend.TerminalError`."""

    retryable = False

    def __init__(
        self,
        reason: str,
        message: str = "",
        *,
        retry_after: float | None = None,
        details: object = None,
    ) -> None:
        super().__init__(message or reason)
        self.reason, self.retry_after, self.details = reason, retry_after, details


class Final:
    """Yield it to end a generator with an output that is no partial output."""

    def __init__(self, value: object) -> None:
        self.value = value


class Context:
    """What a script may know of its task; `log` tells those who watch."""

    def __init__(self, channel: Channel, known: dict[str, Any]) -> None:
        self._channel = channel
        self.__dict__.update(known)

    def log(self, message: object, level: str = "info") -> None:
        """Send a log line: debug, info, warning or error."""
        self._channel.send({"log": [str(level), str(message)[:TEXT_CHARS_MAX]]})


def offer_names() -> None:
    """Let scripts say `from bend import Context, Final, RetryableError, TerminalError`."""
    module = types.ModuleType("bend", "What a script in a sandbox may use of Bend.")
    retryable = type("RetryableError", (ScriptError,), {"retryable": True})
    terminal = type("TerminalError", (ScriptError,), {})
    module.__dict__.update(
        RetryableError=retryable, TerminalError=terminal, Final=Final, Context=Context
    )
    sys.modules["bend"] = module


def run_script(channel: Channel, job: dict[str, Any]) -> None:
    """Run a script or a function, and send its end."""
    context = Context(channel, job["context"])
    try:
        message: dict[str, Any] = {"output": outcome(channel, job, context)}
    except BaseException as error:  # noqa: BLE001 - whatever a script raises is its failure
        message = {"error": described(error)}
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    try:
        channel.send(message)
    except InvalidOutput as error:
        channel.send({"error": {"type": "InvalidOutput", "message": str(error)[:TEXT_CHARS_MAX]}})
    os._exit(0)


def outcome(channel: Channel, job: dict[str, Any], context: Context) -> Any:
    """Return what the job's function gives; what it yields is sent at once."""
    if job["function"]:
        import importlib

        module, _, name = job["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
    else:
        names = {"__name__": "script", "__builtins__": __builtins__, "context": context}
        names |= {"input": job["input"], "arguments": job["arguments"]}
        remember(job["script"])
        exec(compile(job["script"], "<script>", "exec"), names)  # noqa: S102 - the task itself
        function = names.get("main")
        if not callable(function):
            return names.get("output")
    import inspect

    wanted = dict(job["arguments"])
    if "context" in inspect.signature(function).parameters:
        wanted["context"] = context
    given = [] if job["input"] is None else [job["input"]]
    value = function(*given, **wanted)
    if inspect.iscoroutine(value):
        import asyncio

        value = asyncio.run(value)
    if inspect.isasyncgen(value):
        value = stepped(value)
    if inspect.isgenerator(value):
        value = streamed(channel, value)
    return value.value if isinstance(value, Final) else value


def stepped(values: Any) -> Iterator[Any]:
    """Step through an async generator."""
    import asyncio

    with asyncio.Runner() as runner:
        while True:
            try:
                value = runner.run(anext(values))
            except StopAsyncIteration:
                return
            yield value


def streamed(channel: Channel, values: Iterator[Any]) -> Any:
    """Send what a generator yields; return its `Final`, its return value or its last yield."""
    last: Any = None
    while True:
        try:
            value = next(values)
        except StopIteration as end:
            return last if end.value is None else end.value
        if isinstance(value, Final):
            return value
        channel.send({"partial": value})
        last = value


def remember(script: str) -> None:
    """Let tracebacks show the script's lines."""
    import linecache

    lines = script.splitlines(keepends=True)
    linecache.cache["<script>"] = (len(script), None, lines, "<script>")


def described(error: BaseException) -> dict[str, Any]:
    """Return a failure as the component reads it."""
    import traceback

    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in ("<string>", "<frozen importlib._bootstrap>")
    ]
    text = "".join([*traceback.format_list(frames), *traceback.format_exception_only(error)])
    found: dict[str, Any] = {
        "type": type(error).__name__,
        "message": worded(error),
        "traceback": shown(text)[-TEXT_CHARS_MAX:],
    }
    if isinstance(error, ScriptError):
        found["reason"] = worded(error.reason)
        found["retryable"] = error.retryable
        found["retry_after"] = error.retry_after
        found["details"] = detailed(error.details)
    return found


def detailed(details: object) -> Any:
    """Return a failure's details as JSON: what cannot be is no reason to lose the failure."""
    try:
        return json.loads(json.dumps(details, default=repr, allow_nan=False))
    except Exception:  # noqa: BLE001 - a script's own objects
        return None


def shown(text: str) -> str:
    """Replace folders of the machine by what they are."""
    places = {
        place: "<modules>" for place in sys.path if place.endswith(("modules.zip", "modules"))
    }
    places |= {place: "<packages>" for place in sys.path if place.endswith("-packages")}
    places |= {sys.base_prefix: "<python>", os.path.dirname(os.__file__): "<python>"}
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, places[place])
    return text


def keep_modules(data: str) -> None:
    """Put the operator's modules, a zip file in base 64, in front of the search path."""
    import base64

    place = os.path.join(os.environ.get("TMPDIR", "/tmp"), "modules.zip")  # noqa: S108 - our own
    with open(place, "wb") as file:
        file.write(base64.b64decode(data))
    sys.path.insert(0, place)


def main() -> None:
    """Confine, report, take one job."""
    settings = json.loads(sys.argv[2])
    channel = Channel(int(sys.argv[1]))
    try:
        confine(settings)
        offer_names()
        sys.path += settings["path"]
        for name in settings["preload"]:
            __import__(name)
    except Exception as error:  # noqa: BLE001 - told to the component, which refuses to use it
        channel.send({"error": {"type": type(error).__name__, "message": str(error)}})
        os._exit(1)
    sys.argv = [""]
    channel.send({"ready": facts()})
    job = channel.receive()
    if job.get("modules"):
        keep_modules(job.pop("modules"))
    runners: dict[str, Callable[[Channel, dict[str, Any]], None]] = {
        "program": run_program,
        "script": run_script,
    }
    runners[job.pop("kind")](channel, job)


if __name__ == "__main__":
    main()
