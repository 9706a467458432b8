"""Certificates are renewed in a mesh that runs for longer than they live.

What would break in production if this fails: everything, on the thirtieth day.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from bend_server.certificates import now
from tests.e2e import scenario
from tests.e2e.ledger import SqliteLedger
from tests.kit.programs import END_S, wait_until

pytestmark = [pytest.mark.kill, pytest.mark.timeout(600)]

# The shipped supervisor, on which days are as short as seconds.
SHORT_LIVED = """
import sys
from bend_server import certificates
from bend_server.local import __main__, supervisor
certificates.VALID_DAYS = float(sys.argv.pop(1)) / 86400
certificates.RENEW_DAYS = 5 / 8 * certificates.VALID_DAYS
supervisor.RENEW_S = 0.5
supervisor.ROTATE_S = 0.2
sys.exit(__main__.main())
"""
BACK_S = 100.0


def serial_numbers(mesh: Mesh) -> dict[str, int]:
    """Return the serial number of each role's certificate."""
    return {
        file.stem: x509.load_pem_x509_certificate(file.read_bytes()).serial_number
        for file in (mesh.home / "certs").glob("*.pem")
        if file.stem != "ca" and not file.stem.startswith("component-journal")
    }


def restarts(mesh: Mesh, name: str) -> int:
    """Return how often a process was started again, once it does its work; -1 before."""
    (entry,) = (one for one in mesh.status()["processes"] if one["name"] == name)
    return int(entry["restarts"]) if entry["state"] == "running" else -1


def expired(mesh: Mesh) -> bool:
    """Tell whether a certificate of the mesh has expired, or one that there was."""
    ends = [
        x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
        for file in (mesh.home / "certs").glob("*.pem")
    ]
    return bool(ends) and now() > min(ends)


@contextlib.contextmanager
def supervised(mesh: Mesh, valid_s: float) -> Iterator[bool]:
    """Run a mesh whose certificates live so long; yield whether it became ready within that."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BEND_")}
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SHORT_LIVED, str(valid_s), f"--home={mesh.home}"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ready = (mesh.home / "run" / "endpoints.json").exists
    try:
        wait_until(lambda: ready() or expired(mesh), BACK_S, "ready")
        yield ready()
    finally:
        supervisor.send_signal(signal.SIGTERM)
        try:
            supervisor.wait(END_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """Run a mesh whose certificates live for eight seconds; longer where its start takes longer.

    Renewing is for a mesh that runs: one that does not get that far is made again.
    """
    with heavy():
        for number, valid_s in enumerate((8, 24, 72)):
            made = Mesh(tmp_path / f"home{number}", None)
            with supervised(made, valid_s) as ready:
                if ready:
                    yield made
                    return
            shutil.rmtree(made.home)
        pytest.fail("the mesh is not ready within 72 s")


def test_a_mesh_outlives_its_certificates(mesh: Mesh) -> None:
    """Who runs on presents and believes new ones, and so does who is started again."""
    certs = mesh.home / "certs"
    first = serial_numbers(mesh)
    ends = max(
        x509.load_pem_x509_certificate((certs / f"{stem}.pem").read_bytes()).not_valid_after_utc
        for stem in first
    )
    wait_until(lambda: now() > ends, BACK_S, "the first certificates have expired")

    def renewed() -> bool:
        there = serial_numbers(mesh)
        assert there.keys() == first.keys()
        return not set(first.values()) & set(there.values())

    wait_until(renewed, BACK_S, "all are new")
    # A new executor talks to an old nats-server, then both others to a new one.
    for name in ("executor", "nats"):
        os.kill(mesh.pids()[name], signal.SIGKILL)
        wait_until(lambda name=name: restarts(mesh, name) == 1, BACK_S, f"{name} is back")
    worker = scenario.Worker(mesh)
    worker.start()
    try:
        caller = scenario.Caller(mesh)
        caller.deploy()
        ids = caller.start(0, 20)
        ledger = SqliteLedger(mesh.home / "bend.db")
        with scenario.Progress(ledger, 0) as progress:
            progress.until(lambda: progress.rows > 0 and progress.unfinished == 0)
        assert scenario.judge(ledger, ids, worker.file)[:4] == (0, 0, 0, 0)
    finally:
        worker.kill()
