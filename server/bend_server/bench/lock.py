"""One lock for what needs the whole machine: benchmarks and tests that kill processes."""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = Path(tempfile.gettempdir()) / "bend-heavy.lock"


@contextmanager
def heavy() -> Iterator[None]:
    """Hold the lock; wait for whoever has it."""
    with LOCK_FILE.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
