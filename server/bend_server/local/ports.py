"""Free TCP ports on loopback."""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HTTPS_USUAL = 8443
HTTP_USUAL = 8080
NEIGHBOURS = 100
# Below the range from which systems give ports to outgoing connections: a port that was free at
# start must still be free when a process is started again.
INNER = range(20_000, 32_000)
TRIES = 500
CHOOSING_S = 10.0


class PortTaken(Exception):
    """A port that was asked for is in use, or none is free; the text says which."""


def choose(asked: int | None, usual: int, address: str = "127.0.0.1") -> int:
    """Return the port asked for, else the usual one or the first free one after it.

    Raises:
        PortTaken: the port asked for is in use, or all neighbours are.
    """
    if asked is not None:
        if not free(asked, address):
            raise PortTaken(f"port {asked} is in use")
        return asked
    for port in range(usual, usual + NEIGHBOURS):
        if free(port, address):
            return port
    raise PortTaken(f"no free port from {usual} to {usual + NEIGHBOURS - 1}")


def inner(count: int, address: str = "127.0.0.1") -> list[int]:
    """Return so many different free ports for the processes behind the gateway.

    Raises:
        PortTaken: too few are free.
    """
    found: list[int] = []
    for port in random.sample(INNER, TRIES):
        if len(found) == count:
            return found
        if free(port, address):
            found.append(port)
    raise PortTaken("no free ports on loopback")


def free(port: int, address: str = "127.0.0.1") -> bool:
    """Tell whether a port can be listened on now.

    It never stands in the way of a server that begins to listen at that moment: readiness is asked
    by this again and again while the server starts.
    """
    with socket.socket() as probe:
        # As servers do it: what only lingers from a closed connection is free. It does not listen
        # itself: two sockets with this option may be bound to a port as long as neither listens.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def choosing() -> Iterator[None]:
    """Let one mesh at a time of this user choose ports and begin to listen on them.

    After 10 s the block runs all the same: then only luck keeps two meshes apart.
    """
    path = Path(tempfile.gettempdir()) / f"bend-ports-{os.getuid()}.lock"
    with path.open("a") as lock:
        deadline = time.monotonic() + CHOOSING_S
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        yield
