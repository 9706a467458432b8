"""A mesh with its database, and the ways in which the kill tests hurt it."""

import os
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from bend_server.bench.mesh import Mesh
from tests.e2e.ledger import Away, Ledger
from tests.e2e.scenario import Worker
from tests.kit.postgres import PostgresServer
from tests.kit.programs import alive

UP_S_MAX = 90.0
SQLITE = "sqlite"
POSTGRESQL = "postgresql"
# With SQLite engine and registry are one process.
ENGINES = {SQLITE: ("server",), POSTGRESQL: ("engine", "registry")}
COMMON = ("executor", "nats", "envoy", "components")


class Site(NamedTuple):
    """A running mesh, how to read its SQL, and its PostgreSQL server when it has one."""

    mesh: Mesh
    ledger: Ledger
    server: PostgresServer | None = None

    @property
    def database(self) -> str:
        """Which kind of database."""
        return POSTGRESQL if self.server else SQLITE

    def pids(self) -> dict[str, int]:
        """Return the process ids once every process of the mesh runs again.

        The supervisor names one that was killed just now until it has seen that.
        """
        deadline = time.monotonic() + UP_S_MAX
        wanted = {*ENGINES[self.database], *COMMON}
        while True:
            pids = self.mesh.pids()
            if wanted <= set(pids) and all(map(alive, pids.values())):
                return pids
            assert time.monotonic() < deadline, f"only {sorted(pids)} run"

    def number(self, query: str) -> int:
        """Return the one number that a query asks for, once the database answers again."""
        deadline = time.monotonic() + UP_S_MAX
        while True:
            try:
                ((found,),) = self.ledger.rows(query)
            except Away:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return int(found)

    def down(self) -> None:
        """Stop the mesh, then its database."""
        self.ledger.close()
        try:
            self.mesh.down()
        finally:
            if self.server is not None:
                self.server.stop()


Action = Callable[[Site, Worker, dict[str, int]], None]


def killer(*names: str) -> Action:
    """Return an action that kills processes of the mesh at once."""

    def action(site: Site, worker: Worker, pids: dict[str, int]) -> None:
        del site, worker
        for name in names:
            os.kill(pids[name], signal.SIGKILL)

    return action


def wipe_queue(site: Site, worker: Worker, pids: dict[str, int]) -> None:
    """Kill NATS and take its store away."""
    del worker
    home = site.mesh.home
    store = home / "nats"
    if store.exists():  # not yet made again since the last wipe, else
        store.rename(home / f"nats-gone-{time.monotonic_ns()}")
    os.kill(pids["nats"], signal.SIGKILL)


def kill_worker(site: Site, worker: Worker, pids: dict[str, int]) -> None:
    """Kill the component service and start another one."""
    del site, pids
    worker.kill()
    worker.start()


def kill_postgres(site: Site, worker: Worker, pids: dict[str, int]) -> None:
    """Kill the postmaster and start it again, as an init system would."""
    del worker, pids
    assert site.server is not None
    site.server.kill()
    site.server.start()


def kill_all(site: Site, worker: Worker, pids: dict[str, int]) -> None:
    """Kill every process of the mesh at once, and its PostgreSQL with them."""
    killer(*ENGINES[site.database], *COMMON)(site, worker, pids)
    if site.server is not None:
        kill_postgres(site, worker, pids)


# The tests of a mesh come in this order: a process that was killed again and again within seconds
# is started again ever later, so others take their turn between.
_SHARED: dict[str, Action] = {
    "nats": killer("nats"),
    "executor": killer("executor"),
    "nats_wiped": wipe_queue,
    "envoy": killer("envoy"),
    "worker": kill_worker,
    "all": kill_all,
}
ACTIONS: dict[str, dict[str, Action]] = {
    SQLITE: {"server": killer("server"), **_SHARED},
    POSTGRESQL: {
        "engine": killer("engine"),
        "registry": killer("registry"),
        "postgres": kill_postgres,
        **_SHARED,
    },
}
