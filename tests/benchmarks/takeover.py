"""How long an engine needs to take over partitions in which most executions are parked.

    python -m tests.benchmarks.takeover [sqlite] [postgresql] [--parked 1000000]

Rows go into SQL directly: executions whose first attempt failed and whose next one is far away, but
for 1,000 that are due soon and are brought into memory. The engine, its recovery and the store are
the real ones, the queue is the memory twin. The floor is 5 s.
"""

import argparse
import asyncio
import gc
import json
import tempfile
import time
from pathlib import Path

import uvloop
from sqlalchemy import text

from bend_server.bench.lock import heavy
from bend_server.core.ids import COUNTER_BITS, EPOCH_MS, PARTITION_BITS, PARTITIONS
from bend_server.engine import Engine, EngineOptions
from bend_server.engine.plans import StoredPlans
from bend_server.queue.memory import MemoryBroker, MemoryQueue
from bend_server.storage.database import Database
from bend_server.storage.opening import open_store
from bend_server.storage.stores import Stores
from tests.benchmarks.engine import WallClock, say
from tests.engine.house import MemoryBlobs, SeededChance
from tests.kit.postgres import PostgresServer

DUE = 1_000
FILL_S = 1_200.0
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
DOCUMENT = json.dumps(
    {"name": "wait", "tasks": [{"id": "a", "type": "bench.echo", "retry": {"max_attempts": 9}}]}
).encode()


async def fill(stores: Stores, count: int, now_us: int) -> None:
    """Insert the workflow, `count` parked executions, and what they wait for."""
    await stores.workflows.put_revision(
        "default",
        "wait",
        document=DOCUMENT,
        digest="wait",
        description="",
        labels=b"{}",
        task_count=1,
        pins=b"{}",
        plan_format=1,
        now_us=now_us,
        create_only=False,
    )
    began_us = now_us - HOUR_US
    first_ms = began_us // 1000 - EPOCH_MS
    execution = (
        f"((({first_ms} + i / {PARTITIONS}) << {COUNTER_BITS + PARTITION_BITS}) "
        f"| ((i % {PARTITIONS}) << {COUNTER_BITS}))"
    )
    wake = f"(CASE WHEN i < {DUE} THEN {now_us + 60_000_000} ELSE {now_us + DAY_US} + i END)"
    if stores.kind == "sqlite":
        numbers = (
            f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1})"
        )
        json_of = "CAST('{}' AS BLOB)"
        failure = "CAST(:failure AS BLOB)"
    else:
        numbers = f"WITH n AS (SELECT CAST(i AS bigint) FROM generate_series(0, {count - 1}) AS i)"
        json_of = "CAST('{}' AS bytea)"
        failure = "convert_to(CAST(:failure AS text), 'UTF8')"
    executions = text(
        f"{numbers} INSERT INTO execution (id, public_id, namespace, workflow, revision, "
        "partition, run, status, priority, actor, input, labels, trace, started_us, deadline_us, "
        f"first_run, first_status, parked, wake_at_us) SELECT {execution}, 'wait-' || {execution}, "
        f"'default', 'wait', 1, i % {PARTITIONS}, 1, 2, 5, 'user/ada', {json_of}, {json_of}, '', "
        f"{began_us}, {now_us + 7 * DAY_US}, 1, 2, 1, {wake} FROM n"
    )
    results = text(
        f"{numbers} INSERT INTO task_result (execution, seq, run, task, item, try, iteration, "
        "attempt, status, error, retry_at_us, worker, run_id, chunks, started_us, finished_us) "
        f"SELECT {execution}, 1, 1, 0, -1, 1, 0, 1, 6, {failure}, {wake}, 'w', 1, 0, "
        f"{began_us}, {began_us} FROM n"
    )
    database: Database = stores.reads._db  # type: ignore[attr-defined]
    values = {"failure": '{"reason":"AWAY","message":"","retryable":true}'}
    await database.write(lambda one: one.execute(executions), timeout_s=FILL_S)
    await database.write(lambda one: one.execute(results, values), timeout_s=FILL_S)


async def measure(kind: str, url: str, count: int) -> None:
    """Fill a database and let an engine take it over, three times."""
    clock = WallClock()
    stores = await open_store(url, clock)
    await fill(stores, count, clock.now_us())
    try:
        for turn in range(3):
            engine = Engine(
                stores.engine,
                MemoryQueue(MemoryBroker(), "engine"),
                MemoryBlobs(),
                clock,
                SeededChance(),
                StoredPlans(stores.engine),
                EngineOptions(name=f"taker{turn}"),
            )
            began = time.perf_counter()
            await engine.start()
            took = time.perf_counter() - began
            if not engine.ready or engine.live_count() != DUE:
                raise RuntimeError(f"{engine.reasons()}, {engine.live_count()} in memory")
            say("takeover", took, "s", database=kind, parked=count, due=DUE, turn=turn)
            await engine.stop()
    finally:
        await stores.close()


def main() -> None:
    """Measure the kinds named on the command line, or both."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.takeover")
    parser.add_argument("kinds", nargs="*", default=["sqlite", "postgresql"])
    parser.add_argument("--parked", type=int, default=1_000_000)
    arguments = parser.parse_args()
    gc.freeze()
    gc.set_threshold(50_000)
    for kind in arguments.kinds:
        with (
            heavy(),
            tempfile.TemporaryDirectory() as folder,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            if kind == "sqlite":
                runner.run(measure(kind, f"sqlite:///{Path(folder) / 'bend.db'}", arguments.parked))
                continue
            server = PostgresServer()
            try:
                server.start()
                runner.run(measure(kind, server.fresh_database(), arguments.parked))
            finally:
                server.stop()


if __name__ == "__main__":
    main()
