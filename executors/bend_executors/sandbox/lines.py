"""The output of a sandbox: read without waiting, cut into lines, bounded in every direction."""

import asyncio
import os
import time
from collections.abc import Callable

READ_BYTES = 64 * 1024
LINE_CHARS_MAX = 8 * 1024
LINES_PER_S = 200.0
LINES_BURST = 500.0
KEPT_BYTES_MAX = 1024 * 1024
# After a full read the next one waits: a flood costs this process some 6 MB a second at most.
FULL_READ_PAUSE_S = 0.01

Sink = Callable[[str, str], None]


class Budget:
    """How many log lines a task may still send: a bucket that fills with time."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._left = LINES_BURST
        self._at_s = time.monotonic()
        self.dropped = 0

    def log(self, level: str, text: str) -> bool:
        """Send a line; return False when it was dropped, and counted."""
        now = time.monotonic()
        self._left = min(LINES_BURST, self._left + (now - self._at_s) * LINES_PER_S)
        self._at_s = now
        if self._left < 1:
            self.dropped += 1
            return False
        self._left -= 1
        cut = text if len(text) <= LINE_CHARS_MAX else f"{text[: LINE_CHARS_MAX - 1]}…"
        self._sink(level if level in LEVELS else "info", cut)
        return True

    def close(self) -> None:
        """Say how much was dropped."""
        if self.dropped:
            self._sink("warning", f"{self.dropped} log lines were dropped: too many in a second")
            self.dropped = 0


LEVELS = frozenset({"debug", "info", "warning", "error"})


class Output:
    """Reads one pipe while the loop runs: lines go to a budget, the first bytes are kept.

    Args:
        keep: how many bytes to keep for `text`; 0 for a pipe whose lines are enough.
    """

    def __init__(self, descriptor: int, level: str, budget: Budget | None, keep: int = 0) -> None:
        self._descriptor = descriptor
        self._level = level
        self._budget = budget
        self._keep = keep
        self._kept = bytearray()
        self._rest = b""
        self._cut = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.truncated = False
        self.ended = asyncio.Event()
        self._loop.add_reader(descriptor, self._on_readable)

    @property
    def text(self) -> str:
        """What was kept; bytes that are no UTF-8 become U+FFFD."""
        return self._kept.decode("utf-8", "replace")

    def _on_readable(self) -> None:
        if self._read() == READ_BYTES:
            self._loop.remove_reader(self._descriptor)
            self._timer = self._loop.call_later(FULL_READ_PAUSE_S, self._again)

    def _again(self) -> None:
        self._timer = None
        if not self.ended.is_set():
            self._loop.add_reader(self._descriptor, self._on_readable)

    def _read(self) -> int:
        """Read once; return the bytes read, 0 at the end, -1 when there is nothing now."""
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return -1
        except OSError:
            data = b""
        if not data:
            self._stop()
            return 0
        self._take(data)
        return len(data)

    def _take(self, data: bytes) -> None:
        room = self._keep - len(self._kept)
        self._kept += data[:room]
        self.truncated = self.truncated or len(data) > room
        if self._budget is None:
            return
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._cut:
                self._log(line)
            self._cut = False
        if len(rest) > LINE_CHARS_MAX and not self._cut:
            self._log(rest)
            self._cut = True
        # The rest of a line that was sent already is not kept, however long it grows.
        self._rest = b"" if self._cut else rest

    def _log(self, line: bytes) -> None:
        if self._budget is not None:
            self._budget.log(self._level, line.decode("utf-8", "replace").rstrip("\r"))

    def _stop(self) -> None:
        if self.ended.is_set():
            return
        self.ended.set()
        self._loop.remove_reader(self._descriptor)
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Take what is in the pipe now, send the last line, and stop reading."""
        reads = 0
        while not self.ended.is_set() and reads < KEPT_BYTES_MAX // READ_BYTES:
            reads += 1
            if self._read() <= 0:
                break
        if self._rest and not self._cut:
            self._log(self._rest)
        self._rest = b""
        self._stop()
