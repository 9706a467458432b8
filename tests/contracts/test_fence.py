"""Invariant 3: one writer per execution; a stale owner writes no row, in no table."""

from collections.abc import Callable

import pytest

from bend_server.core.errors import LeaseLost
from bend_server.core.ids import PARTITIONS
from bend_server.core.model import StartRow
from bend_server.ports.store import Batch, Lease, Park, StatusChange
from bend_server.storage.stores import Stores
from tests.kit.backends import LEASE_US, Backend, own_all, put_workflow, write
from tests.kit.loops import in_loop
from tests.kit.rows import event_row, finish_row, result_row, start_row

OLD, NEW = start_row(1), start_row(2, request_id="r", request_hash=b"h", labels=b'{"a":"b"}')
PARTS: dict[str, Callable[[], Batch]] = {
    "starts": lambda: Batch(starts=[NEW], starts_current=[True]),
    "results": lambda: Batch(results=[result_row(OLD.id, 1)]),
    "events": lambda: Batch(events=[event_row(OLD.id, 1)]),
    "finishes": lambda: Batch(finishes=[finish_row(OLD.id, 1)]),
    "parks": lambda: Batch(parks=[Park(OLD.id, 5)]),
    "changes": lambda: Batch(changes=[StatusChange(OLD.id, 3, "QUARANTINED")]),
    "all": lambda: Batch(
        starts=[NEW],
        starts_current=[True],
        results=[result_row(OLD.id, 1), result_row(NEW.id, 1)],
        events=[event_row(OLD.id, 2), event_row(NEW.id, 2)],
        finishes=[finish_row(NEW.id, 3)],
        parks=[Park(OLD.id, 5)],
        changes=[StatusChange(OLD.id, 3, "QUARANTINED")],
    ),
}
each_part = pytest.mark.parametrize("part", PARTS)


async def nothing_was_written(stores: Stores, old: StartRow = OLD) -> None:
    """Check every table that a commit can touch."""
    stored = await stores.engine.load(old.id)
    assert stored is not None
    assert (stored.start, stored.status, stored.pause_reason) == (old, 2, None)
    assert (stored.results, stored.events, stored.finish) == ([], [], None)
    assert [len(page) async for page in stores.engine.load_unfinished([3], 10)] == [1]
    assert await stores.engine.load(NEW.id) is None
    assert (await stores.reads.history(NEW.id)).results == []
    assert (await stores.reads.history(NEW.id)).events == []
    assert await stores.engine.find_request("default", "r") is None
    listed = await stores.reads.executions(
        "default", workflow=None, statuses=[], label=("a", "b"), before=None, limit=10
    )
    assert listed == []


@each_part
@in_loop
async def test_invariant_3_a_stale_epoch_writes_no_row(backend: Backend, part: str) -> None:
    async with backend.ready() as (stores, lease):
        await write(stores, lease, Batch(starts=[OLD]))
        with pytest.raises(LeaseLost):
            await write(stores, lease._replace(epoch=lease.epoch - 1), PARTS[part]())
        await nothing_was_written(stores)


@each_part
@in_loop
async def test_an_engine_that_was_replaced_writes_no_row(backend: Backend, part: str) -> None:
    """The next incarnation voids the lease of the one before, however it ended."""
    async with backend.ready() as (stores, lease):
        await write(stores, lease, Batch(starts=[OLD]))
        await stores.engine.release_lease(lease)
        await own_all(stores, "engine-2")
        with pytest.raises(LeaseLost):
            await write(stores, lease, PARTS[part]())
        await nothing_was_written(stores)


@each_part
@in_loop
async def test_a_partition_of_another_engine_takes_no_row(backend: Backend, part: str) -> None:
    async with backend.ready() as (stores, lease):
        await write(stores, lease, Batch(starts=[OLD]))
        await stores.engine.give_partitions(lease, [3])
        for touched in ([3], [3, 4], [4, 3, 5]):
            with pytest.raises(LeaseLost):
                await write(stores, lease, PARTS[part](), *touched)
        await nothing_was_written(stores)
        await write(stores, lease, Batch(events=[event_row(OLD.id, 9)]), 4)


@each_part
@in_loop
async def test_an_expired_lease_writes_no_row(shared_backend: Backend, part: str) -> None:
    async with shared_backend.ready() as (stores, lease):
        await write(stores, lease, Batch(starts=[OLD]))
        expired = await stores.engine.renew_lease(lease, -1)
        with pytest.raises(LeaseLost):
            await write(stores, expired, PARTS[part]())
        await nothing_was_written(stores)


@in_loop
async def test_a_takeover_voids_the_lease_for_good(shared_backend: Backend) -> None:
    """An engine that was stopped for long and continues finds its lease gone."""
    async with shared_backend.open() as stores:
        await put_workflow(stores)
        late = await own_all(stores, "late")
        await write(stores, late, Batch(starts=[OLD]))
        late = await stores.engine.renew_lease(late, -1)
        heir = await stores.engine.acquire_lease("heir", 16, LEASE_US)
        taken = await stores.engine.claim_partitions(heir, PARTITIONS)
        assert taken == list(range(PARTITIONS))
        for call in (
            stores.engine.renew_lease(late, LEASE_US),
            stores.engine.claim_partitions(late, 1),
            stores.engine.give_partitions(late, [1]),
            write(stores, late, Batch(results=[result_row(OLD.id, 1)])),
        ):
            with pytest.raises(LeaseLost):
                await call
        await nothing_was_written(stores)
        await stores.engine.release_lease(late)
        await write(stores, heir, Batch(results=[result_row(OLD.id, 1)]))


@in_loop
async def test_no_partitions_still_needs_the_lease(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        await stores.engine.commit(lease, frozenset(), Batch())
        stale: Lease = lease._replace(epoch=lease.epoch - 1)
        with pytest.raises(LeaseLost):
            await stores.engine.commit(stale, frozenset(), Batch())
