"""A group commit is written whole or not at all, and starts are judged one by one."""

import pytest

from bend_server.core.errors import DomainError, LeaseLost
from bend_server.core.model import ExecutionStatus
from bend_server.ports.store import Batch, Park, StatusChange
from tests.kit.backends import Backend, put_workflow, write
from tests.kit.loops import in_loop
from tests.kit.rows import T0_US, event_row, finish_row, result_row, start_row


@in_loop
async def test_rows_come_back_as_they_were_written(backend: Backend) -> None:
    """SQL is the truth: recovery sees what was committed, bit by bit, in order of seq."""
    async with backend.ready() as (stores, lease):
        start = start_row(
            1,
            request_id="r-1",
            request_hash=b"h",
            labels=b'{"team":"a"}',
            concurrency_key="k",
            parent=7,
            parent_task=2,
            root=5,
            rerun_of=6,
            trace="00-aa-bb-01",
        )
        committed = await write(stores, lease, Batch(starts=[start]))
        assert committed.started == {start.id}
        results = [result_row(start.id, 2), result_row(start.id, 1, error=b"{}", output=None)]
        events = [event_row(start.id, 4), event_row(start.id, 3)]
        finish = finish_row(start.id, 5)
        await write(stores, lease, Batch(results=results, events=events))
        await write(stores, lease, Batch(finishes=[finish]))
        stored = await stores.engine.load(start.id)
        assert stored is not None
        assert stored.start == start
        assert stored.results == results[::-1]
        assert stored.events == events[::-1]
        assert stored.finish == finish
        assert stored.status == ExecutionStatus.COMPLETED


@in_loop
async def test_an_execution_may_start_and_end_in_one_batch(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        start, other = start_row(1), start_row(2)
        batch = Batch(
            starts=[start, other],
            results=[result_row(start.id, 1)],
            events=[event_row(start.id, 2)],
            finishes=[finish_row(start.id, 3)],
            changes=[StatusChange(other.id, int(ExecutionStatus.PAUSED), "QUARANTINED")],
            parks=[Park(other.id, None)],
        )
        assert (await write(stores, lease, batch)).started == {start.id, other.id}
        stored = await stores.engine.load(start.id)
        assert stored is not None
        assert (stored.status, len(stored.results), len(stored.events)) == (4, 1, 1)
        paused = await stores.engine.load(other.id)
        assert paused is not None
        assert (paused.status, paused.pause_reason) == (3, "QUARANTINED")
        assert paused.start == other
        assert [page async for page in stores.engine.load_unfinished([3], 10)] == []


@in_loop
async def test_a_refused_start_takes_its_rows_along(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        first = start_row(1, public_id="mine")
        await write(stores, lease, Batch(starts=[first]))
        second = start_row(2, public_id="mine", request_id="r", request_hash=b"h")
        fine = start_row(3)
        batch = Batch(
            starts=[second, fine],
            results=[result_row(second.id, 1), result_row(fine.id, 1)],
            events=[event_row(second.id, 2)],
            finishes=[finish_row(second.id, 3)],
        )
        assert (await write(stores, lease, batch)).started == {fine.id}
        assert await stores.engine.load(second.id) is None
        assert (await stores.reads.history(second.id)).results == []
        assert (await stores.reads.history(second.id)).events == []
        assert await stores.engine.find_request("default", "r") is None
        assert len((await stores.reads.history(fine.id)).results) == 1


@in_loop
async def test_a_second_row_of_one_try_leaves_nothing(backend: Backend) -> None:
    """A result counts once: the key refuses, and nothing else of the batch stays."""
    async with backend.ready() as (stores, lease):
        start = start_row(1)
        await write(stores, lease, Batch(starts=[start], results=[result_row(start.id, 1)]))
        other = start_row(2)
        batch = Batch(
            starts=[other],
            results=[result_row(start.id, 2), result_row(start.id, 3, task=1)],
            events=[event_row(start.id, 4)],
        )
        with pytest.raises(DomainError) as caught:
            await write(stores, lease, batch)
        assert caught.value.reason not in {"DEPENDENCY_DOWN", "OWNERSHIP_MOVED"}
        assert await stores.engine.load(other.id) is None
        assert len((await stores.reads.history(start.id)).results) == 1
        assert (await stores.reads.history(start.id)).events == []
        await write(stores, lease, Batch(starts=[other]))


@in_loop
async def test_an_end_counts_once(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        start = start_row(1)
        await write(stores, lease, Batch(starts=[start], finishes=[finish_row(start.id, 1)]))
        for batch in (
            Batch(finishes=[finish_row(start.id, 2, status=5)]),
            Batch(parks=[Park(start.id, None)]),
            Batch(changes=[StatusChange(start.id, 3, None)]),
            Batch(finishes=[finish_row(start.id + 1, 2)]),
        ):
            batch.events.append(event_row(start.id, 9))
            with pytest.raises(DomainError) as caught:
                await write(stores, lease, batch)
            assert not isinstance(caught.value, LeaseLost)
        stored = await stores.engine.load(start.id)
        assert stored is not None
        assert stored.finish == finish_row(start.id, 1)
        assert stored.events == []


@in_loop
async def test_a_start_checks_its_workflow(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        await put_workflow(stores, b"name: triage # 2")
        old, new, unknown = start_row(1), start_row(2, revision=2), start_row(3, workflow="other")
        committed = await write(stores, lease, Batch(starts=[old, new, unknown]))
        assert committed.started == {new.id}
        pinned = Batch(starts=[old], starts_current=[False])
        assert (await write(stores, lease, pinned)).started == {old.id}
        await stores.workflows.set_archived("default", "triage", True, T0_US)
        late = Batch(starts=[start_row(4, revision=2), start_row(5)], starts_current=[True, False])
        assert (await write(stores, lease, late)).started == frozenset()
