"""`bend up` and its family on a real mesh: kills, second starts, ports, doors, stop."""

import asyncio
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from bend.v1 import (
    engine_service_pb2,
    engine_service_pb2_grpc,
    executor_service_pb2,
    executor_service_pb2_grpc,
)
from bend_server.bench.command import REMOTE, measure
from bend_server.bench.jobs import Sizes
from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh, MeshError, running_mesh
from bend_server.bench.rows import Report
from tests.kit.programs import alive, wait_until

pytestmark = [pytest.mark.kill, pytest.mark.timeout(900)]
PROCESSES = ["nats", "envoy", "server", "executor", "components"]
BACK_S = 150.0


def bend(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a `bend` command on a home, whatever its exit code."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BEND_")}
    return subprocess.run(
        [sys.executable, "-m", "bend", *arguments],
        env={**environment, "BEND_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def account(mesh: Mesh) -> dict[str, Any]:
    """Return `bend status --json`, ready or not."""
    found: dict[str, Any] = json.loads(bend(mesh.home, "status", "--json").stdout)
    return found


def by_name(mesh: Mesh) -> dict[str, dict[str, Any]]:
    """Return the processes by name."""
    return {entry["name"]: entry for entry in account(mesh)["processes"]}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Run one mesh for this module, alone on the machine as far as tests go."""
    with heavy():
        made = Mesh(tmp_path_factory.mktemp("mesh") / "home", None)
        made.up()
        try:
            yield made
        finally:
            made.down()


def test_status_has_its_shape(mesh: Mesh) -> None:
    found = account(mesh)
    assert set(found) == {"ready", "home", "urls", "database", "processes"}
    assert found["ready"] is True
    assert found["home"] == str(mesh.home)
    assert [entry["name"] for entry in found["processes"]] == PROCESSES
    for entry in found["processes"]:
        assert set(entry) == {"name", "pid", "state", "restarts", "address", "log", "rss_bytes"}
        assert entry["state"] == "running"
        assert alive(entry["pid"])
        assert entry["rss_bytes"] > 1_000_000
        assert Path(entry["log"]).is_file()


def test_clients_find_the_mesh_and_nobody_else_reads_its_files(mesh: Mesh) -> None:
    endpoints = mesh.home / "run" / "endpoints.json"
    found = json.loads(endpoints.read_text())
    assert found["version"] == 1
    assert set(found["urls"]) == {"https", "http"}
    assert stat.S_IMODE(endpoints.stat().st_mode) == 0o600
    assert stat.S_IMODE(mesh.home.stat().st_mode) == 0o700
    for name in ("ca_file", "cert_file", "key_file"):
        assert Path(found[name]).is_file()
    admin = mesh.home / "run" / "envoy.sock"
    if admin.exists():
        assert stat.S_IMODE(admin.stat().st_mode) == 0o600


def test_second_up_shows_the_status_and_starts_nothing(mesh: Mesh) -> None:
    before = mesh.pids()
    for flags in (["--detach"], []):
        again = bend(mesh.home, "up", *flags)
        assert again.returncode == 0
        assert again.stdout.splitlines()[-1].startswith("ready https://127.0.0.1:")
    assert mesh.pids() == before


def test_doors_ask_for_proof(mesh: Mesh) -> None:
    """HTTPS needs a certificate or the token; the loopback door takes this machine's user."""
    found = account(mesh)
    context = ssl.create_default_context(cafile=str(mesh.home / "certs" / "ca.pem"))
    token = bend(mesh.home, "token").stdout.strip()
    with httpx.Client(base_url=found["urls"]["https"], verify=context) as client:
        assert client.get("/v1/workflows").status_code == 401
        wrong = client.get("/v1/workflows", headers={"authorization": "Bearer wrong"})
        assert wrong.status_code == 401
        right = client.get("/v1/workflows", headers={"authorization": f"Bearer {token}"})
        assert right.status_code == 200
        for public in ("/healthz", "/readyz", "/openapi.json"):
            assert client.get(public).status_code == 200, public
    with httpx.Client(base_url=found["urls"]["http"]) as client:
        assert client.get("/v1/workflows").status_code == 200


@pytest.mark.parametrize(
    ("process", "stem"),
    [
        ("server", "component-x"),
        ("server", "user-dev"),
        ("server", "gateway"),
        ("executor", "user-dev"),
        ("executor", "gateway"),
    ],
)
def test_wrong_role_is_refused_behind_the_gateway(mesh: Mesh, process: str, stem: str) -> None:
    """A valid certificate opens no link that is not its own; the gateway's alone says nobody."""
    mesh.bend("components", "cert", "x")
    certs = mesh.home / "certs"
    credentials = grpc.ssl_channel_credentials(
        (certs / "ca.pem").read_bytes(),
        (certs / f"{stem}.key").read_bytes(),
        (certs / f"{stem}.pem").read_bytes(),
    )
    # Only the gateway is believed when it says who calls.
    forged = [("x-bend-peer", "spiffe://bend.local/engine")] if stem != "gateway" else []
    with (
        grpc.secure_channel(by_name(mesh)[process]["address"], credentials) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        _call(channel, process, forged)
    assert refused.value.code() in {
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
    }


def _call(channel: grpc.Channel, process: str, metadata: list[tuple[str, str]]) -> None:
    if process == "server":
        engine = engine_service_pb2_grpc.EngineServiceStub(channel)
        request = engine_service_pb2.ListWorkflowsRequest()
        engine.ListWorkflows(request, metadata=metadata, timeout=30)
        return
    executor = executor_service_pb2_grpc.ExecutorServiceStub(channel)
    hello = executor_service_pb2.ConnectRequest()
    list(executor.Connect(iter([hello]), metadata=metadata, timeout=30))


def test_no_certificate_opens_nothing_behind_the_gateway(mesh: Mesh) -> None:
    roots = (mesh.home / "certs" / "ca.pem").read_bytes()
    for process in ("server", "executor"):
        address = by_name(mesh)[process]["address"]
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(roots)) as channel:
            call = channel.unary_unary("/grpc.health.v1.Health/Check")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("name", PROCESSES)
def test_killed_process_is_started_again(mesh: Mesh, name: str) -> None:
    before = by_name(mesh)[name]
    os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        now = account(mesh)
        entry = next(one for one in now["processes"] if one["name"] == name)
        return (
            bool(now["ready"])
            and entry["pid"] not in {None, before["pid"]}
            and entry["state"] == "running"
            and entry["restarts"] == before["restarts"] + 1
        )

    wait_until(back, BACK_S, f"{name} is back")


def test_two_meshes_side_by_side(mesh: Mesh, tmp_path: Path) -> None:
    other = Mesh(tmp_path / "other", None)
    other.up()
    try:
        ours, theirs = account(mesh), account(other)
        assert ours["ready"]
        assert theirs["ready"]
        assert not set(ours["urls"].values()) & set(theirs["urls"].values())
        assert not set(mesh.pids().values()) & set(other.pids().values())
    finally:
        other.down()
    assert account(mesh)["ready"]


def test_a_running_mesh_is_measured_through_its_gateway(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(account(mesh)["urls"]["https"])
    report = Report(as_json=True, database="unknown")
    sizes = Sizes(singles=3, chains=4, in_flight=2, fans=(3,), fan_rounds=1, chain=3)
    with running_mesh(mesh.home, url) as seen:
        asyncio.run(measure(seen, report, list(REMOTE), sizes))
    rows = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["j1_envoy_grpc_p50", "j1_rest_p50", "j2_steps_per_s", "j3_3", "j4_per_step"]
    assert report.wrong == 0
    refused = bend(mesh.home, "bench", "--url", url, "--jobs", "figures")
    assert refused.returncode == 2
    assert "known: j1, j2, j3, j4" in refused.stderr


def test_asked_port_in_use_is_said(mesh: Mesh, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        refused = bend(tmp_path / "h", "up", "--detach", f"--https-port={port}")
    assert refused.returncode == 2
    assert str(port) in refused.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"BEND_DATABASE_URL": "mysql://nowhere/x"},
        {"BEND_DATABASE_URL": "postgresql+asyncpg://bend@db:port/bend"},
        {"BEND_HTTPS_PORT": "70000"},
        {"BEND_DATABSE_URL": "sqlite:///x"},
    ],
)
def test_wrong_settings_end_the_start(
    mesh: Mesh, tmp_path: Path, variables: dict[str, str]
) -> None:
    home = tmp_path / "h"
    refused = bend(home, "up", "--detach", **variables)
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr
    assert "Traceback" not in refused.stderr
    assert bend(home, "status").returncode == 1


def test_supervisor_killed_leaves_nothing_and_the_next_up_works(tmp_path: Path) -> None:
    with heavy():
        own = Mesh(tmp_path / "home", None)
        own.up()
        try:
            pids = own.pids()
            endpoints = json.loads((own.home / "run" / "endpoints.json").read_text())
            os.kill(endpoints["pid"], signal.SIGKILL)
            wait_until(lambda: not any(map(alive, pids.values())), BACK_S, "children end")
            stopped = bend(own.home, "status", "--json")
            assert stopped.returncode == 1
            assert {one["state"] for one in json.loads(stopped.stdout)["processes"]} == {"stopped"}
            own.up()
            assert account(own)["ready"]
            assert not set(own.pids().values()) & set(pids.values())
        finally:
            own.down()


KEPT = """
name: kept
tasks:
  - {id: first, type: wait, duration: 1ms}
  - {id: go, type: signal, name: go, timeout: PATIENCE, depends_on: [first]}
"""


def told(mesh: Mesh, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return what `bend executions get --json` says, but for the time that goes by."""
    found = [json.loads(mesh.bend("executions", "get", one, "--json")) for one in ids]
    for one in found:
        del one["duration_ms"]
    return found


def states(mesh: Mesh, ids: Sequence[str]) -> list[str]:
    """Return the status of each execution and of its task `go`."""
    return [f"{one['status']} {one['tasks']['go']['status']}" for one in told(mesh, ids)]


def test_after_a_kill_of_all_at_once_the_state_is_what_it_was(tmp_path: Path) -> None:
    with heavy():
        own = Mesh(tmp_path / "home", None)
        own.up()
        try:
            file = tmp_path / "kept.yaml"
            ids = []
            for patience in ("1ms", "1h", "1h", "1h"):
                file.write_text(KEPT.replace("PATIENCE", patience))
                ids.append(own.bend("run", str(file), "--detach").strip())
            late, done, waiting, paused = ids
            own.bend("executions", "signal", done, "go", "7")
            own.bend("wait", done)
            wait_until(lambda: told(own, [late])[0]["status"] == "FAILED", BACK_S, "its end")
            wait_until(
                lambda: states(own, [waiting, paused]) == ["RUNNING WAITING"] * 2, BACK_S, "waits"
            )
            own.bend("executions", "pause", paused)
            before = told(own, ids)
            assert [one["status"] for one in before] == [
                *("FAILED", "COMPLETED", "RUNNING", "PAUSED")
            ]
            pids = own.pids()
            endpoints = json.loads((own.home / "run" / "endpoints.json").read_text())
            for pid in (endpoints["pid"], *pids.values()):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not any(map(alive, pids.values())), BACK_S, "all have ended")
            own.up()
            wait_until(lambda: told(own, ids) == before, BACK_S, "the same state")
            own.bend("executions", "resume", paused)
            for one in (waiting, paused):
                own.bend("executions", "signal", one, "go", "8")
                own.bend("wait", one)
            assert [one["output"] for one in told(own, ids)] == [
                None,
                *({"go": n} for n in (7, 8, 8)),
            ]
        finally:
            own.down()


def test_down_ends_everything_and_purge_removes_it(tmp_path: Path) -> None:
    with heavy():
        own = Mesh(tmp_path / "home", None)
        own.up()
        pids = own.pids()
        down = bend(own.home, "down", "--timeout", "30s", "--purge")
        assert down.returncode == 0, down.stderr
        assert not any(map(alive, pids.values()))
        assert not own.home.exists()
        again = bend(own.home, "down")
        assert again.returncode == 0
        assert "no mesh" in again.stdout
        with pytest.raises(MeshError):
            own.bend("status")
