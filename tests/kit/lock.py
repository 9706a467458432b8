"""One heavy test at a time on this machine, over all checkouts and sessions."""

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

_held: list[None] = []


@contextlib.contextmanager
def heavy() -> Iterator[None]:
    """Hold the machine's lock for tests that start many processes, kill or measure.

    A process that has it already may take it again. Waiting for it counts in a test's timeout.
    """
    if _held:
        yield
        return
    path = Path(tempfile.gettempdir()) / "bend-heavy-tests.lock"
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _held.append(None)
        try:
            yield
        finally:
            _held.clear()
