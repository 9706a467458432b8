"""`bend up` without any right and without any network: what a laptop on a train has.

Its folder is called as folders are that people name: letters, spaces and signs of all kinds.

Needs root, which can take both away from a process; everybody else runs it without root anyway.
"""

import ctypes
import fcntl
import json
import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = "nobody"
RUN_S = 200.0
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
LOOPBACK = struct.pack("16sh14x", b"lo", IFF_UP)

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0,
        reason="only root on Linux can take network and rights away from a process",
    ),
]

GREETER = """
from bend import Worker, component

@component("greeter.hello", version="1.0.0")
async def hello(name: str) -> dict[str, str]:
    return {"text": f"Hello, {name}"}

Worker([hello]).run()
"""
WORKFLOW = """
name: greet
tasks:
  - id: hello
    type: greeter.hello
    name: "{{input.name}}"
"""
SCRIPT = """
test "$(id -un)" = nobody
$PYTHON -m bend up --detach >&2
trap '$PYTHON -m bend down >&2' EXIT
$PYTHON -m bend components cert greeter >&2
export BEND_CERT_FILE="$BEND_HOME/certs/component-greeter.pem"
export BEND_KEY_FILE="$BEND_HOME/certs/component-greeter.key"
$PYTHON greeter.py 2>greeter.log &
unset BEND_CERT_FILE BEND_KEY_FILE
until $PYTHON -m bend components get greeter.hello >/dev/null 2>&1; do :; done
$PYTHON -m bend run greet.yaml -p name=Nobody --json
kill %1
"""


def give_up_everything() -> None:
    """Leave the network but for a loopback of our own, then become nobody."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace of our own")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, LOOPBACK)
    entry = pwd.getpwnam(NOBODY)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.umask(0o077)


def environment(home: Path) -> dict[str, str]:
    """Return variables for a Python of this version that nobody may run, with our packages.

    A Python in root's home is of no use: then the system's own one runs the same packages.
    """
    scripts = sysconfig.get_path("scripts")
    path = f"{scripts}:/usr/local/bin:/usr/bin:/bin"
    # A company's proxy, which knows nothing of this machine's loopback.
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    common = {"PATH": path, "HOME": str(home), "BEND_HOME": str(home / "mesh"), **proxies}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = [p for p in sys.path if "site-packages" in p or p.startswith(str(ROOT))]
    for python, more in (
        (sys.executable, {}),
        (shutil.which(version, path="/usr/local/bin:/usr/bin"), {"PYTHONPATH": ":".join(packages)}),
    ):
        if python is None:
            continue
        found = common | more | {"PYTHON": python}
        try:
            works = subprocess.run(
                [python, "-c", "import bend_server.main, bend_executors, bend_envoy"],
                env=found,
                cwd=home,
                preexec_fn=give_up_everything,
                capture_output=True,
                check=False,
            )
        except subprocess.SubprocessError as error:
            pytest.skip(f"no network namespace of our own: {error}")
        except PermissionError:
            continue
        if works.returncode == 0:
            return found
    pytest.skip(f"nobody can read neither {sys.executable} nor {ROOT}")


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a folder that belongs to nobody."""
    outer = Path(tempfile.mkdtemp(prefix="bend-nobody-"))
    folder = outer / "Zoë's 100% #1? & 東京"
    folder.mkdir()
    entry = pwd.getpwnam(NOBODY)
    for made in (outer, folder):
        os.chown(made, entry.pw_uid, entry.pw_gid)
    try:
        yield folder
        assert [path.name for path in outer.iterdir()] == [folder.name]
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def test_a_mesh_needs_neither_root_nor_a_network(home: Path) -> None:
    variables = environment(home)
    (home / "greeter.py").write_text(GREETER, encoding="utf-8")
    (home / "greet.yaml").write_text(WORKFLOW)
    done = subprocess.run(
        ["bash", "-euc", SCRIPT],
        env=variables,
        cwd=home,
        preexec_fn=give_up_everything,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"Hello, Nobody"' in done.stdout.replace("\\", "")
    assert json.loads(done.stdout.splitlines()[-1])
