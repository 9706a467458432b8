"""Random histories: SQL does what its twin in memory does, so the simulation proves something."""

import random
from typing import Any

from bend_server.core.errors import DomainError
from bend_server.core.model import Reopen
from bend_server.ports.store import Batch, Lease, Park, StatusChange
from bend_server.storage.memory import MemoryDatabase
from bend_server.storage.stores import Stores, memory_stores
from tests.kit.backends import Backend, own_all, put_workflow
from tests.kit.loops import in_loop
from tests.kit.rows import T0_US, finish_row, result_row, start_row
from tests.kit.seeds import chance_of

HISTORIES = 8
STEPS = 25
NUMBERS = 12
PARTITIONS = (3, 4, 5)


def random_batch(chance: random.Random, base: int) -> Batch:
    """Make a batch that is right, or wrong in some way that a store must notice."""
    numbers = range(base, base + NUMBERS)
    partition = {number: PARTITIONS[number % 3] for number in numbers}

    def start(number: int) -> Any:
        changes: dict[str, Any] = {}
        if chance.random() < 0.4:
            changes["request_id"] = f"r{base}-{chance.randrange(6)}"
            changes["request_hash"] = b"%d" % number
        if chance.random() < 0.3:
            changes["public_id"] = f"mine-{base}-{chance.randrange(6)}"
        if chance.random() < 0.3:
            changes["labels"] = b'{"team":"%d"}' % chance.randrange(3)
        if chance.random() < 0.2:
            changes["revision"] = 2
        if chance.random() < 0.1:
            changes["workflow"] = "unknown"
        return start_row(number, partition=partition[number], **changes)

    def execution() -> int:
        number = chance.choice(numbers)
        return start_row(number, partition=partition[number]).id

    def few(make: Any, most: int) -> list[Any]:
        return [make() for _ in range(chance.randrange(most + 1))]

    batch = Batch(starts=[start(number) for number in chance.sample(numbers, 4)])
    batch.starts_current = [chance.random() < 0.7 for _ in batch.starts]
    own = [row.id for row in batch.starts]
    if chance.random() < 0.5:
        batch.results = [
            result_row(number, chance.randrange(1 << 20), task=chance.randrange(1 << 20))
            for number in chance.sample(own, 2)
        ]
        batch.finishes = [finish_row(number, 9) for number in chance.sample(own, 1)]
        return batch
    batch.starts = chance.sample(batch.starts, chance.randrange(3))
    batch.starts_current = [True] * len(batch.starts)
    if chance.random() < 0.6:
        batch.parks = few(lambda: Park(execution(), chance.choice([None, 0, T0_US + 9])), 2)
    if chance.random() < 0.6:
        batch.changes = few(
            lambda: StatusChange(execution(), chance.choice([2, 3]), chance.choice([None, "x"])), 2
        )
    if chance.random() < 0.5:
        batch.finishes = few(lambda: finish_row(execution(), 9, status=chance.choice([4, 5])), 2)
    if chance.random() < 0.2:
        batch.reopens = [Reopen(execution(), chance.choice([1, 2, 3]), T0_US + 5)]
    return batch


async def outcome(stores: Stores, lease: Lease, batch: Batch) -> object:
    """Commit; return what was started, or the kind of error."""
    try:
        committed = await stores.engine.commit(lease, frozenset(PARTITIONS), batch)
    except DomainError as error:
        return type(error).__name__
    return committed.started


async def everything(stores: Stores, base: int) -> dict[str, Any]:
    """Return all that the ports can tell of a history's executions."""
    engine, reads = stores.engine, stores.reads
    ids = [start_row(n, partition=PARTITIONS[n % 3]).id for n in range(base, base + NUMBERS)]
    unfinished = [one async for page in engine.load_unfinished(PARTITIONS, 5) for one in page]
    mine = set(ids)
    return {
        "loaded": [await engine.load(number) for number in ids],
        "unfinished": [one for one in unfinished if one.start.id in mine],
        "due": [
            one
            for one in await engine.load_due(PARTITIONS, T0_US + 100, 1_000)
            if one.start.id in mine
        ],
        "statuses": await engine.statuses(ids),
        "summaries": await reads.executions_by_id("default", ids, payloads=True),
        "requests": [await engine.find_request("default", f"r{base}-{n}") for n in range(6)],
        "names": [await engine.find_public("default", f"mine-{base}-{n}") for n in range(6)],
        "teams": [
            [
                row.id
                for row in await reads.executions(
                    "default",
                    workflow="triage",
                    statuses=[2, 3, 4, 5],
                    label=("team", str(team)),
                    before=None,
                    limit=1_000,
                )
                if row.id in mine
            ]
            for team in range(3)
        ],
    }


@in_loop
async def test_sql_does_what_memory_does(sql_backend: Backend) -> None:
    seed, chance = chance_of("twins")
    twin = memory_stores(MemoryDatabase(sql_backend.clock))
    async with sql_backend.open() as real:
        for stores in (real, twin):
            await put_workflow(stores)
            await put_workflow(stores, b"name: triage # 2")
        leases = {id(stores): await own_all(stores) for stores in (real, twin)}
        for history in range(HISTORIES):
            base = history * NUMBERS
            for step in range(STEPS):
                batch = random_batch(chance, base)
                answers = [await outcome(s, leases[id(s)], batch) for s in (real, twin)]
                assert answers[0] == answers[1], f"seed {seed}, {history}.{step}: {batch}"
            told, expected = await everything(real, base), await everything(twin, base)
            for what, value in expected.items():
                assert told[what] == value, f"seed {seed}, {history}: {what}"
