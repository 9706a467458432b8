"""Committed state as the API reads it: pages, filters, cursors."""

import asyncio
from typing import Any

from bend_server.core.model import ExecutionStatus
from bend_server.ports.store import Batch
from bend_server.storage.stores import Stores
from tests.kit.backends import Backend, put_workflow, write
from tests.kit.loops import in_loop
from tests.kit.rows import T0_US, event_row, finish_row, result_row, start_row


async def listed(stores: Stores, **wishes: Any) -> list[int]:
    """List with defaults; return ids."""
    wishes = {
        "workflow": None,
        "statuses": [],
        "label": None,
        "before": None,
        "limit": 100,
    } | wishes
    return [row.id for row in await stores.reads.executions("default", **wishes)]


@in_loop
async def test_pages_meet_without_gap_or_overlap(backend: Backend) -> None:
    """Many executions start in one microsecond: the id breaks the tie."""
    async with backend.ready() as (stores, lease):
        starts = [start_row(n, at_us=T0_US + n // 4) for n in range(22)]
        await write(stores, lease, Batch(starts=starts))
        expected = [
            row.id for row in sorted(starts, key=lambda r: (r.started_us, r.id), reverse=True)
        ]
        seen: list[int] = []
        before = None
        while True:
            page = await stores.reads.executions(
                "default", workflow=None, statuses=[], label=None, before=before, limit=5
            )
            seen += [row.id for row in page]
            if len(page) < 5:
                break
            before = (page[-1].started_us, page[-1].id)
        assert seen == expected


@in_loop
async def test_filters_narrow_a_list(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        await put_workflow(stores, name="other")
        plain = start_row(1)
        labelled = start_row(2, labels=b'{"team":"a","env":"x"}')
        same_key = start_row(3, labels=b'{"team":"b"}', workflow="other")
        await write(stores, lease, Batch(starts=[plain, labelled, same_key]))
        await write(stores, lease, Batch(finishes=[finish_row(plain.id, 1, status=5)]))
        assert await listed(stores) == [same_key.id, labelled.id, plain.id]
        assert await listed(stores, label=("team", "a")) == [labelled.id]
        assert await listed(stores, label=("team", "c")) == []
        assert await listed(stores, workflow="other") == [same_key.id]
        assert await listed(stores, statuses=[ExecutionStatus.FAILED]) == [plain.id]
        running = [ExecutionStatus.RUNNING, ExecutionStatus.PAUSED]
        assert await listed(stores, statuses=running, workflow="triage") == [labelled.id]
        assert await listed(stores, limit=1) == [same_key.id]
        elsewhere = await stores.reads.executions(
            "alien", workflow=None, statuses=[], label=None, before=None, limit=9
        )
        assert elsewhere == []


@in_loop
async def test_lists_leave_payloads_out(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        row = start_row(1, parent=9, public_id="mine")
        await write(stores, lease, Batch(starts=[row]))
        end = finish_row(row.id, 1, status=5, output=b"7", blob="k", error=b'{"reason":"X"}')
        await write(stores, lease, Batch(finishes=[end]))
        reads = stores.reads
        whole = await reads.execution("default", "mine")
        assert whole is not None
        assert (whole.input, whole.output, whole.blob) == (row.input, b"7", "k")
        assert (whole.error, whole.parent, whole.finished_us) == (end.error, 9, end.finished_us)
        assert (whole.status, whole.run, whole.public_id) == (5, 1, "mine")
        bare = whole._replace(input=None, output=None)
        assert await reads.executions_by_id("default", [row.id, 5], payloads=False) == [bare]
        assert await reads.executions_by_id("default", [row.id], payloads=True) == [whole]
        assert await reads.executions_by_id("alien", [row.id], payloads=True) == []
        assert await reads.executions_by_id("default", [], payloads=True) == []
        assert await reads.execution("alien", "mine") is None
        only = await reads.executions(
            "default", workflow=None, statuses=[], label=None, before=None, limit=9
        )
        assert only == [bare]


@in_loop
async def test_a_history_is_of_one_moment(backend: Backend) -> None:
    """Else a fold sees a result without the event before it, and a watch loses a row."""
    async with backend.ready() as (stores, lease):
        row = start_row(1)
        await write(stores, lease, Batch(starts=[row]))

        async def grow() -> None:
            for seq in range(0, 300, 2):
                rows = [result_row(row.id, seq)]
                await write(stores, lease, Batch(results=rows, events=[event_row(row.id, seq + 1)]))

        growing = asyncio.ensure_future(grow())
        while not growing.done():
            history = await stores.reads.history(row.id)
            found = sorted(one.seq for kind in history for one in kind)
            assert found == list(range(len(found)))
            await asyncio.sleep(0)
        await growing


@in_loop
async def test_rows_after_a_cursor(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        row = start_row(1)
        results = [result_row(row.id, seq) for seq in (0, 2, 4)]
        events = [event_row(row.id, seq) for seq in (1, 3)]
        await write(stores, lease, Batch(starts=[row], results=results[::-1], events=events))
        reads = stores.reads
        assert (await reads.history(row.id)).results == results
        assert (await reads.history(row.id, 2)).results == results[2:]
        assert (await reads.history(row.id)).events == events
        assert (await reads.history(row.id, 1)).events == events[1:]
        assert (await reads.history(row.id + 1)).results == []
        await reads.ping()


@in_loop
async def test_text_is_ordered_and_kept_by_code_point(backend: Backend) -> None:
    """A locale's order would make pages by name skip or repeat."""
    names = ["Zeta", "a-b", "a.b", "aB", "ab", "a_b", "ä", "😀"]
    async with backend.ready() as (stores, _):
        for name in names:
            await put_workflow(stores, name=name)
        page = await stores.reads.workflows("default", archived=False, after=None, limit=50)
        assert [row.name for row in page] == sorted([*names, "triage"])
        rest = await stores.reads.workflows("default", archived=False, after="a_b", limit=3)
        assert [row.name for row in rest] == ["ab", "triage", "ä"]
