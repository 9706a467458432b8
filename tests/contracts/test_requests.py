"""Request ids and chosen execution ids: started once, whoever asks how often."""

import asyncio

from bend_server.ports.store import Batch, KnownRequest
from bend_server.storage.rows import REQUEST_TTL_US
from tests.kit.backends import LEASE_US, Backend, put_workflow, write
from tests.kit.loops import in_loop
from tests.kit.rows import T0_US, finish_row, result_row, start_row


@in_loop
async def test_a_request_id_starts_one_execution(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        first = start_row(1, request_id="r", request_hash=b"one")
        assert (await write(stores, lease, Batch(starts=[first]))).started == {first.id}
        same = start_row(2, request_id="r", request_hash=b"one")
        other = start_row(3, request_id="r", request_hash=b"two")
        elsewhere = start_row(4, request_id="s", request_hash=b"one")
        batch = Batch(starts=[same, other, elsewhere])
        assert (await write(stores, lease, batch)).started == {elsewhere.id}
        known = await stores.engine.find_request("default", "r")
        assert known == KnownRequest(first.id, first.public_id, b"one")
        assert await stores.engine.find_request("other", "r") is None
        assert await stores.engine.load(same.id) is None


@in_loop
async def test_twins_in_one_batch_start_once(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        twins = [start_row(n, request_id="r", request_hash=b"h") for n in range(5)]
        named = [start_row(n, public_id="mine") for n in range(5, 8)]
        batch = Batch(starts=[*twins, *named])
        batch.results = [result_row(row.id, 1) for row in batch.starts]
        batch.finishes = [finish_row(row.id, 2) for row in batch.starts]
        assert (await write(stores, lease, batch)).started == {twins[0].id, named[0].id}
        for row in batch.starts:
            first = row.id in {twins[0].id, named[0].id}
            assert len((await stores.reads.history(row.id)).results) == int(first)


@in_loop
async def test_a_request_id_is_free_again_after_a_week(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        await write(stores, lease, Batch(starts=[start_row(1, request_id="r")]))
        backend.clock.now = T0_US + REQUEST_TTL_US - 1
        assert await stores.engine.find_request("default", "r") is not None
        backend.clock.now += 2
        assert await stores.engine.find_request("default", "r") is None
        renewed = await stores.engine.renew_lease(lease, LEASE_US)
        late = start_row(2, at_us=backend.clock.now, request_id="r")
        assert (await write(stores, renewed, Batch(starts=[late]))).started == {late.id}
        known = await stores.engine.find_request("default", "r")
        assert known is not None
        assert known.execution == late.id


@in_loop
async def test_expired_request_ids_are_forgotten_in_bounds(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        starts = [start_row(n, request_id=f"r{n}") for n in range(5)]
        await write(stores, lease, Batch(starts=starts))
        late = T0_US + REQUEST_TTL_US + 1
        assert await stores.engine.forget_requests(T0_US, 10) == 0
        assert await stores.engine.forget_requests(late, 3) == 3
        assert await stores.engine.forget_requests(late, 3) == 2
        assert await stores.engine.forget_requests(late, 3) == 0


@in_loop
async def test_a_chosen_id_is_taken_for_ever(backend: Backend) -> None:
    """Also after retention has deleted the execution, and when the chosen text looks like ours."""
    async with backend.ready() as (stores, lease):
        ours = start_row(7)
        chosen, squatter = start_row(1, public_id="mine"), start_row(2, public_id=ours.public_id)
        await write(stores, lease, Batch(starts=[chosen, squatter]))
        assert (await write(stores, lease, Batch(starts=[ours, start_row(8)]))).started == {
            start_row(8).id
        }
        assert await stores.engine.find_public("default", "mine") == chosen.id
        await write(stores, lease, Batch(finishes=[finish_row(chosen.id, 1)]))
        gone = await stores.engine.forget_finished(T0_US + 10**9, 10)
        assert gone == [(chosen.id, "default")]
        again = start_row(3, public_id="mine")
        assert (await write(stores, lease, Batch(starts=[again]))).started == frozenset()
        assert await stores.engine.find_public("default", "mine") == chosen.id
        assert await stores.reads.execution("default", "mine") is None
        assert await stores.engine.find_public("other", "mine") is None


@in_loop
async def test_a_known_id_is_no_second_start(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        row = start_row(1)
        await write(stores, lease, Batch(starts=[row]))
        again = row._replace(public_id="other", request_id="r")
        fine = start_row(2, request_id="s")
        assert (await write(stores, lease, Batch(starts=[again, fine]))).started == {fine.id}
        assert await stores.engine.find_request("default", "r") is None


@in_loop
async def test_a_storm_of_one_request_id_starts_one(shared_backend: Backend) -> None:
    """Two replicas receive the same requests at the same time, in different orders."""
    async with shared_backend.ready() as (left, lease), shared_backend.open() as right:
        await put_workflow(right)
        names = [f"r{number}" for number in range(20)]
        batches = []
        for number in range(20):
            order = names if number % 2 else names[::-1]
            starts = [
                start_row(number * 100 + place, request_id=name, request_hash=b"h")
                for place, name in enumerate(order)
            ]
            batches.append(Batch(starts=starts, starts_current=[True] * len(starts)))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(write(left if number % 2 else right, lease, batch))
                for number, batch in enumerate(batches)
            ]
        started = [number for task in tasks for number in task.result().started]
        assert len(started) == len(set(started)) == len(names)
        for name in names:
            known = await left.engine.find_request("default", name)
            assert known is not None
            assert known.execution in started
