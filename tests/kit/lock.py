"""One heavy test at a time on this machine, over all checkouts and sessions."""

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def heavy() -> Iterator[None]:
    """Hold the machine's lock for tests that start many processes, kill or measure."""
    path = Path(tempfile.gettempdir()) / "bend-heavy-tests.lock"
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
