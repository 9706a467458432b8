"""The sandbox seen from outside: strangers on its socket, its pool, and what happens without it."""

import asyncio
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bend import TerminalError
from bend_executors.python import PythonComponent
from bend_executors.sandbox import Pool, Rules, Size, syscalls
from bend_executors.sandbox.isolation import (
    BUBBLEWRAP,
    NONE,
    UIDS_FAR,
    UIDS_NEAR,
    candidates,
    fresh_uid,
    uids,
)
from bend_executors.sandbox.process import Unavailable, detect
from tests.components.calls import Call, call
from tests.components.sandboxes import (
    LIMITS,
    WAYS,
    best,
    failure,
    missing,
    needs,
    python_component,
    run,
    running,
)
from tests.kit.waiting import wait_until

FIND_SOCKET = """
import os, stat, struct, time, json
# Its number is the one that it had in the component, however many that holds.
fd = next(n for n in map(int, os.listdir('/proc/self/fd'))
          if os.path.exists(f'/proc/self/fd/{n}') and stat.S_ISSOCK(os.fstat(n).st_mode))
def send(text, size=None):
    os.write(fd, struct.pack('>I', len(text) if size is None else size) + text)
"""


@pytest.fixture(scope="module")
def python() -> Iterator[PythonComponent]:
    with python_component(best()) as made:
        yield made


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("os.write(fd, b'\\xff' * 400)", "SANDBOX_PROTOCOL"),
        ("send(b'', 0xffffffff)", "SANDBOX_PROTOCOL"),
        ("send(b'not json')", "SANDBOX_PROTOCOL"),
        ("send(b'[' * 100000 + b']' * 100000)", "SANDBOX_PROTOCOL"),
        ("send(b'[1]')", "SANDBOX_PROTOCOL"),
        ("send(b'{}')", "SANDBOX_PROTOCOL"),
        ('send(b\'{"output": 1, "error": 2}\')', "SANDBOX_PROTOCOL"),
        ("send(b'{\"ready\": 1}')", "SANDBOX_PROTOCOL"),
        ("send(b'{\"log\": {}}')", "SANDBOX_PROTOCOL"),
        ('send(b\'{"log": ["x", 1]}\')', "SANDBOX_PROTOCOL"),
        ("send(b'{\"error\": 5}')", "SANDBOX_PROTOCOL"),
        ('send(b\'{"error": {"type": "\\\\u0000/../X", "message": [1]}}\')', "SCRIPT_FAILED"),
        ('send(b\'{"error": {"reason": "a b", "retryable": 1}}\')', "INVALID_REASON"),
        ('send(b\'{"error": {"reason": "R", "retryable": true, "retry_after": -1}}\')', "R"),
        ("send(b'{', 10)\nos.close(fd)\ntime.sleep(60)", "SCRIPT_DIED"),
        ("os.close(fd)\ntime.sleep(60)", "SCRIPT_DIED"),
        ("send(b'{', 10)\ntime.sleep(60)", "TIMEOUT"),
    ],
)
def test_garbage_on_the_socket_fails_its_own_task_only(
    python: PythonComponent, attack: str, reason: str
) -> None:
    timeout_s = 0.5 if reason == "TIMEOUT" else 40.0
    error = failure(lambda: run(python, f"{FIND_SOCKET}\n{attack}", timeout_s=timeout_s))
    assert error.reason == reason, error.message
    assert run(python, "output = 'well'").output == "well"


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Hold more descriptors than one select knows, as a component with many connections does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"{hard} descriptors a process, 4096 are wanted")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    yield
    for descriptor in held:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("way", WAYS)
def test_a_socket_of_a_high_number_serves_as_well(way: str) -> None:
    with python_component(way) as made:
        assert run(made, f"{FIND_SOCKET}\noutput = fd > 1024").output is True
        script = f"{FIND_SOCKET}\nos.close(fd)\ntime.sleep(60)"
        assert failure(lambda: run(made, script, timeout_s=40.0)).reason == "SCRIPT_DIED"


def test_without_isolation_tasks_are_refused_and_the_reasons_named() -> None:
    with python_component("none", isolation="auto", interpreter="/nowhere/bin/python") as made:
        error = failure(lambda: run(made, "output = 1"))
    assert error.reason == "SANDBOX_UNAVAILABLE"
    assert isinstance(error, TerminalError)
    for way in WAYS:
        assert f"{way}: " in error.message
    assert NONE not in candidates("auto")


def test_a_busy_machine_makes_no_sandbox_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with python_component(best(), isolation="auto") as made:
        with monkeypatch.context() as slow:
            slow.setattr("bend_executors.sandbox.process.START_S", 0.0001)
            error = failure(lambda: run(made, "output = 1"))
        assert (error.reason, error.retryable) == ("SANDBOX_BUSY", True)
        assert made.pool.isolation == ""
        assert run(made, "output = 2").output == 2
        assert made.pool.isolation == best()


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.EAGAIN, "SANDBOX_BUSY"), (errno.ENOENT, "SANDBOX_UNAVAILABLE")]
)
def test_what_a_machine_lacks_for_now_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    def fails(*_words: object, **_more: object) -> None:
        raise OSError(number, os.strerror(number))

    with python_component(best()) as made:
        with monkeypatch.context() as scarce:
            scarce.setattr("bend_executors.sandbox.process.subprocess.Popen", fails)
            error = failure(lambda: run(made, "output = 1"))
        assert error.reason == reason
        assert run(made, "output = 1").output == 1


def test_a_way_that_is_gone_is_looked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    def gone(_rules: Rules) -> list[str]:
        raise FileNotFoundError("it was removed")

    with python_component(best(), isolation="auto", size=Size(warm=0)) as made:
        made.pool._isolation = replace(BUBBLEWRAP, name="old", prefix=gone)
        assert run(made, "output = 1").output == 1
        assert made.pool.isolation == best()
    assert "old: it was removed; looking for another way" in caplog.text


def test_a_sandbox_that_does_not_hold_what_it_promises_is_not_used() -> None:
    good = {"uid": 61184, "capabilities": 0, "no_new_privileges": 1, "seccomp": 2}
    good |= {"processes": 2, "interfaces": ["lo"], "writable": False}
    assert BUBBLEWRAP.broken(good, Rules()) == ""
    for wrong in (
        {"uid": 0},
        {"capabilities": 1 << 21},
        {"no_new_privileges": 0},
        {"seccomp": 0},
        {"processes": 90},
        {"interfaces": ["lo", "eth0"]},
        {"writable": True},
    ):
        assert BUBBLEWRAP.broken(good | wrong, Rules()) != "", wrong
    assert BUBBLEWRAP.broken({}, Rules()).count(",") == 6
    assert BUBBLEWRAP.broken(good | {"interfaces": ["eth0"]}, Rules(network=True)) == ""


def test_the_operator_may_do_without(tmp_path: Path) -> None:
    with python_component("none") as made:
        script = "import os\nopen('x', 'w').write('y')\noutput = os.getcwd()\nprint('said')"
        result = run(made, script)
        children = "import os\nos.fork() or os.execv('/bin/sleep', ['sleep', '3600.77123'])\n"
        error = failure(lambda: run(made, children + "while True: pass", timeout_s=0.5))
    assert ("info", "said") in result.logs
    assert any("NO ISOLATION" in text for _, text in result.logs)
    wait_until(lambda: not Path(result.output).exists(), "its folder is left", 30)
    assert error.details == {"isolation": "none"}
    wait_until(lambda: not running("3600.77123"), "a child lives", 30)


@pytest.mark.parametrize("way", WAYS)
def test_an_unprivileged_user_gets_a_sandbox_too(way: str) -> None:
    needs(way)
    program = f"""
import os, sys
from bend_executors.sandbox import Rules, isolation, process
for name in ("inside", "namespaces"):
    isolation.source(name)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
made = process.detect(Rules(isolation="{way}", interpreter=sys.argv[1]))
print(made.isolation.name, os.getuid())
made.end()
"""
    # What root runs may lie where others cannot look; the system's own does not.
    system = "/usr/bin/python3"
    interpreter = system if os.access(system, os.X_OK) and os.getuid() == 0 else ""
    done = subprocess.run(
        [sys.executable, "-c", program, interpreter],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    name, uid = done.stdout.split()
    assert name == way
    assert uid != "0"


def test_the_end_of_the_component_is_the_end_of_its_sandboxes(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.mkdir()
    program = f"""
from bend_executors.sandbox import Rules, process
made = process.detect(Rules(isolation="{best()}", packages=("{marker}",)))
print("started", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"started\n"
        assert running(str(marker))
        started.send_signal(signal.SIGKILL)
    wait_until(lambda: not running(str(marker)), "a sandbox lives on", 30)


def test_a_sandbox_serves_one_task_and_one_namespace() -> None:
    script = (
        "import os, pathlib\nold = os.listdir('/scratch')\npathlib.Path('/scratch/x').touch()\n"
    )
    with python_component(best()) as made:
        pool = made.pool

        async def tasks() -> None:
            for namespace in ("a", "a", "b", "b"):
                done = await call(
                    made.run, {"script": script + "output = old"}, namespace=namespace
                )
                assert done.output == []

        asyncio.run(tasks())
        wait_until(lambda: {n: len(s) for n, s in pool._spares.items()} == {"a": 2, "b": 2}, "", 30)
        spares = [one for group in pool._spares.values() for one in group]
        assert len({one.process.pid for one in spares}) == 4
        pool._spares["a"][0].kill()
        assert run(made, "output = 1").output == 1
        pool._size = Size(idle_s=0.0)
        pool._prune()
        wait_until(lambda: not any(one.alive for one in spares), "spares live on", 30)


def test_a_task_that_is_cancelled_while_its_sandbox_starts_leaves_nothing() -> None:
    with python_component(best(), packages=("/usr/share",)) as made:

        async def cancelled(after_s: float) -> None:
            task = asyncio.ensure_future(call(made.run, {"script": "output = 1"}))
            await asyncio.wait({task}, timeout=after_s)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        for after_s in (0.0, 0.002, 0.02, 0.045):
            asyncio.run(cancelled(after_s))
        assert run(made, "output = 2").output == 2
    assert made.pool._spares == {}


def test_tasks_leave_no_descriptors_and_no_processes() -> None:
    process = psutil.Process()
    with python_component(best(), size=Size(warm=1)) as made:

        async def tasks(count: int) -> None:
            for number in range(count):
                script = "output = 1" if number % 3 else "1/0"
                await asyncio.gather(call(made.run, {"script": script}), return_exceptions=True)

        def settled() -> bool:
            return process.num_fds() <= before and len(process.children()) <= children

        asyncio.run(tasks(3))
        wait_until(lambda: len(made.pool._spares["default"]) == 1, "no spare", 30)
        before, children = process.num_fds() + 3, len(process.children()) + 1
        asyncio.run(tasks(25))
        wait_until(settled, "descriptors or processes are left", 30)


def test_more_tasks_than_sandboxes_wait_for_their_turn() -> None:
    with python_component(best(), size=Size(concurrent=2)) as made:

        async def many() -> list[Call]:
            one = {"script": "def main(n): return n"}
            return await asyncio.gather(*(call(made.run, one | {"input": n}) for n in range(1, 7)))

        assert [done.output for done in asyncio.run(many())] == list(range(1, 7))


def test_which_way_is_active_is_said_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    way = best()
    with caplog.at_level("INFO", logger="bend.sandbox"):
        pool = Pool("python", Rules(limits=LIMITS, isolation=way), Size())
        pool.announce()
        wait_until(lambda: bool(caplog.messages), "nothing is said", 60)
        refused = Pool("shell", Rules(interpreter="/nowhere/bin/python"), Size())
        refused.announce()
        wait_until(lambda: len(caplog.messages) == 2, "nothing is said", 60)
    pool.close()
    refused.close()
    assert caplog.messages[0].startswith(f"python: sandbox by {way} (")
    assert caplog.messages[1].startswith("shell: no sandbox, every task will be refused: ")


def test_users_of_sandboxes_are_never_root_and_differ() -> None:
    if os.getuid():
        assert fresh_uid() is None
    else:
        first, second = fresh_uid(), fresh_uid()
        assert first != second
        assert first in uids()
        assert second in uids()
    assert 0 not in UIDS_NEAR
    assert 0 not in UIDS_FAR


def test_filters_exist_where_the_numbers_are_known() -> None:
    for machine in ("x86_64", "aarch64"):
        program = syscalls.program(machine)
        assert len(program) % 8 == 0
        assert len(program) // 8 < 256
    assert syscalls.program("m68k") == b""


def test_a_way_that_is_not_there_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bend_executors.sandbox.isolation.shutil.which", lambda *_a, **_k: None)
    with pytest.raises(Unavailable, match="bubblewrap: bwrap is not installed"):
        detect(Rules(isolation="bubblewrap"))
    if not missing("namespaces"):
        made = detect(Rules())
        made.end()
        assert made.isolation.name == "namespaces"
