"""`bend down` without its command line."""

import contextlib
import os
import signal
import time

from bend_server.local import leftovers, status
from bend_server.local.home import Home

POLL_S = 0.02
KILL_S = 5.0


class StopFailed(Exception):
    """The supervisor would not go."""


def stop(home: Home, timeout_s: float) -> bool:
    """Stop the mesh of a home; return False when none ran.

    After `timeout_s` seconds the supervisor is ended by force, and what it left with it.

    Raises:
        StopFailed: something still holds the home.
    """
    pid = status.supervisor_pid(home)
    if pid is None:
        leftovers.end(home.status)
        home.endpoints.unlink(missing_ok=True)
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    if not _gone(home, timeout_s):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not _gone(home, KILL_S):
            raise StopFailed(f"process {pid} still holds {home.root}")
        leftovers.end(home.status)
    home.endpoints.unlink(missing_ok=True)
    return True


def _gone(home: Home, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while home.held():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
