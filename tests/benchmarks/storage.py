"""Rows a second of the group commit, and the time to load what is unfinished.

    python -m tests.benchmarks.storage [sqlite] [postgresql]

Prints one line per figure. Nothing is asserted: figures depend on the machine.
"""

import asyncio
import gc
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from bend_server.core.ids import PARTITIONS
from bend_server.ports.store import Batch, Lease
from bend_server.storage.database import Database
from bend_server.storage.stores import Stores
from tests.kit.backends import Backend, own_all, put_workflow, write
from tests.kit.postgres import PostgresServer
from tests.kit.rows import DAY_US, T0_US, finish_row, result_row, start_row

RESULTS, STARTS = 128, 25
BATCHES = 400
UNFINISHED = 100_000
PARKED = 1_000_000
OUTPUT = b'{"text":"sixty bytes of output are what a small task returns."}'


def batches(count: int, first: int) -> list[Batch]:
    """Make batches of 25 starts, 128 results of the executions before, and their 25 ends."""
    made = []
    for number in range(count):
        at_us = T0_US + (first + number) * 1_000
        before_us = at_us - 1_000
        starts = [start_row(i, at_us=at_us, partition=i % PARTITIONS) for i in range(STARTS)]
        old = [start_row(i, at_us=before_us, partition=i % PARTITIONS).id for i in range(STARTS)]
        batch = Batch(starts=starts, starts_current=[True] * STARTS)
        if number:
            batch.results = [
                result_row(old[i % STARTS], i // STARTS, output=OUTPUT) for i in range(RESULTS)
            ]
            batch.finishes = [finish_row(execution, 9) for execution in old]
        made.append(batch)
    return made


async def commits(kind: str, stores: Stores, lease: Lease) -> None:
    """Time full group commits."""
    owned = frozenset(range(PARTITIONS))
    first = 0
    for name, count in (("warm up", 50), ("measured", BATCHES)):
        made = batches(count, first)
        first += count + 1
        rows = sum(map(len, made))
        began, cpu = time.perf_counter(), time.process_time()
        for batch in made:
            await stores.engine.commit(lease, owned, batch)
        took = time.perf_counter() - began
        print(
            f"{kind} commit {name}: {rows / took:,.0f} rows/s, {took / rows * 1e6:.2f} us per row, "
            f"{took / count * 1e3:.2f} ms per commit, "
            f"{(time.process_time() - cpu) / rows * 1e6:.2f} us CPU here per row"
        )
    single = [Batch(starts=[start_row(i, at_us=T0_US + DAY_US)]) for i in range(200)]
    began = time.perf_counter()
    for batch in single:
        await write(stores, lease, batch)
    print(f"{kind} commit of one start: {(time.perf_counter() - began) / 200 * 1e3:.2f} ms")


async def recovery(kind: str, stores: Stores, lease: Lease) -> None:
    """Time the load of unfinished executions with two results each."""
    owned = frozenset(range(PARTITIONS))
    for first in range(0, UNFINISHED, 1_000):
        at_us = T0_US + 2 * DAY_US + first * 1_000
        starts = [start_row(i, at_us=at_us, partition=i % PARTITIONS) for i in range(1_000)]
        results = [result_row(row.id, seq, output=OUTPUT) for row in starts for seq in (1, 2)]
        batch = Batch(starts=starts, starts_current=[True] * len(starts), results=results)
        await stores.engine.commit(lease, owned, batch)
    began = time.perf_counter()
    count = rows = 0
    async for page in stores.engine.load_unfinished(range(PARTITIONS), 1_000):
        count += len(page)
        rows += sum(len(one.results) for one in page)
    took = time.perf_counter() - began
    print(f"{kind} load of {count:,} unfinished with {rows:,} results: {took:.2f} s")


async def takeover(kind: str, stores: Stores) -> None:
    """Time the reads of a takeover over a million parked executions, of which 1,000 are due."""
    database: Database = stores.reads._db  # type: ignore[attr-defined]
    numbers = (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {PARKED})"
        if kind == "sqlite"
        else f"WITH n AS (SELECT i FROM generate_series(1, {PARKED}) AS i)"
    )
    fill = text(
        f"{numbers} INSERT INTO execution (id, public_id, namespace, workflow, revision, "
        "partition, run, status, priority, actor, input, labels, trace, started_us, deadline_us, "
        "first_run, first_status, parked, wake_at_us) "
        "SELECT i, 'triage-' || i, 'default', 'triage', 1, i % 64, 1, 2, 5, 'user/ada', "
        f"input, labels, '', {T0_US} + i, {T0_US + DAY_US}, 1, 2, 1, {T0_US} + i FROM n, "
        "(SELECT input, labels FROM execution LIMIT 1) AS one"
    )
    await database.write(lambda connection: connection.execute(fill), timeout_s=600)
    began = time.perf_counter()
    pages = [len(page) async for page in stores.engine.load_unfinished(range(PARTITIONS), 1_000)]
    took = time.perf_counter() - began
    due = await stores.engine.load_due(range(PARTITIONS), T0_US + 1_001, 1_000)
    both = time.perf_counter() - began
    print(
        f"{kind} takeover with {PARKED:,} parked: {sum(pages):,} unfinished in {took:.2f} s, "
        f"{len(due):,} due in {both - took:.2f} s"
    )


async def measure(kind: str, folder: Path, url: str | None) -> None:
    """Run all of it on one database."""
    backend = Backend(kind, folder, url)
    async with backend.open() as stores:
        await put_workflow(stores)
        lease = await own_all(stores)
        lease = await stores.engine.renew_lease(lease, 3_600_000_000)
        await commits(kind, stores, lease)
        await recovery(kind, stores, lease)
        await takeover(kind, stores)


def main() -> None:
    """Measure the kinds named on the command line, or both."""
    # As the server's processes do after their start.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)
    for kind in sys.argv[1:] or ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory() as folder:
            if kind == "sqlite":
                asyncio.run(measure(kind, Path(folder), None))
                continue
            server = PostgresServer()
            try:
                server.start()
                asyncio.run(measure(kind, Path(folder), server.fresh_database()))
            finally:
                server.stop()


if __name__ == "__main__":
    main()
