"""Invariant 2: nothing is visible before its transaction has committed, and then all of it is."""

import asyncio

from bend_server.ports.store import Batch
from bend_server.storage.stores import Stores
from tests.kit.backends import Backend, write
from tests.kit.loops import in_loop
from tests.kit.rows import event_row, finish_row, result_row, start_row

ROWS = 300


async def seen(stores: Stores, execution: int) -> tuple[int, int, bool, bool]:
    """Return what one snapshot shows of an execution: results, events, its end, its presence."""
    stored = await stores.engine.load(execution)
    if stored is None:
        return 0, 0, False, False
    return len(stored.results), len(stored.events), stored.finish is not None, True


@in_loop
async def test_invariant_2_a_batch_is_seen_whole_or_not_at_all(backend: Backend) -> None:
    """Readers run all the time while batches are written."""
    async with backend.ready() as (stores, lease):
        row = start_row(1)
        batches = [
            Batch(starts=[row], results=[result_row(row.id, seq) for seq in range(ROWS)]),
            Batch(
                results=[result_row(row.id, seq) for seq in range(ROWS, 2 * ROWS)],
                events=[event_row(row.id, seq) for seq in range(2 * ROWS, 3 * ROWS)],
                finishes=[finish_row(row.id, 3 * ROWS)],
            ),
        ]
        states = [
            (0, 0, False, False),
            (ROWS, 0, False, True),
            (2 * ROWS, ROWS, True, True),
        ]
        for number, batch in enumerate(batches):
            writing = asyncio.create_task(write(stores, lease, batch))
            while not writing.done():
                assert await seen(stores, row.id) in states[number : number + 2]
                # Memory answers without waiting: let the writer have its turn.
                await asyncio.sleep(0)
            await writing
            assert await seen(stores, row.id) == states[number + 1]


@in_loop
async def test_a_list_shows_only_what_is_committed(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        starts = [start_row(n, labels=b'{"wave":"1"}') for n in range(200)]
        writing = asyncio.create_task(write(stores, lease, Batch(starts=starts)))
        sizes = set()
        while not writing.done():
            page = await stores.reads.executions(
                "default",
                workflow=None,
                statuses=[],
                label=("wave", "1"),
                before=None,
                limit=1_000,
            )
            sizes.add(len(page))
            await asyncio.sleep(0)
        assert sizes <= {0, 200}
        assert len((await writing).started) == 200
