"""Programs under test: free ports, waiting for a condition, ending what was started."""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

END_S = 20.0
_PORTS = range(11_000, 20_000)
_SHARES = 8


def _own_ports() -> Iterator[int]:
    """Yield this process's share of the ports, in random order, round and round."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    share = [*_PORTS[int(worker.removeprefix("gw")) % _SHARES :: _SHARES]]
    random.SystemRandom().shuffle(share)
    return itertools.cycle(share)


_ports = _own_ports()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now.

    It is below those that systems give to outgoing connections: one of these could take it before
    the program under test does, or while a killed server is away. For the same reason no port is
    given twice, and processes that share the suite have shares of the ports.
    """
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("there is no end of ports")


def listens(port: int) -> bool:
    """Tell whether somebody accepts connections on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], within_s: float = 45.0, what: str = "") -> None:
    """Return once a condition holds; fail after a deadline."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what or condition}")
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        with Path(f"/proc/{pid}/stat").open() as stat:
            return stat.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path("/proc").is_dir()


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program while the block lasts; its output goes to `log`, it ends with the block."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(END_S)
