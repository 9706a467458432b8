"""A fresh mesh for one benchmark: the shipped `bend up` on a home of its own, and a worker."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

START_S_MAX = 200
LAST_COMPONENT = "bench.join"
"""The worker offers its components in order; this one is registered last."""


class MeshError(Exception):
    """The mesh or its worker did not start; the text has the end of its output."""


class Mesh:
    """A running mesh: where it listens, its certificates, and its processes."""

    def __init__(self, home: Path, database: str | None) -> None:
        self.home = home
        self.database = database or "sqlite"
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("BEND_")}
        self._env["BEND_HOME"] = str(home)
        if database:
            self._env["BEND_DATABASE_URL"] = database
        self._worker: subprocess.Popen[bytes] | None = None

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bend", *arguments],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=START_S_MAX,
            check=False,
        )

    def bend(self, *arguments: str) -> str:
        """Run a `bend` command on this mesh; return its standard output."""
        done = self._run(*arguments)
        if done.returncode != 0:
            raise MeshError(f"bend {' '.join(arguments)} failed: {done.stderr[-2000:]}")
        return done.stdout

    def up(self) -> float:
        """Start the mesh; return the seconds until it was ready."""
        begin = time.perf_counter()
        self.bend("up", "--detach")
        return time.perf_counter() - begin

    def down(self) -> None:
        """Stop the mesh in order."""
        self.bend("down")

    def status(self) -> dict[str, Any]:
        """Return what `bend status --json` says, also while a process is down."""
        done = self._run("status", "--json")
        if not done.stdout.strip():
            raise MeshError(f"bend status failed: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def pids(self) -> dict[str, int]:
        """Return the process ids by name, the external worker's included."""
        found = {p["name"]: int(p["pid"]) for p in self.status()["processes"] if p["pid"]}
        if self._worker is not None:
            found["worker"] = self._worker.pid
        return found

    @property
    def engine(self) -> str:
        """Name of the process that holds the engine."""
        return "engine" if self.database.startswith("postgresql") else "server"

    def address(self, process: str) -> str:
        """Return host:port where a process serves gRPC."""
        for entry in self.status()["processes"]:
            if entry["name"] == process:
                return str(entry["address"])
        raise MeshError(f"no process {process}")

    def door(self) -> tuple[str, str]:
        """Return host:port where jobs dial, and the identity that they dial with."""
        return self.address(self.engine), "bench"

    def gateway(self) -> tuple[str, str]:
        """Return host:port of the gateway, and the identity of its callers."""
        return str(self.status()["urls"]["https"]).removeprefix("https://"), "user-dev"

    def start_worker(self) -> None:
        """Start the external worker with a certificate of its own; return when it is known."""
        self.bend("components", "cert", "bench")
        certs = self.home / "certs"
        env = self._env | {
            "BEND_CERT_FILE": str(certs / "component-bench.pem"),
            "BEND_KEY_FILE": str(certs / "component-bench.key"),
        }
        log = (self.home / "logs" / "bench-worker.log").open("ab")
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "bend_server.bench.component"], env=env, stdout=log, stderr=log
        )
        deadline = time.monotonic() + START_S_MAX
        while self._run("components", "get", LAST_COMPONENT).returncode != 0:
            if self._worker.poll() is not None or time.monotonic() > deadline:
                raise MeshError(f"the worker did not register itself; see {log.name}")

    def stop_worker(self) -> None:
        """End the external worker."""
        if self._worker is not None:
            self._worker.terminate()
            try:
                self._worker.wait(15)
            except subprocess.TimeoutExpired:
                self._worker.kill()
                self._worker.wait(5)
            self._worker = None


class RunningMesh(Mesh):
    """A mesh that runs already, as its gateway shows it; none of its processes is looked at.

    Args:
        home: a data folder with the authority of its certificates.
        url: its gateway, `https://host:port`.
    """

    def __init__(self, home: Path, url: str) -> None:
        super().__init__(home, None)
        self.database = "unknown"
        self._url = url.rstrip("/")
        certs = home / "certs"
        self._env |= {
            "BEND_URL": self._url,
            "BEND_CA_FILE": str(certs / "ca.pem"),
            "BEND_CERT_FILE": str(certs / "user-dev.pem"),
            "BEND_KEY_FILE": str(certs / "user-dev.key"),
        }

    def status(self) -> dict[str, Any]:
        """Return what is known: where it is."""
        return {"urls": {"https": self._url}, "processes": []}

    def pids(self) -> dict[str, int]:
        """Return none: CPU can be told only where all processes can be seen."""
        return {}

    def door(self) -> tuple[str, str]:
        """Return the gateway: there is no other way in."""
        return self.gateway()


@contextlib.contextmanager
def running_mesh(home: Path, url: str) -> Iterator[Mesh]:
    """Connect the worker to a mesh that runs already; it stays as it is."""
    if not (home / "certs" / "ca.key").exists():
        raise MeshError(f"{home} has no authority; BEND_HOME names the data folder of the mesh")
    mesh = RunningMesh(home, url)
    try:
        mesh.start_worker()
        yield mesh
    finally:
        mesh.stop_worker()


@contextlib.contextmanager
def fresh_mesh(database: str | None) -> Iterator[Mesh]:
    """Run a mesh on a temporary home with the worker connected; stop and remove it after."""
    with tempfile.TemporaryDirectory(prefix="bend-bench-") as folder:
        mesh = Mesh(Path(folder) / "home", database)
        sys.stderr.write(f"bench mesh: BEND_HOME={mesh.home}\n")
        mesh.up()
        try:
            mesh.start_worker()
            yield mesh
        finally:
            mesh.stop_worker()
            mesh.down()
