"""What recovery, parking, the sweeper and retention read. Invariant 1: SQL is enough to rebuild."""

from bend_server.core.ids import PARTITIONS
from bend_server.core.model import ExecutionStatus, StartRow, StatusChange
from bend_server.ports.store import Batch, Lease, Park
from bend_server.storage.stores import Stores
from tests.kit.backends import Backend, write
from tests.kit.loops import in_loop
from tests.kit.rows import DAY_US, T0_US, event_row, finish_row, result_row, start_row

ALL = range(PARTITIONS)


async def fill(stores: Stores, lease: Lease, count: int) -> list[StartRow]:
    """Write executions over all partitions: every third has ended, every fifth is parked."""
    starts = [start_row(n, partition=(n * 7) % PARTITIONS) for n in range(count)]
    batch = Batch(starts=starts)
    batch.results = [result_row(row.id, seq) for row in starts for seq in (3, 1)]
    batch.events = [event_row(row.id, seq) for row in starts for seq in (4, 2)]
    batch.finishes = [finish_row(row.id, 5) for row in starts[::3]]
    batch.parks = [
        Park(row.id, T0_US + n) for n, row in enumerate(starts) if n % 5 == 0 and n % 3 != 0
    ]
    await write(stores, lease, batch, *ALL)
    return starts


@in_loop
async def test_invariant_1_sql_is_enough_to_rebuild(backend: Backend) -> None:
    """Pages hold every open execution of the partitions once, with all its rows in order."""
    async with backend.ready() as (stores, lease):
        starts = await fill(stores, lease, 100)
        open_ = sorted(row for n, row in enumerate(starts) if n % 3 and n % 5)
        pages = [page async for page in stores.engine.load_unfinished(ALL, 7)]
        assert all(1 <= len(page) <= 7 for page in pages)
        stored = [one for page in pages for one in page]
        assert [one.start for one in stored] == open_
        for one in stored:
            assert one.results == [result_row(one.start.id, seq) for seq in (1, 3)]
            assert one.events == [event_row(one.start.id, seq) for seq in (2, 4)]
            assert (one.status, one.run, one.pause_reason, one.finish) == (2, 1, None, None)
        few = [one async for page in stores.engine.load_unfinished([5, 6], 7) for one in page]
        assert [one.start for one in few] == [row for row in open_ if row.partition in {5, 6}]
        assert [page async for page in stores.engine.load_unfinished([], 7)] == []


@in_loop
async def test_what_is_parked_comes_when_it_is_due(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        soon, later, never, awake = (start_row(n) for n in range(4))
        await write(stores, lease, Batch(starts=[soon, later, never, awake]))
        parks = [
            Park(later.id, T0_US + 20),
            Park(soon.id, T0_US + 10),
            Park(never.id, None),
            Park(awake.id, T0_US + 5),
        ]
        await write(stores, lease, Batch(parks=parks, results=[result_row(later.id, 1)]))
        await write(stores, lease, Batch(parks=[Park(awake.id, 0)]))

        async def due(before_us: int, limit: int = 10) -> list[int]:
            found = await stores.engine.load_due([3, 4], before_us, limit)
            return [one.start.id for one in found]

        assert await due(T0_US + 10) == []
        assert await due(T0_US + 11) == [soon.id]
        assert await due(T0_US + 100) == [soon.id, later.id]
        assert await due(T0_US + 100, limit=1) == [soon.id]
        assert await stores.engine.load_due([4], T0_US + 100, 10) == []
        found = await stores.engine.load_due([3], T0_US + 100, 10)
        assert found[1].results == [result_row(later.id, 1)]
        unfinished = [one async for page in stores.engine.load_unfinished([3], 9) for one in page]
        assert [one.start.id for one in unfinished] == [awake.id]
        await write(stores, lease, Batch(finishes=[finish_row(soon.id, 1)]))
        assert await due(T0_US + 100) == [later.id]


@in_loop
async def test_the_sweeper_finds_what_is_overdue(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        rows = [start_row(n, deadline_us=T0_US + n) for n in range(6)]
        other = start_row(9, partition=4, deadline_us=T0_US)
        await write(stores, lease, Batch(starts=[*rows, other]), 3, 4)
        await write(
            stores,
            lease,
            Batch(finishes=[finish_row(rows[1].id, 1)], parks=[Park(rows[2].id, None)]),
        )
        ids = [row.id for row in rows]
        engine = stores.engine
        assert await engine.overdue([3], T0_US + 4, 0, 10) == [ids[0], ids[2], ids[3]]
        assert await engine.overdue([3], T0_US + 4, 0, 2) == [ids[0], ids[2]]
        assert await engine.overdue([3], T0_US + 4, ids[2], 2) == [ids[3]]
        assert await engine.overdue([3, 4], T0_US + 1, 0, 10) == sorted([ids[0], other.id])
        paused = StatusChange(ids[0], ExecutionStatus.PAUSED, "lunch")
        await write(stores, lease, Batch(changes=[paused]))
        assert await engine.overdue([3], T0_US + 4, 0, 10) == [ids[2], ids[3]]


@in_loop
async def test_statuses_and_single_reads(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        one, two = start_row(1), start_row(2)
        await write(stores, lease, Batch(starts=[one, two], finishes=[finish_row(two.id, 1)]))
        assert await stores.engine.statuses([one.id, two.id, 5]) == {one.id: 2, two.id: 4}
        assert await stores.engine.statuses([]) == {}
        assert await stores.engine.load(5) is None
        assert await stores.engine.workflow_state("default", "triage") == (1, False)
        assert await stores.engine.workflow_state("default", "other") is None
        current = await stores.engine.load_revision("default", "triage", None)
        assert current is not None
        assert current == await stores.engine.load_revision("default", "triage", 1)
        assert await stores.engine.load_revision("default", "triage", 2) is None
        assert await stores.engine.load_revision("default", "other", None) is None


@in_loop
async def test_retention_deletes_every_row_of_an_execution(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        old, new, open_ = (
            start_row(n, labels=b'{"team":"a"}', at_us=T0_US + n) for n in range(1, 4)
        )
        batch = Batch(starts=[old, new, open_])
        batch.results = [result_row(row.id, 1) for row in batch.starts]
        batch.events = [event_row(row.id, 2) for row in batch.starts]
        batch.finishes = [
            finish_row(old.id, 3, finished_us=T0_US + 100),
            finish_row(new.id, 3, finished_us=T0_US + DAY_US),
        ]
        await write(stores, lease, batch)
        engine, reads = stores.engine, stores.reads
        assert await engine.forget_finished(T0_US + 100, 10) == []
        assert await engine.forget_finished(T0_US + 101, 10) == [(old.id, "default")]
        assert await engine.load(old.id) is None
        assert (await reads.history(old.id)).results == []
        assert (await reads.history(old.id)).events == []
        assert await engine.find_public("default", old.public_id) is None
        listed = await reads.executions(
            "default", workflow=None, statuses=[], label=("team", "a"), before=None, limit=10
        )
        assert [row.id for row in listed] == [open_.id, new.id]
        assert len((await reads.history(new.id)).results) == 1
        assert await engine.forget_finished(T0_US + 2 * DAY_US, 10) == [(new.id, "default")]
        assert await engine.forget_finished(T0_US + 2 * DAY_US, 10) == []


@in_loop
async def test_retention_works_in_bounded_pages(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        starts = [start_row(n) for n in range(5)]
        ends = [finish_row(row.id, 1, finished_us=T0_US - n) for n, row in enumerate(starts)]
        await write(stores, lease, Batch(starts=starts, finishes=ends))
        gone = await stores.engine.forget_finished(T0_US + 1, 3)
        assert [number for number, _ in gone] == [row.id for row in starts[:1:-1]]
        assert len(await stores.engine.forget_finished(T0_US + 1, 3)) == 2
