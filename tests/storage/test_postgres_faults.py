"""PostgreSQL's own faults: it dies, ends sessions, or is not there."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from bend_server.core.errors import DependencyDown, InvariantBroken, LeaseLost
from bend_server.ports.store import Batch
from bend_server.storage.opening import open_store
from tests.kit.backends import Backend, ManualClock, own_all, put_workflow, write
from tests.kit.farewells import relay
from tests.kit.loops import eventually, in_loop
from tests.kit.postgres import PostgresServer
from tests.kit.programs import free_port
from tests.kit.rows import result_row, start_row

pytestmark = pytest.mark.postgres
_NOWHERE = Path("nowhere")


async def somebody_waits(connection: asyncpg.Connection) -> None:
    """Return once a session waits for a lock."""

    async def waits() -> bool:
        waiting = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(waiting > 0)

    await eventually(waits)


@in_loop
async def test_nobody_listens() -> None:
    with pytest.raises(DependencyDown):
        await open_store(f"postgresql+asyncpg://bend@127.0.0.1:{free_port()}/x", ManualClock())


def test_a_killed_server_is_down_and_then_back(own_server: PostgresServer) -> None:
    """The stores find a restarted server by themselves; what was answered is still there."""
    url = own_server.fresh_database()

    async def run() -> None:
        stores = await open_store(url, ManualClock())
        await put_workflow(stores)
        lease = await own_all(stores)
        await write(stores, lease, Batch(starts=[start_row(1)]))
        await asyncio.to_thread(own_server.kill)
        for call in (
            lambda: write(stores, lease, Batch(starts=[start_row(2)])),
            lambda: stores.engine.load(start_row(1).id),
            lambda: stores.engine.renew_lease(lease, 60_000_000),
            stores.reads.ping,
        ):
            with pytest.raises(DependencyDown):
                await call()
        await asyncio.to_thread(own_server.start)
        renewed = None
        async with asyncio.timeout(60):
            while renewed is None:
                try:
                    renewed = await stores.engine.renew_lease(lease, 60_000_000)
                    await write(stores, renewed, Batch(results=[result_row(start_row(1).id, 1)]))
                except DependencyDown:
                    await asyncio.sleep(0.02)
        stored = await stores.engine.load(start_row(1).id)
        assert stored is not None
        assert len(stored.results) == 1
        assert await stores.engine.load(start_row(2).id) is None
        await stores.close()

    asyncio.run(run())


@pytest.mark.parametrize("heard", [True, False])
def test_a_farewell_to_idle_connections_is_a_database_that_was_down(
    postgres_server: PostgresServer, heard: bool
) -> None:
    """Each connection is found out once, whatever the driver calls it, and then replaced."""
    url = postgres_server.fresh_database()

    async def run() -> None:
        async with relay(postgres_server.port) as way:
            place = url.replace(f":{postgres_server.port}/", f":{way.port}/") + "?ssl=disable"
            stores = await open_store(place, ManualClock())
            await put_workflow(stores)
            lease = await own_all(stores)
            await write(stores, lease, Batch(starts=[start_row(1)]))
            await way.farewell(heard=heard)
            with pytest.raises(DependencyDown):
                await write(stores, lease, Batch(starts=[start_row(2)]))
            # What else was idle in the pool is found out by its next use.
            async with asyncio.timeout(60):
                while True:
                    try:
                        await stores.reads.ping()
                        stored = await stores.engine.load(start_row(1).id)
                        await write(stores, lease, Batch(starts=[start_row(3)]))
                    except DependencyDown:
                        await asyncio.sleep(0.02)
                    else:
                        break
            assert stored is not None
            await stores.close()

    asyncio.run(run())


@in_loop
async def test_a_commit_waits_for_a_takeover_and_is_fenced(postgres_server: PostgresServer) -> None:
    """The order of two transactions decides, not their starts: the commit began before the void."""
    url = await asyncio.to_thread(postgres_server.fresh_database)
    async with Backend("postgresql", _NOWHERE, url).ready() as (stores, lease):
        await write(stores, lease, Batch(starts=[start_row(1)]))
        taker = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            transaction = taker.transaction()
            await transaction.start()
            await taker.execute("DELETE FROM engine_lease WHERE id = $1", lease.id)
            late = asyncio.create_task(
                write(stores, lease, Batch(results=[result_row(start_row(1).id, 1)]))
            )
            await somebody_waits(taker)
            await transaction.commit()
        finally:
            await taker.close()
        with pytest.raises(LeaseLost):
            await late
        assert (await stores.reads.history(start_row(1).id)).results == []


@in_loop
async def test_a_commit_that_began_before_a_hand_over_is_fenced(
    postgres_server: PostgresServer,
) -> None:
    """It read the old owners, but the lease's row that it locks has counted the hand-over."""
    url = await asyncio.to_thread(postgres_server.fresh_database)
    async with Backend("postgresql", _NOWHERE, url).ready() as (stores, lease):
        giver = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            transaction = giver.transaction()
            await transaction.start()
            await giver.execute("UPDATE engine_lease SET gives = gives + 1")
            await giver.execute("UPDATE partition SET lease = NULL WHERE partition = 3")
            late = asyncio.create_task(write(stores, lease, Batch(starts=[start_row(1)])))
            await somebody_waits(giver)
            await transaction.commit()
        finally:
            await giver.close()
        with pytest.raises(LeaseLost):
            await late
        assert await stores.engine.load(start_row(1).id) is None


@in_loop
async def test_text_with_a_null_character_is_refused_alone(postgres_server: PostgresServer) -> None:
    url = await asyncio.to_thread(postgres_server.fresh_database)
    async with Backend("postgresql", _NOWHERE, url).ready() as (stores, lease):
        bad = start_row(1, actor="user/\x00")
        with pytest.raises(InvariantBroken):
            await write(stores, lease, Batch(starts=[bad]))
        await write(stores, lease, Batch(starts=[start_row(1)]))


@in_loop
async def test_a_cancelled_commit_does_not_spoil_the_next(postgres_server: PostgresServer) -> None:
    url = await asyncio.to_thread(postgres_server.fresh_database)
    async with Backend("postgresql", _NOWHERE, url).ready() as (stores, lease):
        for number in range(1, 6):
            task = asyncio.create_task(write(stores, lease, Batch(starts=[start_row(number)])))
            for _ in range(number):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await write(stores, lease, Batch(starts=[start_row(9)]))
        assert await stores.engine.load(start_row(9).id) is not None
