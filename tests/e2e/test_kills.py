"""SIGKILL on the real mesh at random points: nothing is lost, nothing is counted twice.

What would break in production if these fail: the promise of the product.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.e2e import scenario
from tests.e2e.ledger import PostgresLedger, SqliteLedger
from tests.e2e.site import ACTIONS, POSTGRESQL, SQLITE, Site
from tests.kit.postgres import PostgresServer

pytestmark = [pytest.mark.kill, pytest.mark.timeout(480)]

KILLS = {SQLITE: 3, POSTGRESQL: 2}
CASES = [
    pytest.param(
        database,
        victim,
        id=f"{database}-{victim}",
        marks=[pytest.mark.postgres] if database == POSTGRESQL else [],
    )
    for database, actions in ACTIONS.items()
    for victim in actions
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """Run one PostgreSQL for this module; skips where there is none."""
    with heavy():
        server = PostgresServer()
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture
def site(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A fresh mesh on a fresh database, alone on the machine."""
    with heavy():
        home = tmp_path / "home"
        server: PostgresServer | None = None
        if database == POSTGRESQL:
            server = request.getfixturevalue("postgres")
            url = server.fresh_database()
            made = Site(Mesh(home, url), PostgresLedger(url), server)
        else:
            made = Site(Mesh(home, None), SqliteLedger(home / "bend.db"))
        made.mesh.up()
        try:
            yield made
        finally:
            made.ledger.close()
            made.mesh.down()


@pytest.mark.parametrize(("database", "victim"), CASES)
def test_a_killed_process_loses_and_doubles_nothing(
    site: Site, database: str, victim: str, figure: Callable[[str], None]
) -> None:
    chance = scenario.seeded(f"{victim} on {database}")
    worker = scenario.Worker(site.mesh)
    worker.start()
    caller = scenario.Caller(site.mesh)
    caller.deploy()
    ids: dict[str, int] = {}

    def start_all() -> None:
        for first in range(0, scenario.EXECUTIONS, scenario.BATCH):
            ids.update(caller.start(first, scenario.BATCH))

    total = scenario.EXECUTIONS * scenario.LENGTH
    points = sorted(int(total * chance.uniform(0.02, 0.7)) for _ in range(KILLS[database]))
    progress = scenario.Progress(site.ledger)
    starter = threading.Thread(target=start_all)
    starter.start()
    in_flight = []
    try:
        for point in points:
            pids = site.pids()
            progress.look()
            # However slowly the machine starts them: the first kill comes when many are in flight.
            while progress.rows < point or (
                not in_flight and progress.unfinished < scenario.IN_FLIGHT_MIN
            ):
                progress.look()
            if in_flight and progress.unfinished < scenario.IN_FLIGHT_MIN:
                break  # the run was faster than the mesh came back: enough was killed
            in_flight.append(progress.unfinished)
            ACTIONS[database][victim](site, worker, pids)
        while starter.is_alive():
            progress.look()
        progress.look()  # at what was started last
        while progress.unfinished:
            progress.look()
    finally:
        starter.join(scenario.END_S_MAX)
        worker.kill()
    verdict = scenario.judge(site.ledger, ids, worker.file)
    stall = f"stall {progress.stall_s:.2f} s"
    figure(f"{victim} on {database}: in flight {in_flight}, {verdict}, {stall}")
    assert verdict[:4] == (0, 0, 0, 0)
    assert min(in_flight) >= scenario.IN_FLIGHT_MIN
    assert len(ids) == scenario.EXECUTIONS
