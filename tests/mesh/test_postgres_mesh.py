"""`bend up` on PostgreSQL: engine and registry are processes of their own."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from bend.v1 import engine_service_pb2, registry_service_pb2
from bend_server.bench import workflows
from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.kit.postgres import PostgresServer
from tests.kit.programs import wait_until

pytestmark = [pytest.mark.kill, pytest.mark.postgres, pytest.mark.timeout(900)]
PROCESSES = ["nats", "envoy", "engine", "registry", "executor", "components"]
BACK_S = 150.0


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Run one mesh on a fresh PostgreSQL for this module, with the benchmark's worker."""
    with heavy():
        server = PostgresServer()
        try:
            server.start()
            made = Mesh(tmp_path_factory.mktemp("mesh") / "home", server.fresh_database())
            made.up()
            try:
                made.start_worker()
                yield made
            finally:
                made.stop_worker()
                made.down()
        finally:
            server.stop()


def by_name(mesh: Mesh) -> dict[str, dict[str, Any]]:
    """Return the processes by name."""
    return {entry["name"]: entry for entry in mesh.status()["processes"]}


def code(mesh: Mesh, process: str, stem: str, method: str, request: Any) -> grpc.StatusCode:
    """Call a process with one of the mesh's certificates; return how it ended."""
    certs = mesh.home / "certs"
    credentials = grpc.ssl_channel_credentials(
        (certs / "ca.pem").read_bytes(),
        (certs / f"{stem}.key").read_bytes(),
        (certs / f"{stem}.pem").read_bytes(),
    )
    with grpc.secure_channel(mesh.address(process), credentials) as channel:
        call = channel.unary_unary(method, request_serializer=type(request).SerializeToString)
        try:
            call(request, timeout=30)
        except grpc.RpcError as error:
            found: grpc.StatusCode = error.code()
            return found
    return grpc.StatusCode.OK


def list_components(mesh: Mesh, process: str, stem: str) -> grpc.StatusCode:
    """Call the registry's RPC at a process."""
    request = registry_service_pb2.ListComponentsRequest()
    return code(mesh, process, stem, "/bend.v1.RegistryService/ListComponents", request)


def list_workflows(mesh: Mesh, process: str, stem: str) -> grpc.StatusCode:
    """Call the engine's RPC at a process."""
    request = engine_service_pb2.ListWorkflowsRequest()
    return code(mesh, process, stem, "/bend.v1.EngineService/ListWorkflows", request)


def instances(mesh: Mesh, component: str) -> int:
    """Return how many instances of a component the registry knows, asked through the gateway."""
    found = json.loads(mesh.bend("components", "list", "--json"))
    entries = found["components"] if isinstance(found, dict) else found
    return sum(int(one.get("instance_count", 0)) for one in entries if one["name"] == component)


def run_chain(mesh: Mesh) -> None:
    """Run a chain of five steps through the gateway and check its output."""
    job = workflows.chain(5)
    file = mesh.home / "chain.json"
    file.write_text(json.dumps(job.document))
    done = json.loads(mesh.bend("run", str(file), "-p", "value=3", "--json"))
    assert done["status"] == "COMPLETED"
    assert done["output"] == job.expected(3)


def test_roles_are_processes_of_their_own(mesh: Mesh) -> None:
    found = mesh.status()
    assert found["ready"] is True
    assert found["database"].startswith("postgresql+asyncpg://")
    assert [entry["name"] for entry in found["processes"]] == PROCESSES
    assert {entry["state"] for entry in found["processes"]} == {"running"}
    assert len({entry["pid"] for entry in found["processes"]}) == len(PROCESSES)
    assert not (mesh.home / "bend.db").exists()
    for role in ("engine", "registry", "executor"):
        assert (mesh.home / "certs" / f"{role}.pem").is_file()


def test_a_workflow_runs_and_the_registry_knows_who_serves_it(mesh: Mesh) -> None:
    wait_until(lambda: instances(mesh, "bench.step") == 1, BACK_S, "the worker is known")
    assert instances(mesh, "http") == 1
    run_chain(mesh)


@pytest.mark.parametrize("stem", ["user-dev", "component-bench", "gateway"])
def test_the_registry_serves_its_own_callers_only(mesh: Mesh, stem: str) -> None:
    refused = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
    assert list_components(mesh, "registry", stem) in refused


def test_each_role_serves_its_own_rpcs_only(mesh: Mesh) -> None:
    ok, unknown = grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED
    assert list_components(mesh, "registry", "bench") is ok
    assert list_components(mesh, "engine", "bench") is unknown
    assert list_workflows(mesh, "engine", "bench") is ok
    assert list_workflows(mesh, "registry", "bench") is unknown


@pytest.mark.parametrize("name", ["engine", "registry"])
def test_a_killed_role_comes_back_and_serves(mesh: Mesh, name: str) -> None:
    before = by_name(mesh)[name]
    os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        entry = by_name(mesh)[name]
        return entry["state"] == "running" and entry["pid"] != before["pid"]

    wait_until(back, BACK_S, f"{name} is back")
    wait_until(lambda: mesh.status()["ready"], BACK_S, "the mesh is ready")
    # What the registry knows of instances lives in memory: executors tell it again.
    wait_until(lambda: instances(mesh, "bench.step") == 1, BACK_S, "the worker is known")
    run_chain(mesh)


def test_an_ordered_restart_finds_everything_again(mesh: Mesh) -> None:
    mesh.down()
    assert {entry["state"] for entry in mesh.status()["processes"]} == {"stopped"}
    mesh.up()
    wait_until(lambda: instances(mesh, "bench.step") == 1, BACK_S, "the worker is known")
    run_chain(mesh)
