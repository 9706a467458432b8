"""Records of pools and the lease on them, over every kind of store."""

import asyncio

import pytest

from bend.internal.v1 import pool_service_pb2 as pb
from bend_server.core import limits
from bend_server.core.errors import LimitExceeded, NotFound
from bend_server.ports.pools import PoolRow
from bend_server.registry.pools import Pools
from tests.kit.backends import Backend, ManualClock
from tests.kit.fakes.pools import described
from tests.kit.loops import in_loop


@in_loop
async def test_a_row_is_made_changed_and_dropped(backend: Backend) -> None:
    async with backend.open() as stores:
        pools = stores.pools
        assert await pools.pools() == []
        assert await pools.change_pool("a", "x", lambda stored: stored, 1) == (None, False)
        assert await pools.change_pool("a", "x", lambda stored: b"1", 1) == (b"1", True)
        assert await pools.change_pool("a", "x", lambda stored: b"1", 2) == (b"1", False)
        seen: list[bytes | None] = []

        def more(stored: bytes | None) -> bytes | None:
            seen.append(stored)
            return (stored or b"") + b"2"

        assert await pools.change_pool("a", "x", more, 3) == (b"12", True)
        assert seen == [b"1"]
        await pools.change_pool("", "", lambda stored: b"\x00\xff", 4)
        assert await pools.pools() == [PoolRow("", "", b"\x00\xff", 4), PoolRow("a", "x", b"12", 3)]
        assert await pools.change_pool("a", "x", lambda stored: None, 5) == (None, True)
        assert [row.name for row in await pools.pools()] == [""]


@in_loop
async def test_a_change_that_raises_changes_nothing(backend: Backend) -> None:
    def refuse(stored: bytes | None) -> bytes | None:
        raise NotFound("no")

    async with backend.open() as stores:
        await stores.pools.change_pool("a", "x", lambda stored: b"1", 1)
        with pytest.raises(NotFound):
            await stores.pools.change_pool("a", "x", refuse, 2)
        assert await stores.pools.pools() == [PoolRow("a", "x", b"1", 1)]


@in_loop
async def test_of_many_who_ask_at_once_one_gets_the_lease(shared_backend: Backend) -> None:
    clock = ManualClock()
    async with shared_backend.open() as stores:
        rooms = [Pools(stores.pools, clock) for _ in range(5)]
        asked = [
            room.sync(pb.SyncPoolsRequest(seat=f"h{n}:1", executor=f"x{n}", configured=True))
            for n, room in enumerate(rooms)
        ]
        answers = await asyncio.gather(*asked)
        assert sum(answer.lease_ms > 0 for answer in answers) == 1
        (holder,) = {answer.holder for answer in answers if answer.holder}
        assert holder in {f"x{n}" for n in range(5)}


def wish(executor: str, seat: str = "", **fields: bool) -> pb.SyncPoolsRequest:
    return pb.SyncPoolsRequest(seat=seat or executor, executor=executor, **fields)


@in_loop
async def test_a_lease_is_kept_ends_and_is_given_back(backend: Backend) -> None:
    clock = ManualClock()
    async with backend.open() as stores:
        pools = Pools(stores.pools, clock)
        assert (await pools.sync(wish("x1"))).lease_ms == 0
        assert await stores.pools.pools() == []
        first = await pools.sync(wish("x1", configured=True))
        assert first.lease_ms == limits.POOL_LEASE_US // 1000
        (row,) = await stores.pools.pools()
        clock.now += 1_000_000
        again = await pools.sync(wish("x1", configured=True))
        assert 0 < again.lease_ms < first.lease_ms
        # Renewed only when a third is used up: no write a sync.
        assert await stores.pools.pools() == [row]
        clock.now += limits.POOL_LEASE_US // 2
        assert (await pools.sync(wish("x1", configured=True))).lease_ms == first.lease_ms
        other = await pools.sync(wish("x2", configured=True))
        assert (other.lease_ms, other.holder) == (0, "x1")
        clock.now += limits.POOL_LEASE_US + 1
        assert (await pools.sync(wish("x2", configured=True))).holder == "x2"
        assert (await pools.sync(wish("x1", configured=True))).lease_ms == 0
        released = await pools.sync(wish("x1", release=True))
        assert released.holder == "x2"
        assert (await pools.sync(wish("x2", release=True))).holder == ""
        assert (await pools.sync(wish("x1", configured=True))).lease_ms > 0
        # The same place, a new process: the old one is gone.
        follower = await pools.sync(wish("x1b", "x1", configured=True))
        assert (follower.holder, follower.lease_ms > 0) == ("x1b", True)


@in_loop
async def test_records_change_as_asked(backend: Backend) -> None:
    async with backend.open() as stores:
        pools = Pools(stores.pools, ManualClock())

        def change(name: str, **fields: object) -> pb.ChangePoolRequest:
            return pb.ChangePoolRequest(namespace="default", name=name, **fields)

        for kind in ({"hold": 2}, {"follow": True}, {"remove": True}):
            with pytest.raises(NotFound) as caught:
                await pools.change(change("slow", **kind))
            assert caught.value.reason == "POOL_NOT_FOUND"
        put = await pools.change(change("slow", put=described()))
        assert (put.changed, put.record.pool) == (True, described())
        assert not (await pools.change(change("slow", put=described()))).changed
        held = await pools.change(change("slow", hold=0))
        assert held.record.HasField("held_instances")
        # A new description leaves the hold, as people have asked for it.
        again = await pools.change(change("slow", put=described(min_instances=1)))
        assert (again.record.held_instances, again.record.pool.min_instances) == (0, 1)
        free = await pools.change(change("slow", follow=True))
        assert not free.record.HasField("held_instances")
        mine = await pools.change(change("mine", hold=3, configured=True))
        assert not mine.record.HasField("pool")
        assert not (await pools.change(change("mine", follow=True))).HasField("record")
        names = [one.name for one in (await pools.sync(wish("x1"))).records]
        assert names == ["slow"]
        assert not (await pools.change(change("slow", remove=True))).HasField("record")


@in_loop
async def test_their_number_is_bounded(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "POOLS_MAX", 2)
    async with backend.open() as stores:
        pools = Pools(stores.pools, ManualClock())
        for number in range(3):
            name = f"p{number}"
            request = pb.ChangePoolRequest(namespace="default", name=name, put=described(name))
            if number < 2:
                await pools.change(request)
                await pools.change(request)
            else:
                with pytest.raises(LimitExceeded):
                    await pools.change(request)
