"""Leases, slots and the ownership of partitions."""

import pytest

from bend_server.core.errors import LeaseLost, LimitExceeded
from bend_server.core.ids import PARTITIONS
from tests.kit.backends import LEASE_US, Backend, own_all
from tests.kit.loops import in_loop
from tests.kit.rows import T0_US


@in_loop
async def test_an_epoch_only_grows(backend: Backend) -> None:
    """At least the time in seconds, so that a restored backup does not repeat an epoch."""
    async with backend.open() as stores:
        epochs = []
        for _ in range(5):
            lease = await stores.engine.acquire_lease("engine", 16, LEASE_US)
            epochs.append(lease.epoch)
            await stores.engine.release_lease(lease)
        assert epochs == sorted(set(epochs))
        if backend.kind != "postgresql":
            assert epochs[0] == T0_US // 1_000_000
        backend.clock.now -= 3_600_000_000
        later = await stores.engine.acquire_lease("engine", 16, LEASE_US)
        assert later.epoch > epochs[-1]


@in_loop
async def test_two_engines_share_slots_and_partitions(shared_backend: Backend) -> None:
    async with shared_backend.open() as stores:
        one = await stores.engine.acquire_lease("one", 2, LEASE_US)
        two = await stores.engine.acquire_lease("two", 2, LEASE_US)
        assert (one.slot, two.slot) == (0, 1)
        with pytest.raises(LimitExceeded):
            await stores.engine.acquire_lease("three", 2, LEASE_US)
        first = await stores.engine.claim_partitions(one, 32)
        second = await stores.engine.claim_partitions(two, PARTITIONS)
        assert sorted(first + second) == list(range(PARTITIONS))
        assert await stores.engine.claim_partitions(one, PARTITIONS) == []
        owners = await stores.engine.partitions()
        assert [owner.partition for owner in owners] == list(range(PARTITIONS))
        assert {owner.slot for owner in owners if owner.partition in first} == {0}
        assert {owner.lease for owner in owners if owner.partition in second} == {two.id}
        assert all(owner.live for owner in owners)
        live = await stores.engine.leases()
        assert [(lease.id, lease.slot, lease.engine) for lease in live] == [
            (one.id, 0, "one"),
            (two.id, 1, "two"),
        ]


@in_loop
async def test_an_expired_lease_frees_slot_and_partitions(shared_backend: Backend) -> None:
    async with shared_backend.open() as stores:
        dead = await own_all(stores, "dead")
        heir = await stores.engine.acquire_lease("heir", 16, LEASE_US)
        assert await stores.engine.claim_partitions(heir, 5) == []
        await stores.engine.renew_lease(dead, -1)
        assert [lease.engine for lease in await stores.engine.leases()] == ["heir"]
        assert not any(owner.live for owner in await stores.engine.partitions())
        assert await stores.engine.claim_partitions(heir, 0) == []
        assert len(await stores.engine.claim_partitions(heir, 5)) == 5
        third = await stores.engine.acquire_lease("third", 16, LEASE_US)
        assert third.slot == dead.slot


@in_loop
async def test_a_late_renewal_is_fine_while_nobody_came(shared_backend: Backend) -> None:
    async with shared_backend.open() as stores:
        lease = await own_all(stores)
        late = await stores.engine.renew_lease(lease, -1)
        again = await stores.engine.renew_lease(late, LEASE_US)
        assert again.expires_us > late.expires_us
        assert all(owner.live for owner in await stores.engine.partitions())


@in_loop
async def test_given_and_released_partitions_have_no_owner(backend: Backend) -> None:
    async with backend.open() as stores:
        lease = await own_all(stores)
        await stores.engine.give_partitions(lease, [1, 2])
        free = [o.partition for o in await stores.engine.partitions() if o.lease is None]
        assert free == [1, 2]
        assert await stores.engine.claim_partitions(lease, 1) == [1]
        await stores.engine.release_lease(lease)
        await stores.engine.release_lease(lease)
        assert all(o.lease is None and not o.live for o in await stores.engine.partitions())
        assert await stores.engine.leases() == []
        with pytest.raises(LeaseLost):
            await stores.engine.renew_lease(lease, LEASE_US)


@in_loop
async def test_the_offset_leads_to_the_databases_clock(backend: Backend) -> None:
    """Deadlines are in database time: the local clock plus the offset."""
    async with backend.open() as stores:
        lease = await stores.engine.acquire_lease("engine", 16, LEASE_US)
        database_us = lease.expires_us - LEASE_US
        assert abs(backend.clock.now_us() + lease.offset_us - database_us) < 1_000
        renewed = await stores.engine.renew_lease(lease, LEASE_US)
        assert renewed.expires_us >= lease.expires_us
        assert abs(renewed.offset_us - lease.offset_us) < 60_000_000
