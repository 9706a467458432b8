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
UNFINISHED = f"SELECT count(*) FROM execution WHERE status <> {scenario.COMPLETED_EXECUTION}"
RESULTS = f"SELECT count(*) FROM task_result WHERE status = {scenario.COMPLETED_TASK}"
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


class Sites:
    """One mesh at a time; it serves the tests of its database one after the other.

    A mesh that has come through one test is the next one's, with all its rows: what a kill did must
    not show later either. One that a test left with work undone is replaced.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        self._site: Site | None = None
        self.wished = 0

    def take(self, database: str) -> Site:
        """Return a mesh on a database, with no execution unfinished."""
        if self._site is not None and (self._site.database != database or not self.whole()):
            self.close()
        if self._site is None:
            self._site = self._fresh(database)
        return self._site

    def _fresh(self, database: str) -> Site:
        self._made += 1
        self.wished = 0
        home = self._folder / f"home{self._made}"
        if database == SQLITE:
            site = Site(Mesh(home, None), SqliteLedger(home / "bend.db"))
        else:
            server = PostgresServer()
            server.start()
            url = server.fresh_database()
            site = Site(Mesh(home, url), PostgresLedger(url), server)
        try:
            site.mesh.up()
        except BaseException:
            site.down()
            raise
        return site

    def values(self) -> range:
        """Return input values that no execution of this mesh has had."""
        self.wished += scenario.EXECUTIONS
        return range(self.wished - scenario.EXECUTIONS, self.wished)

    def whole(self) -> bool:
        """Tell whether every step of every execution so far is there exactly once."""
        assert self._site is not None
        done = self._site.number(RESULTS)
        return done == self.wished * scenario.LENGTH and not self._site.number(UNFINISHED)

    def close(self) -> None:
        """Stop the mesh."""
        if self._site is not None:
            site, self._site = self._site, None
            site.down()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Meshes, alone on the machine."""
    with heavy():
        made = Sites(tmp_path_factory.mktemp("kills"))
        try:
            yield made
        finally:
            made.close()


@pytest.mark.parametrize(("database", "victim"), CASES)
def test_a_killed_process_loses_and_doubles_nothing(
    sites: Sites, database: str, victim: str, figure: Callable[[str], None]
) -> None:
    chance = scenario.seeded(f"{victim} on {database}")
    site = sites.take(database)
    since = site.number("SELECT coalesce(max(id), 0) FROM execution")
    values = sites.values()
    worker = scenario.Worker(site.mesh, f"journal-{victim}")
    worker.start()
    caller = scenario.Caller(site.mesh)
    caller.deploy()
    ids: dict[str, int] = {}

    def start_all() -> None:
        for first in values[:: scenario.BATCH]:
            ids.update(caller.start(first, scenario.BATCH))

    total = scenario.EXECUTIONS * scenario.LENGTH
    first = int(total * chance.uniform(0.02, 0.3))
    later = sorted(int(total * chance.uniform(0.02, 0.7)) for _ in range(KILLS[database] - 1))
    starter = threading.Thread(target=start_all)
    in_flight: list[int] = []
    with scenario.Progress(site.ledger, since) as progress:
        starter.start()
        try:
            for point in (first, *later):
                pids = site.pids()
                # However slowly the machine starts them: the first kill comes when many are in
                # flight, and not so late that few would be left.
                progress.until(
                    lambda point=point: (
                        progress.rows >= point
                        if in_flight
                        else progress.unfinished >= scenario.IN_FLIGHT_MIN
                        and (progress.rows >= point or progress.falling)
                    )
                )
                if in_flight and progress.unfinished < scenario.IN_FLIGHT_MIN:
                    break  # the run was faster than the mesh came back: enough was killed
                in_flight.append(progress.unfinished)
                ACTIONS[database][victim](site, worker, pids)
            starter.join(scenario.END_S_MAX)
            progress.until(lambda: progress.unfinished == 0)
        finally:
            starter.join(scenario.END_S_MAX)
            worker.kill()
    verdict = scenario.judge(site.ledger, ids, worker.file, since)
    stall = f"stall {progress.stall_s:.2f} s"
    figure(f"{victim} on {database}: in flight {in_flight}, {verdict}, {stall}")
    assert verdict[:4] == (0, 0, 0, 0)
    assert min(in_flight) >= scenario.IN_FLIGHT_MIN
    assert len(ids) == scenario.EXECUTIONS
    assert sites.whole()
