"""What the database refuses leaves nothing, and commits do not disturb each other."""

import asyncio

import pytest

from bend_server.core.errors import DependencyDown, DomainError, LeaseLost
from bend_server.ports.store import Batch, Park, StatusChange
from tests.kit.backends import Backend, write
from tests.kit.loops import in_loop
from tests.kit.rows import event_row, finish_row, result_row, start_row

BIG = 1 << 70


@pytest.fixture(params=["number", "text"])
def poison(request: pytest.FixtureRequest) -> dict[str, object]:
    """A value that no database can take."""
    return {"number": {"chunks": BIG}, "text": {"worker": "\ud800"}}[request.param]


@in_loop
async def test_a_poisoned_row_leaves_nothing(
    sql_backend: Backend, poison: dict[str, object]
) -> None:
    """Poison stays alone: the engine then replays one execution at a time, on a clean table."""
    async with sql_backend.ready() as (stores, lease):
        old, new = start_row(1), start_row(2, request_id="r")
        await write(stores, lease, Batch(starts=[old]))
        batch = Batch(
            starts=[new],
            results=[result_row(old.id, 1), result_row(new.id, 1, **poison)],
            events=[event_row(old.id, 2)],
            finishes=[finish_row(new.id, 3)],
        )
        with pytest.raises(DomainError) as caught:
            await write(stores, lease, batch)
        assert not isinstance(caught.value, DependencyDown | LeaseLost)
        assert await stores.engine.load(new.id) is None
        assert await stores.engine.find_request("default", "r") is None
        stored = await stores.engine.load(old.id)
        assert stored is not None
        assert (stored.results, stored.events) == ([], [])
        batch.results = batch.results[:1]
        assert (await write(stores, lease, batch)).started == {new.id}


@in_loop
async def test_every_kind_of_change_in_one_batch(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        rows = [start_row(n) for n in range(6)]
        await write(stores, lease, Batch(starts=rows[:5]))
        batch = Batch(
            starts=[rows[5]],
            results=[result_row(row.id, 1) for row in rows],
            finishes=[finish_row(rows[0].id, 9), finish_row(rows[1].id, 9, status=6)],
            parks=[Park(rows[1].id, 7), Park(rows[2].id, 8), Park(rows[3].id, None)],
            changes=[
                StatusChange(rows[1].id, 3, "x"),
                StatusChange(rows[3].id, 3, "QUARANTINED"),
                StatusChange(rows[4].id, 3, "PAUSED"),
                StatusChange(rows[4].id, 2, None),
            ],
        )
        await write(stores, lease, batch)
        states = []
        for row in rows:
            stored = await stores.engine.load(row.id)
            assert stored is not None
            states.append((stored.status, stored.pause_reason, stored.finish is not None))
            assert len(stored.results) == 1
        assert states == [
            (4, None, True),
            (6, None, True),
            (2, None, False),
            (3, "QUARANTINED", False),
            (2, None, False),
            (2, None, False),
        ]
        loaded = [one async for page in stores.engine.load_unfinished([3], 9) for one in page]
        assert [one.start.id for one in loaded] == [rows[4].id, rows[5].id]
        due = await stores.engine.load_due([3], 10**18, 9)
        assert [one.start.id for one in due] == [rows[2].id]


@in_loop
async def test_commits_at_once_are_all_written(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        starts = [start_row(n) for n in range(40)]
        async with asyncio.TaskGroup() as group:
            for row in starts:
                group.create_task(
                    write(stores, lease, Batch(starts=[row], results=[result_row(row.id, 1)]))
                )
        loaded = [one async for page in stores.engine.load_unfinished([3], 99) for one in page]
        assert [one.start.id for one in loaded] == [row.id for row in starts]
        assert all(len(one.results) == 1 for one in loaded)


@in_loop
async def test_a_large_batch_is_one_commit(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        starts = [start_row(n, request_id=f"r{n}", labels=b'{"n":"%d"}' % n) for n in range(1_000)]
        batch = Batch(starts=starts, results=[result_row(row.id, 1) for row in starts])
        committed = await write(stores, lease, batch)
        assert len(committed.started) == 1_000
        found = await stores.reads.executions(
            "default", workflow=None, statuses=[], label=("n", "77"), before=None, limit=5
        )
        assert [row.id for row in found] == [starts[77].id]
