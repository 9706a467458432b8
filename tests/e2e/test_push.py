"""A component service that listens, on a real mesh: the executor dials it, also after its death."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bend.errors import NotFound
from bend.sync import Client
from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.kit.programs import free_port
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
WITHIN_S = 90.0
PROGRAM = """
import os, sys, time
from bend import Worker, component

@component("pushed.where", version="1.0.0")
def where(seconds: float, mark: str) -> int:
    open(mark, "w").close()
    time.sleep(seconds)
    return os.getpid()

Worker([where]).listen(sys.argv[1])
"""
DOCUMENT = {
    "name": "pushed",
    "input": {"type": "object", "properties": {"seconds": {"type": "number"}, "mark": {}}},
    "tasks": [
        {
            "id": "a",
            "type": "pushed.where",
            "seconds": "{{input.seconds}}",
            "mark": "{{input.mark}}",
        }
    ],
    "output": {"pid": "{{a}}"},
}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with heavy():
        one = Mesh(tmp_path / "home", None)
        one.up()
        try:
            one.bend("components", "cert", "pushed")
            yield one
        finally:
            one.down()


def service(mesh: Mesh, address: str) -> "subprocess.Popen[bytes]":
    certs = mesh.home / "certs"
    environment = {
        "BEND_CA_FILE": str(certs / "ca.pem"),
        "BEND_CERT_FILE": str(certs / "component-pushed.pem"),
        "BEND_KEY_FILE": str(certs / "component-pushed.key"),
    }
    return subprocess.Popen([sys.executable, "-c", PROGRAM, address], env=environment)


def test_a_service_that_listens_serves_dies_and_comes_back(mesh: Mesh, tmp_path: Path) -> None:
    """SIGKILL in the middle of a task: another process does it; SIGTERM finishes what runs."""
    address = f"127.0.0.1:{free_port()}"
    first = service(mesh, address)
    running = [first]
    try:
        # Written while the executor runs: it follows the file.
        (mesh.home / "listeners.yaml").write_text(
            f"listeners: {{pushed: {{address: '{address}'}}}}"
        )
        with Client(home=mesh.home, retry_timeout=WITHIN_S) as client:
            wait_until(lambda: bool(instances(client)), "an instance", WITHIN_S)
            client.deploy(DOCUMENT)
            assert client.run("pushed", {"seconds": 0, "mark": str(tmp_path / "a")}).result() == {
                "pid": first.pid
            }
            cut = client.start("pushed", {"seconds": 1.0, "mark": str(tmp_path / "b")})
            wait_until((tmp_path / "b").exists, "the task's begin", WITHIN_S)
            first.kill()
            first.wait()
            running.append(service(mesh, address))
            assert client.wait(cut.execution_id).result() == {"pid": running[1].pid}
            last = client.start("pushed", {"seconds": 0.5, "mark": str(tmp_path / "c")})
            wait_until((tmp_path / "c").exists, "the task's begin", WITHIN_S)
            running[1].terminate()
            assert client.wait(last.execution_id).result() == {"pid": running[1].pid}
            assert running[1].wait(WITHIN_S) == 0
            wait_until(lambda: not instances(client), "the instance's end", WITHIN_S)
    finally:
        for process in running:
            process.kill()
            process.wait()


def instances(client: Client) -> list[object]:
    try:
        return list(client.list_instances("pushed.where"))
    except NotFound:
        return []
