"""How long work stands still after one kill, by hand: `python -m tests.benchmarks.kills`.

A mesh on SQLite runs 2,000 chains of five six times; in the middle of each run one SIGKILL ends the
executor, or every process of the mesh. Printed are the longest time without a row in SQL, and when
the last chain ended. The kill tests kill more often and so hide what waits behind what goes on.
"""

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

from bend_server.bench.lock import heavy
from bend_server.bench.mesh import Mesh
from tests.e2e import scenario
from tests.e2e.ledger import SqliteLedger
from tests.e2e.site import COMMON, ENGINES, SQLITE, Site

CHAINS = 2000
KILL_AT = 2000
EXECUTOR = ("executor",)
ALL = (*ENGINES[SQLITE], *COMMON)


def one_kill(site: Site, caller: scenario.Caller, first: int, victims: tuple[str, ...]) -> str:
    """Run the chains with values from `first` on, kill in their middle; return what was seen."""
    since = site.number("SELECT coalesce(max(id), 0) FROM execution")

    def start() -> None:
        for value in range(first, first + CHAINS, scenario.BATCH):
            caller.start(value, scenario.BATCH)

    with scenario.Progress(site.ledger, since) as progress:
        starter = threading.Thread(target=start)
        starter.start()
        progress.until(lambda: progress.rows >= KILL_AT)
        starter.join()
        pids, left = site.pids(), CHAINS * scenario.LENGTH - progress.rows
        began = time.monotonic()
        for name in victims:
            os.kill(pids[name], signal.SIGKILL)
        progress.until(lambda: progress.unfinished == 0)
        ended = time.monotonic() - began
    load = os.getloadavg()[0]
    return (
        f"{left} steps left, stall {progress.stall_s:.1f} s, all done after {ended:.1f} s, "
        f"load {load:.0f}"
    )


def main() -> None:
    """Print one line a kill."""
    with heavy(), tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        site = Site(Mesh(home, None), SqliteLedger(home / "bend.db"))
        site.mesh.up()
        worker = scenario.Worker(site.mesh)
        try:
            worker.start()
            caller = scenario.Caller(site.mesh)
            caller.deploy()
            for number, victims in enumerate((EXECUTOR, EXECUTOR, ALL) * 2):
                what = "all" if victims is ALL else victims[0]
                print(f"{what}: {one_kill(site, caller, number * CHAINS, victims)}", flush=True)
        finally:
            worker.kill()
            site.down()


if __name__ == "__main__":
    main()
