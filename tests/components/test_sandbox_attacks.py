"""Every rule of the sandbox against a script that tries to break it, on every way to isolate."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from bend_executors.python import PythonComponent
from tests.components.sandboxes import LIMITS, WAYS, failure, python_component, run, running
from tests.kit.waiting import wait_until


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def python(way: str) -> Iterator[PythonComponent]:
    with python_component(way) as made:
        yield made


# At most 2⁸ processes even where nothing bounds them: the machine survives a failure of the test.
FORKS = """
import os, signal
def main():
    read, write = os.pipe()
    first = os.getpid()
    for _ in range(8):
        try:
            if not os.fork():
                os.write(write, b'.')
        except BlockingIOError:
            pass
    if os.getpid() != first:
        signal.pause()
    os.set_blocking(read, False)
    import time
    alive, end = 0, time.monotonic() + 5
    while time.monotonic() < end and alive < 9:
        time.sleep(0.1)
        try:
            alive += len(os.read(read, 4096))
        except BlockingIOError:
            pass
    time.sleep(0.2)
    try:
        alive += len(os.read(read, 4096))
    except BlockingIOError:
        pass
    return alive
"""


def test_a_fork_bomb_stops_at_the_limit_of_processes(python: PythonComponent) -> None:
    made = run(python, FORKS)
    # Two of the twelve are the script itself and, by bubblewrap, its reaper.
    assert LIMITS.processes - 3 <= made.output <= LIMITS.processes


def test_the_memory_of_all_processes_together_is_bounded(python: PythonComponent) -> None:
    # At most 600 MB, by the script itself; each process stays within its own limit.
    script = """
import os, signal
def main():
    for _ in range(6):
        if not os.fork():
            held = b'x' * (100 << 20)
            signal.pause()
    signal.pause()
"""
    error = failure(lambda: run(python, script, timeout_s=30.0))
    assert (error.reason, error.retryable) == ("MEMORY_LIMIT", False)


def test_the_memory_of_empty_files_counts(way: str) -> None:
    # At most 200,000 files, by the script itself.
    script = """
import os
def main():
    for folder in ('/scratch', '/tmp'):
        for number in range(100_000):
            os.close(os.open(f'{folder}/{number}', os.O_CREAT))
"""
    with python_component(way, limits=replace(LIMITS, cpu_s=9, total_bytes=60 << 20)) as made:
        error = failure(lambda: run(made, script))
    assert error.reason == "MEMORY_LIMIT", error.message


def test_children_do_not_outlive_their_task(python: PythonComponent) -> None:
    marker = f"3600.{uuid4().int % 10**9}"
    script = f"""
import os, subprocess, time
def main():
    for _ in range(3):
        if not os.fork():
            os.setsid()
            if not os.fork():
                os.execv('/bin/sleep', ['sleep', '{marker}'])
            os._exit(0)
    while sum(open(f'/proc/{{p}}/cmdline').read().startswith('sleep')
              for p in os.listdir('/proc') if p.isdigit()) < 3:
        time.sleep(0.01)
    yield 'started'
    time.sleep(60)
"""
    error = failure(lambda: run(python, script, timeout_s=0.6))
    assert error.reason == "TIMEOUT"
    wait_until(lambda: not running(marker), "an orphan lives", 30)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("held = bytearray(10 << 30)", "MEMORY_LIMIT"),
        ("import mmap; mmap.mmap(-1, 10 << 30, flags=mmap.MAP_PRIVATE)", "OS_ERROR"),
        ("import os; os.memfd_create('x')", "PERMISSION_ERROR"),
        (
            "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
            "assert libc.shmget(0, 1 << 20, 0o1600) == -1\n"
            "raise OSError(ctypes.get_errno(), 'shmget')",
            "PERMISSION_ERROR",
        ),
        (
            "import ctypes; libc = ctypes.CDLL(None, use_errno=True)\n"
            "assert libc.msgget(0, 0o1600) == libc.semget(0, 1, 0o1600) == -1\n"
            "raise OSError(ctypes.get_errno(), 'msgget')",
            "PERMISSION_ERROR",
        ),
        ("while True: pass", "CPU_LIMIT"),
        ("held = [open('/dev/null') for _ in range(1000)]", "OS_ERROR"),
        ("def f(): f()\nf()", "RECURSION_ERROR"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SCRIPT_DIED"),
    ],
)
def test_what_a_script_takes_is_bounded(python: PythonComponent, script: str, reason: str) -> None:
    error = failure(lambda: run(python, script))
    assert error.reason == reason, error.message
    assert error.details["isolation"] in WAYS


@pytest.mark.parametrize("place", ["/scratch", "/tmp", "/dev/shm"])
def test_scratch_folders_are_small_and_gone_with_the_task(
    python: PythonComponent, place: str
) -> None:
    script = f"""
import os
def main():
    seen = os.listdir('{place}')
    written = 0
    for number in range(20):
        try:
            with open(f'{place}/{{number}}', 'wb') as file:
                file.write(bytes(3 << 20))
        except OSError:
            break
        written += 3
    try:
        with open(f'{place}/0', 'wb') as file:
            file.write(bytes(5 << 20))
    except OSError as error:
        return [seen, written, error.errno]
"""
    for _ in range(2):
        seen, written, errno = run(python, script).output
        assert seen == []
        assert written <= 8
        assert errno in (27, 28)


def test_nothing_outside_of_the_scratch_folders_can_be_written(python: PythonComponent) -> None:
    script = """
import os, sys
def main(places):
    broken = []
    for place in [*places, sys.base_prefix, os.path.dirname(os.__file__)]:
        for attempt in (lambda: open(f'{place}/x', 'w'), lambda: os.mkdir(f'{place}/y'),
                        lambda: os.chmod(place, 0o777), lambda: os.rename(place, place + '2')):
            try:
                attempt()
                broken.append(place)
            except OSError:
                pass
    for device in ('/dev/sda', '/dev/mem', '/dev/kmsg', '/dev/tty0'):
        if os.path.exists(device):
            broken.append(device)
    return broken
"""
    places = ["/", "/usr", "/usr/bin", "/etc", "/root", "/proc", "/proc/sys", "/dev", "/sys", "/x"]
    assert run(python, script, input=places).output == []


def test_files_of_the_machine_are_not_there(python: PythonComponent, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret", encoding="utf-8")
    secret.chmod(0o644)
    script = """
import os
def main(places):
    seen = []
    for number, place in enumerate(places):
        link = f'/scratch/link{number}'
        os.symlink(place, link)
        for way in (place, link, f'/proc/self/root{place}', f'/proc/1/root{place}',
                    f'/proc/self/cwd/../..{place}', f'/scratch/../{place}'):
            try:
                seen.append([way, open(way).read(20)])
            except OSError:
                pass
    return seen
"""
    places = [
        "/etc/shadow",
        "/etc/passwd",
        "/proc/2/../../etc/hosts",
        os.path.expanduser("~root/.bashrc"),
        str(secret),
    ]
    assert run(python, script, input=places).output == []
    assert failure(lambda: run(python, "open('/etc/shadow')")).reason == "FILE_NOT_FOUND_ERROR"


def test_no_network_of_the_machine_is_reached(python: PythonComponent) -> None:
    name = f"\0bend-test-{uuid4().hex}"
    with (
        socket.create_server(("127.0.0.1", 0)) as inet,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as local,
    ):
        local.bind(name)
        local.listen()
        script = """
import socket
def main(port, name):
    reached = []
    inet, inet6, unix = socket.AF_INET, socket.AF_INET6, socket.AF_UNIX
    for family, place in ((inet, ('127.0.0.1', port)), (inet6, ('::1', port)), (unix, name),
                          (inet, ('169.254.169.254', 80)), (inet, ('1.1.1.1', 53))):
        with socket.socket(family) as tried:
            tried.settimeout(0.5)
            try:
                tried.connect(place)
                reached.append(repr(place))
            except OSError:
                pass
    for family in range(64):
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
        except OSError:
            continue
        if family not in (inet, inet6, unix, socket.AF_NETLINK):
            reached.append(f'family {family}')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sent:
        try:
            sent.sendto(b'x', ('1.1.1.1', 53))
            reached.append('udp')
        except OSError:
            pass
    try:
        reached.append(socket.gethostbyname('localhost.example'))
    except OSError:
        pass
    return [reached, [n for _, n in socket.if_nameindex()]]
"""
        port = inet.getsockname()[1]
        reached, interfaces = run(python, script, arguments={"port": port, "name": name}).output
    assert reached == []
    assert set(interfaces) <= {"lo"}


def test_other_processes_get_no_signal(python: PythonComponent) -> None:
    script = """
import os, signal
def main(pids):
    hit = []
    for pid in pids:
        for number in (0, signal.SIGTERM, signal.SIGKILL):
            try:
                os.kill(pid, number)
                hit.append(pid)
            except OSError:
                pass
    try:
        os.kill(1, signal.SIGKILL)
    except OSError:
        pass
    try:
        os.killpg(1, signal.SIGKILL)
    except OSError:
        pass
    seen = sorted(int(name) for name in os.listdir('/proc') if name.isdigit())
    return [hit, len(seen), os.getppid()]
"""
    pids = [os.getpid(), os.getppid(), threading.get_native_id()]
    pids = [pid for pid in pids if pid > 20]
    hit, seen, parent = run(python, script, input=pids).output
    assert hit == []
    assert seen <= 3
    assert parent <= 2
    # "All others" are nobody.
    error = failure(lambda: run(python, "import os; os.kill(-1, 9)"))
    assert error.reason == "PROCESS_LOOKUP_ERROR"


def test_no_more_rights_can_be_had(python: PythonComponent) -> None:
    script = """
import ctypes, os, subprocess
libc = ctypes.CDLL(None, use_errno=True)
CLONE, BPF = (56, 321) if os.uname().machine == 'x86_64' else (220, 280)
def main():
    won = [name for name, answer in {
        'new user namespace': libc.unshare(0x10000000),
        'new mounts': libc.unshare(0x20000),
        'mount': libc.mount(b'none', b'/scratch', b'tmpfs', 0, b''),
        'umount': libc.umount2(b'/proc', 2),
        'ptrace': libc.ptrace(16, 1, 0, 0),
        'setns': libc.setns(0, 0),
        'chroot': libc.chroot(b'/scratch'),
        'clone': libc.syscall(CLONE, 0x10000000 | 17, 0, 0, 0, 0),
        'clone3': libc.syscall(435, 0, 0),
        'bpf': libc.syscall(BPF, 0, 0, 0),
        'limit': libc.setrlimit(6, (ctypes.c_long * 2)(4096, 4096)),
    }.items() if answer != -1]
    for attempt in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):
        try:
            attempt()
            won.append('an identity')
        except OSError:
            pass
    lines = dict(l.split(':', 1) for l in open('/proc/self/status') if ':' in l)
    program = subprocess.run(['/bin/sh', '-c', 'id -u; grep -c . /etc/shadow'],
                             capture_output=True, text=True)
    return [won, int(lines['CapEff'], 16), int(lines['CapPrm'], 16), lines['NoNewPrivs'].strip(),
            lines['Seccomp'].strip(), program.stdout.split()]
"""
    won, effective, permitted, privileges, seccomp, program = run(python, script).output
    assert won == []
    assert (effective, permitted, privileges, seccomp) == (0, 0, "1", "2")
    assert program != []
    assert program[0] != "0"
    assert program[1:] == []


def test_nothing_of_the_component_is_inherited(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEND_SECRET_TOKEN", "s3cret-of-the-operator")
    script = """
import os, stat
def main(given):
    kinds = []
    for number in map(int, os.listdir('/proc/self/fd')):
        try:
            kinds.append(stat.S_IFMT(os.fstat(number).st_mode))
        except OSError:
            pass
    words = ''
    for name in ('self/cmdline', 'self/environ', '1/cmdline', '1/environ'):
        try:
            words += open(f'/proc/{name}').read()
        except OSError:
            pass
    assert 'LANG' in words
    leaked = [text for text in given if text in words]
    return [sorted(os.environ), leaked, kinds.count(stat.S_IFSOCK), len(kinds), os.getcwd()]
"""
    with python_component(way) as fresh:
        made = run(fresh, script, input=["s3cret-of-the-task", "s3cret-of-the-operator"])
    names, leaked, sockets, descriptors, folder = made.output
    assert set(names) - {"LC_CTYPE", "PWD"} == {"HOME", "LANG", "PATH", "TMPDIR"}
    assert leaked == []
    assert (sockets, descriptors) == (1, 4)
    assert folder == "/scratch"
