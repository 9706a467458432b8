"""Two engines over one PostgreSQL, as processes: the mesh's own, and a second one."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc

from bend.v1 import engine_service_pb2 as engine
from bend.v1 import engine_service_pb2_grpc
from bend_envoy import GatewaySettings, Upstream, arguments, render, render_secrets
from bend_server.bench.mesh import Mesh
from tests.e2e import scenario
from tests.e2e.ledger import PostgresLedger
from tests.e2e.site import Site
from tests.kit.postgres import PostgresServer
from tests.kit.programs import free_port, running
from tests.kit.waiting import wait_until

CALL_S = 10.0
PERSIST_S = 240.0


class Replicas:
    """A mesh on PostgreSQL; `engine` is the second engine's process while it runs."""

    def __init__(self, folder: Path, server: PostgresServer) -> None:
        self.server = server
        self.url = server.fresh_database()
        self.mesh = Mesh(folder / "home", self.url)
        self.ledger = PostgresLedger(self.url)
        self.site = Site(self.mesh, self.ledger, server)
        self.engine: subprocess.Popen[bytes] | None = None
        self.doors: list[Door] = []
        # Value by public id of every execution that was accepted, over all tests of this mesh.
        self.ids: dict[str, int] = {}
        self.wished = 0
        self.second_port = free_port()

    def up(self) -> None:
        """Start the mesh with its engine."""
        self.mesh.up()
        self.doors = [Door(self.mesh, self.mesh.address(self.mesh.engine))]

    def start_second(self) -> None:
        """Start the second engine, or another one in its place."""
        log = (self.mesh.home / "logs" / "second.log").open("ab")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BEND_")}
        self.engine = subprocess.Popen(
            [
                *(sys.executable, "-m", "bend_server.main", "engine"),
                *("--listen", f"127.0.0.1:{self.second_port}"),
                *("--nats", f"tls://{self.mesh.address('nats')}"),
            ],
            stdout=log,
            stderr=log,
            env=environment | {"BEND_HOME": str(self.mesh.home), "BEND_DATABASE_URL": self.url},
        )
        log.close()
        if len(self.doors) == 1:
            self.doors.append(Door(self.mesh, f"127.0.0.1:{self.second_port}"))

    def signal_second(self, number: signal.Signals) -> None:
        """Send a signal to the second engine."""
        if self.engine is None:
            raise RuntimeError("there is no second engine")
        self.engine.send_signal(number)

    @contextlib.contextmanager
    def gateway(self) -> Iterator["Door"]:
        """Run one more gateway, in front of both engines, while the block lasts."""
        certs = self.mesh.home / "certs"
        port = free_port()
        with tempfile.TemporaryDirectory(prefix="bend-") as short:  # unix sockets have short names
            folder = Path(short)
            settings = GatewaySettings(
                https_address="127.0.0.1",
                https_port=port,
                http_port=None,
                ca_file=certs / "ca.pem",
                cert_file=certs / "gateway.pem",
                key_file=certs / "gateway.key",
                run_folder=folder,
                admin_socket=folder / "admin.sock",
                engine=self._upstream("engine", ("127.0.0.1", self.second_port)),
                registry=self._upstream("registry"),
                executor=self._upstream("executor"),
            )
            settings.secrets_file.write_text(render_secrets(settings))
            config = folder / "envoy.json"
            config.write_text(render(settings))
            with running(arguments(config), folder / "envoy.log"):
                door = Door(self.mesh, f"127.0.0.1:{port}")
                try:
                    yield door
                finally:
                    door.close()

    def _upstream(self, process: str, *others: tuple[str, int]) -> Upstream:
        host, _, port = self.mesh.address(process).rpartition(":")
        return Upstream(process, ((host, int(port)), *others), f"spiffe://bend.local/{process}")

    def values(self, count: int) -> range:
        """Return input values that no execution has had."""
        self.wished += count
        return range(self.wished - count, self.wished)

    def down(self) -> None:
        """Stop all."""
        if self.engine is not None and self.engine.poll() is None:
            self.engine.send_signal(signal.SIGCONT)
            self.engine.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.engine.wait(20)
            self.engine.kill()
            self.engine.wait(20)
        for door in self.doors:
            door.close()
        self.ledger.close()
        self.mesh.down()

    def shares(self) -> list[int]:
        """Return how many partitions each live engine owns, the largest first."""
        found = self.ledger.rows(
            "SELECT count(*) AS n FROM partition p JOIN engine_lease l ON l.id = p.lease "
            "WHERE l.expires_us > extract(epoch FROM clock_timestamp()) * 1000000 "
            "GROUP BY l.id ORDER BY n DESC"
        )
        return [int(row["n"]) for row in found]

    def wait_for_shares(self, wanted: list[int], within_s: float) -> float:
        """Wait until the partitions are split so; return the seconds it took."""
        began = time.monotonic()
        wait_until(lambda: self.shares() == wanted, f"partitions split {wanted}", within_s)
        return time.monotonic() - began

    def unfinished(self) -> int:
        """Return how many executions are not completed."""
        (row,) = self.ledger.rows("SELECT count(*) AS n FROM execution WHERE status <> 4")
        return int(row["n"])

    def open_at_second(self) -> int:
        """Return how many unfinished executions lie in the second engine's partitions."""
        (row,) = self.ledger.rows(
            "SELECT count(*) AS n FROM execution e JOIN partition p ON p.partition = e.partition "
            f"JOIN engine_lease l ON l.id = p.lease WHERE e.status < 4 "
            f"AND l.engine LIKE '%:{self.second_port}:%'"
        )
        return int(row["n"])

    def written(self) -> tuple[int, int, int, int]:
        """Return the number of rows of every table that a commit fills, and of ended runs."""
        (row,) = self.ledger.rows(
            "SELECT (SELECT count(*) FROM execution) AS executions, "
            "(SELECT count(*) FROM execution WHERE finished_us IS NOT NULL) AS ended, "
            "(SELECT count(*) FROM task_result) AS results, "
            "(SELECT count(*) FROM execution_event) AS events"
        )
        return (row["executions"], row["ended"], row["results"], row["events"])

    def judge(self, journal_file: Path) -> scenario.Verdict:
        """Compare all of SQL's rows with the journal and with the only right outputs."""
        return scenario.judge(self.ledger, self.ids, journal_file)


class Door:
    """One engine's own port, with the benchmark's identity."""

    def __init__(self, mesh: Mesh, address: str) -> None:
        certs = mesh.home / "certs"
        credentials = grpc.ssl_channel_credentials(
            (certs / "ca.pem").read_bytes(),
            (certs / "bench.key").read_bytes(),
            (certs / "bench.pem").read_bytes(),
        )
        options = [
            ("grpc.ssl_target_name_override", "localhost"),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
        ]
        self._channel = grpc.secure_channel(address, credentials, options)
        self.stub = engine_service_pb2_grpc.EngineServiceStub(self._channel)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def start(value: int) -> engine.StartRequest:
    """Return the one right wish for a value."""
    return engine.StartRequest(
        workflow="kill_chain", parameters=b'{"value":%d}' % value, request_id=f"kill-{value}"
    )


def persist(doors: list[Door], method: str, request: Any) -> Any:
    """Call one door after the other until one answers; the list then begins with that one."""
    deadline = time.monotonic() + PERSIST_S
    while True:
        try:
            return getattr(doors[0].stub, method)(request, timeout=CALL_S)
        except grpc.RpcError as error:
            if not scenario.passing(error) or time.monotonic() > deadline:
                raise
            # A caller that went back to a door which sleeps would lose CALL_S with each page.
            doors.append(doors.pop(0))
            time.sleep(0.1)


def deploy(replicas: Replicas) -> None:
    """Store the workflow; waits until the component has registered itself."""
    request = engine.UpdateWorkflowRequest(name="kill_chain")
    request.document.content_type = "application/json"
    request.document.data = scenario.document()
    persist([*replicas.doors], "UpdateWorkflow", request)


def start_all(doors: list[Door], values: Iterable[int]) -> dict[str, int]:
    """Start one execution a value, whatever it takes; return value by execution id."""
    ids: dict[str, int] = {}
    waiting = {value: start(value) for value in values}
    deadline = time.monotonic() + PERSIST_S
    while waiting:
        page = list(waiting.items())[: scenario.BATCH]
        wishes = engine.StartExecutionsRequest(starts=[wish for _, wish in page])
        answer = persist(doors, "StartExecutions", wishes)
        for (value, _), outcome in zip(page, answer.outcomes, strict=True):
            if outcome.code == 0:
                ids[outcome.execution_id] = value
                del waiting[value]
        if time.monotonic() > deadline:
            raise AssertionError(f"{len(waiting)} executions were never accepted")
    return ids


@contextlib.contextmanager
def working(replicas: Replicas) -> Iterator[scenario.Worker]:
    """Run the journal component beside the mesh."""
    worker = scenario.Worker(replicas.mesh)
    worker.start()
    try:
        yield worker
    finally:
        worker.kill()
