"""One lock for what needs the whole machine: benchmarks and tests that kill processes."""

import fcntl
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
    with LOCK_FILE.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _held.append(None)
        try:
            yield
        finally:
            _held.clear()
            fcntl.flock(file, fcntl.LOCK_UN)
