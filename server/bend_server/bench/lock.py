"""One lock for what needs the whole machine: benchmarks and tests that kill processes."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = Path(tempfile.gettempdir()) / "bend-heavy.lock"
_held: list[None] = []


@contextmanager
def heavy() -> Iterator[None]:
    """Hold the lock; wait for whoever has it. A process that has it may take it again."""
    if _held:
        yield
        return
    descriptor = _opened()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _held.append(None)
        try:
            yield
        finally:
            _held.clear()
    finally:
        os.close(descriptor)


def _opened() -> int:
    """Open the file, which may be another user's: to lock it, reading is enough."""
    try:
        return os.open(LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = os.open(LOCK_FILE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.fchmod(descriptor, 0o644)  # whatever the umask is
        return descriptor
