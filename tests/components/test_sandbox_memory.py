"""Memory that no rlimit counts: shared mappings, devices, sockets. Scripts get little or none."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bend_executors.python import PythonComponent
from tests.components.sandboxes import LIMITS, WAYS, failure, python_component, run


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def python(way: str) -> Iterator[PythonComponent]:
    with python_component(way) as made:
        yield made


def test_memory_that_outlives_its_mapping_is_not_given(python: PythonComponent) -> None:
    """A shared mapping keeps all its pages when all but one are unmapped, and so no limit sees."""
    script = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
SHARED, PRIVATE, VALIDATE, ANONYMOUS, FIXED = 1, 2, 3, 0x20, 0x10
def main():
    given = {}
    for name, flags in {'shared': SHARED, 'validated': VALIDATE, 'private': PRIVATE}.items():
        place = libc.mmap(None, 4096, 3, flags | ANONYMOUS, -1, 0)
        given[name] = place != 2 ** 64 - 1
    with open('/scratch/file', 'w+b') as file:
        file.truncate(4096)
        given['file'] = libc.mmap(None, 4096, 3, SHARED, file.fileno(), 0) != 2 ** 64 - 1
    devices = sorted(name for name in os.listdir('/dev') if not os.path.islink('/dev/' + name))
    for name in devices:
        if name != 'shm':
            with open('/dev/' + name, 'rb') as file:
                given[name] = libc.mmap(None, 4096, 1, SHARED, file.fileno(), 0) != 2 ** 64 - 1
    with open('/dev/zero', 'rb') as file:
        return [given, devices, file.read(3).hex()]
"""
    given, devices, zeros = run(python, script).output
    assert {name for name, worked in given.items() if worked} == {"private", "file"}
    assert devices == ["full", "null", "random", "shm", "urandom", "zero"]
    assert zeros == "000000"


def test_the_buffers_of_sockets_stay_small(python: PythonComponent) -> None:
    script = """
import socket
def main():
    one, other = socket.socketpair()
    sizes = []
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        before = one.getsockopt(socket.SOL_SOCKET, option)
        # Programs ask for it by habit and must not fail for it.
        one.setsockopt(socket.SOL_SOCKET, option, 1 << 22)
        sizes.append(one.getsockopt(socket.SOL_SOCKET, option) == before)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return [sizes, one.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)]
"""
    assert run(python, script).output == [[True, True], 1]


@pytest.mark.parametrize("kind", ["unix", "inet"])
def test_what_sockets_hold_counts(way: str, kind: str) -> None:
    script = """
import socket, time
def pair(kind):
    if kind == 'unix':
        return socket.socketpair()
    with socket.create_server(('127.0.0.1', 0)) as server:
        one = socket.create_connection(server.getsockname(), 5)
        return one, server.accept()[0]
def main(kind, pairs):
    held = []
    for _ in range(pairs):
        try:
            held += pair(kind)
        except OSError:
            return 'no network at all'
        for one in held[-2:]:
            one.setblocking(False)
            try:
                while one.send(bytes(1 << 16)):
                    pass
            except BlockingIOError:
                pass
    time.sleep(60)
"""
    # 900 sockets by some 200 KiB, or 300 by up to some MiB.
    given = {"kind": kind, "pairs": 450 if kind == "unix" else 150}
    limits = replace(LIMITS, cpu_s=9, open_files=1000, total_bytes=100 << 20)
    with python_component(way, limits=limits) as made:
        if kind == "inet" and way == "namespaces":
            assert run(made, script, arguments=given).output == "no network at all"
            return
        error = failure(lambda: run(made, script, arguments=given, timeout_s=30.0))
    assert error.reason == "MEMORY_LIMIT", error.message


def test_the_files_count_while_children_come_and_go(way: str) -> None:
    """The oldest child of the script, which shows its files, is another one at each look."""
    script = """
import os, signal
def main():
    if not os.fork():
        for number in range(100_000):
            os.close(os.open(f'/scratch/{number}', os.O_CREAT))
        signal.pause()
    while True:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
"""
    with python_component(way, limits=replace(LIMITS, cpu_s=9, total_bytes=60 << 20)) as made:
        error = failure(lambda: run(made, script, timeout_s=30.0))
    assert error.reason == "MEMORY_LIMIT", error.message
