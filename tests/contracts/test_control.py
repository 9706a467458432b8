"""New runs, approvals, the cache, queues, bulk jobs and letters, over every kind of store."""

import pytest

from bend_server.core import limits
from bend_server.core.errors import DomainError, LeaseLost
from bend_server.core.model import (
    ApprovalEnd,
    ApprovalRow,
    CacheRow,
    EventKind,
    ExecutionStatus,
    FinishRow,
    Reopen,
    StatusChange,
)
from bend_server.ports.control import (
    BULK_DONE,
    BulkRow,
    ExecutionFilter,
    Letter,
    RequestRow,
)
from bend_server.ports.store import Batch, Park
from tests.kit.backends import Backend, write
from tests.kit.loops import in_loop
from tests.kit.rows import DAY_US, T0_US, event_row, finish_row, result_row, start_row

PENDING, RUNNING, PAUSED = 1, 2, 3


def approval_row(execution: int, task: int = 1, **changes: object) -> ApprovalRow:
    """Make an approval that anybody may decide."""
    row = ApprovalRow(
        execution=execution,
        task=task,
        item=-1,
        try_=1,
        namespace="default",
        public_id=f"triage-{execution}",
        workflow="triage",
        task_id="ask",
        title="Ship it?",
        assignees=b"[]",
        form=b"",
        created_us=T0_US + task,
        expires_us=0,
    )
    return row._replace(**changes)  # type: ignore[arg-type]


def bulk_row(number: int, **changes: object) -> BulkRow:
    """Make a job that has just begun."""
    row = BulkRow(
        id=number,
        namespace="default",
        partition=3,
        action=1,
        filter=b"{}",
        reason="why",
        actor="user/ada",
        dry_run=0,
        state=1,
        matched=0,
        done=0,
        refused=0,
        cursor=b"",
        sample=b"[]",
        request_id=None,
        created_us=T0_US,
        updated_us=T0_US,
    )
    return row._replace(**changes)  # type: ignore[arg-type]


@in_loop
async def test_a_run_that_is_opened_again_has_no_end_and_keeps_its_rows(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        start = start_row(1)
        await write(stores, lease, Batch(starts=[start]))
        ended = Batch(results=[result_row(start.id, 1)], finishes=[finish_row(start.id, 2)])
        await write(stores, lease, ended)
        opened = Batch(reopens=[Reopen(start.id, 2, T0_US + DAY_US * 2)])
        opened.events.append(event_row(start.id, 3, run=2))
        await write(stores, lease, opened)
        stored = await stores.engine.load(start.id)
        assert stored is not None
        assert (stored.status, stored.run, stored.finish) == (RUNNING, 2, None)
        assert (stored.start.run, stored.start.deadline_us) == (1, T0_US + DAY_US * 2)
        assert [row.seq for row in (*stored.results, *stored.events)] == [1, 3]
        unfinished = [one async for page in stores.engine.load_unfinished([3], 9) for one in page]
        assert unfinished == [stored]
        (summary,) = await stores.reads.executions_by_id("default", [start.id], payloads=True)
        assert (summary.run, summary.output, summary.finished_us) == (2, None, None)
        again = FinishRow(start.id, 2, 4, int(ExecutionStatus.FAILED), None, None, b"{}", T0_US)
        await write(stores, lease, Batch(finishes=[again]))
        stored = await stores.engine.load(start.id)
        assert stored is not None
        assert stored.finish == again


@in_loop
async def test_a_run_may_open_and_end_in_one_batch(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        start = start_row(1)
        await write(stores, lease, Batch(starts=[start]))
        await write(stores, lease, Batch(finishes=[finish_row(start.id, 1)]))
        batch = Batch(
            reopens=[Reopen(start.id, 2, 0)], finishes=[finish_row(start.id, 3, run=2, status=5)]
        )
        await write(stores, lease, batch)
        stored = await stores.engine.load(start.id)
        assert stored is not None
        assert (stored.status, stored.run, stored.start.deadline_us) == (5, 2, 0)


@in_loop
async def test_a_paused_run_may_be_opened_again(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        start = start_row(1)
        paused = StatusChange(start.id, PAUSED, "TASK_FAILED")
        await write(stores, lease, Batch(starts=[start]))
        await write(stores, lease, Batch(changes=[paused], parks=[Park(start.id, None)]))
        await write(stores, lease, Batch(reopens=[Reopen(start.id, 2, 7)]))
        stored = await stores.engine.load(start.id)
        assert stored is not None
        assert (stored.status, stored.run, stored.pause_reason) == (RUNNING, 2, None)
        assert [page async for page in stores.engine.load_unfinished([3], 9)] == [[stored]]


@in_loop
async def test_a_pause_ends_in_the_same_run_with_a_later_deadline(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        start = start_row(1, deadline_us=T0_US + 5)
        await write(stores, lease, Batch(starts=[start]))
        await write(stores, lease, Batch(changes=[StatusChange(start.id, PAUSED, "by hand")]))
        await write(stores, lease, Batch(reopens=[Reopen(start.id, 1, T0_US + 9)]))
        stored = await stores.engine.load(start.id)
        assert stored is not None
        assert (stored.status, stored.run, stored.pause_reason) == (RUNNING, 1, None)
        assert await stores.engine.overdue([3], T0_US + 9, 0, 9) == []
        assert await stores.engine.overdue([3], T0_US + 10, 0, 9) == [start.id]


@in_loop
async def test_a_new_run_that_contradicts_sql_is_refused_with_its_batch(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        start, other = start_row(1), start_row(2)
        await write(stores, lease, Batch(starts=[start]))
        for reopen in (Reopen(start.id, 0, 0), Reopen(other.id, 2, 0)):
            batch = Batch(reopens=[reopen], events=[event_row(start.id, 1)])
            with pytest.raises(DomainError) as caught:
                await write(stores, lease, batch)
            assert caught.value.reason == "INTERNAL"
        stored = await stores.engine.load(start.id)
        assert stored is not None
        assert (stored.events, stored.run) == ([], 1)


@in_loop
async def test_the_fence_holds_for_rare_rows_too(shared_backend: Backend) -> None:
    async with shared_backend.ready() as (stores, lease):
        start = start_row(1)
        await write(stores, lease, Batch(starts=[start]))
        await write(stores, lease, Batch(finishes=[finish_row(start.id, 1)]))
        cache = CacheRow("default", b"k", b"1", None, start.id, T0_US, T0_US + DAY_US)
        request = RequestRow("default", "signal/1/r", b"h", start.id, "p", T0_US + DAY_US)
        await stores.engine.release_lease(lease)
        for batch in (
            Batch(reopens=[Reopen(start.id, 2, 0)]),
            Batch(caches=[cache], requests=[request], approvals=[approval_row(start.id)]),
            Batch(letters=[Letter(3, "a", 1, b"x")]),
        ):
            with pytest.raises(LeaseLost):
                await write(stores, lease, batch)
        stored = await stores.engine.load(start.id)
        assert stored is not None
        assert (stored.status, stored.start) == (ExecutionStatus.COMPLETED, start)
        assert await stores.engine.cached([("default", b"k")], T0_US) == {}
        assert await stores.engine.find_request("default", "signal/1/r") is None
        assert await stores.engine.letters([3], 9) == []
        assert await stores.reads.approval("default", start.id, 1, -1, 1) is None


@in_loop
async def test_approvals_are_listed_oldest_first_and_decided_once(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        first, second = start_row(1), start_row(2)
        rows = [
            approval_row(first.id, 1),
            approval_row(first.id, 2, assignees=b'["ada","bob"]', form=b"{}", expires_us=9),
            approval_row(second.id, 3, assignees=b'["bob"]'),
            approval_row(second.id, 4, namespace="other"),
        ]
        await write(stores, lease, Batch(starts=[first, second], approvals=rows))

        async def listed(**changes: object) -> list[int]:
            wanted: dict[str, object] = {
                "execution": None,
                "status": 1,
                "assignee": None,
                "after": None,
                "limit": 9,
            }
            found = await stores.reads.approvals("default", **{**wanted, **changes})  # type: ignore[arg-type]
            return [row.task for row in found]

        assert await listed() == [1, 2, 3]
        assert await listed(limit=2) == [1, 2]
        assert await listed(after=(T0_US + 2, first.id, 2, -1)) == [3]
        assert await listed(assignee="ada") == [1, 2]
        assert await listed(assignee="bob", limit=2) == [1, 2]
        assert await listed(assignee="eve", after=(T0_US + 1, first.id, 1, -1)) == []
        assert await listed(execution=second.id) == [3]
        end = ApprovalEnd(first.id, 2, -1, 1, 3, "user/bob", T0_US + 9, "no")
        await write(stores, lease, Batch(approval_ends=[end]))
        assert await listed() == [1, 3]
        found = await stores.reads.approval("default", first.id, 2, -1, 1)
        assert found is not None
        assert found[:13] == rows[1]
        assert found[13:] == (3, "user/bob", T0_US + 9, "no")
        assert await stores.reads.approval("other", first.id, 2, -1, 1) is None


@in_loop
async def test_cache_entries_are_found_until_they_expire(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        old = CacheRow("default", b"k1", b"1", None, 7, T0_US, T0_US + 10)
        new = old._replace(output=None, blob="default/cache/x", expires_us=T0_US + 20)
        other = CacheRow("default", b"k2", b"2", None, 8, T0_US, T0_US + 10)
        foreign = CacheRow("team", b"k1", b"3", None, 9, T0_US, T0_US + 99)
        await write(stores, lease, Batch(caches=[old, other]))
        await write(stores, lease, Batch(caches=[old, new, foreign]))
        wanted = [("default", b"k1"), ("default", b"k2"), ("default", b"k3"), ("team", b"k1")]
        found = await stores.engine.cached(wanted, T0_US + 9)
        assert found == {wanted[0]: new, wanted[1]: other, wanted[3]: foreign}
        assert set(await stores.engine.cached(wanted, T0_US + 10)) == {wanted[0], wanted[3]}
        assert await stores.engine.forget_cached(T0_US + 21, 1) == [other]
        assert await stores.engine.forget_cached(T0_US + 21, 9) == [new]
        assert await stores.engine.cached(wanted, T0_US) == {wanted[3]: foreign}


@in_loop
async def test_the_queue_of_a_key_is_ordered_by_priority_then_age(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):

        def keyed(number: int, status: int, **changes: object) -> object:
            return start_row(number, concurrency_key="k", status=status, **changes)

        starts = [
            keyed(1, RUNNING),
            keyed(2, PENDING),
            keyed(3, PENDING, priority=1),
            keyed(4, PENDING),
            start_row(5, concurrency_key="other", status=PENDING),
            start_row(6, status=PENDING, priority=2),
            start_row(7, status=PENDING, priority=1, partition=4),
            start_row(8, status=PENDING),
        ]
        waiting = [start for start in starts if start.status == PENDING]
        parks = [Park(start.id, start.deadline_us) for start in waiting]
        await write(stores, lease, Batch(starts=starts, parks=parks), 3, 4)
        engine = stores.engine
        queue = await engine.queued("default", "triage", "k", 9)
        assert [one.execution for one in queue] == [starts[2].id, starts[1].id, starts[3].id]
        assert [one.execution for one in await engine.contenders([3, 4])] == [starts[0].id]
        assert await engine.queues([3]) == [
            ("default", "triage", "k", 3),
            ("default", "triage", "other", 1),
        ]
        assert await engine.queues([4]) == []
        assert await engine.unadmitted([3], 9) == [starts[5].id, starts[7].id]
        assert await engine.unadmitted([3, 4], 2) == [starts[6].id, starts[5].id]
        assert await engine.unadmitted_count([3, 4]) == 3
        assert [page async for page in engine.load_unfinished([4], 9)] == []
        await write(stores, lease, Batch(finishes=[finish_row(starts[2].id, 1, status=6)]))
        assert len(await engine.queued("default", "triage", "k", 1)) == 1


@in_loop
async def test_children_are_read_by_id_and_by_parent(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        root = start_row(1)
        starts = [
            root,
            *(start_row(n, parent=root.id, parent_task=n, root=root.id) for n in (2, 3)),
        ]
        await write(stores, lease, Batch(starts=starts))
        await write(stores, lease, Batch(finishes=[finish_row(starts[1].id, 1, error=b"{}")]))
        rows = await stores.engine.children([one.id for one in starts])
        known = {row.execution: row for row in rows}
        assert set(known) == {starts[1].id, starts[2].id}
        done = known[starts[1].id]
        assert done[1:5] == (root.id, 2, ExecutionStatus.COMPLETED, 1)
        assert (done.output, done.error, done.finished_us) == (
            b'{"done":true}',
            b"{}",
            T0_US + 1000,
        )
        assert known[starts[2].id][3:] == (RUNNING, 1, None, None, None, None)
        assert await stores.engine.tree_size(root.id) == 2
        read = stores.reads.children
        assert [one.id for one in await read("default", root.id, 0, 9)] == [
            starts[1].id,
            starts[2].id,
        ]
        assert [one.id for one in await read("default", root.id, starts[1].id, 9)] == [starts[2].id]
        assert await read("other", root.id, 0, 9) == []


@in_loop
async def test_a_tree_goes_as_a_whole_and_children_first(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        roots = [start_row(n, labels=b'{"a":"b"}') for n in (1, 2)]
        children = [
            start_row(n, parent=roots[0].id, parent_task=0, root=roots[0].id) for n in range(3, 8)
        ]
        busy = start_row(9, parent=roots[1].id, parent_task=0, root=roots[1].id)
        await write(stores, lease, Batch(starts=[*roots, *children, busy]))
        ends = [finish_row(one.id, 1) for one in (*roots, *children)]
        approvals = [approval_row(children[0].id)]
        await write(stores, lease, Batch(finishes=ends, approvals=approvals))
        forget = stores.engine.forget_finished
        before_us = T0_US + 2_000
        gone = [await forget(before_us, 2) for _ in range(4)]
        assert [len(page) for page in gone] == [2, 2, 2, 0]
        assert gone[2][1] == (roots[0].id, "default")
        assert await stores.reads.approval("default", children[0].id, 1, -1, 1) is None
        assert await stores.engine.load(roots[1].id) is not None
        await write(stores, lease, Batch(finishes=[finish_row(busy.id, 1)]))
        assert sorted(await forget(before_us, 9)) == [
            (roots[1].id, "default"),
            (busy.id, "default"),
        ]


@in_loop
async def test_a_bulk_job_is_stored_once_and_moves_by_its_cursor(backend: Backend) -> None:
    async with backend.ready() as (stores, _):
        engine = stores.engine
        job = bulk_row(1, request_id="r")
        assert await engine.put_bulk(job) == (job, True)
        assert await engine.put_bulk(bulk_row(2, request_id="r")) == (job, False)
        other = bulk_row(3, partition=4)
        assert await engine.put_bulk(other) == (other, True)
        assert await engine.open_bulks([3], 9) == [job]
        moved = job._replace(matched=4, done=3, refused=1, cursor=b"7", sample=b'["a"]')
        assert await engine.advance_bulk(moved, b"")
        assert not await engine.advance_bulk(moved, b"")
        assert await stores.reads.bulk("default", 1) == moved
        assert await stores.reads.bulk("other", 1) is None
        done = moved._replace(state=BULK_DONE)
        assert await engine.advance_bulk(done, b"7")
        assert not await engine.advance_bulk(moved, b"7")
        assert await engine.open_bulks([3, 4], 9) == [other]


@in_loop
async def test_a_filter_names_executions_by_id(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        starts = [
            start_row(n, at_us=T0_US + n * 1000, labels=b'{"team":"%d"}' % (n % 2))
            for n in range(4)
        ]
        await write(stores, lease, Batch(starts=starts))
        await write(stores, lease, Batch(finishes=[finish_row(starts[0].id, 1, status=5)]))

        async def found(after: int = 0, limit: int = 9, **wanted: object) -> list[int]:
            filter_ = ExecutionFilter(**wanted)  # type: ignore[arg-type]
            rows = await stores.engine.matching("default", filter_, after, limit)
            assert all(name == f"triage-{number}" for number, name in rows)
            return [[one.id for one in starts].index(number) for number, _ in rows]

        assert await found() == [0, 1, 2, 3]
        assert await found(limit=2) == [0, 1]
        assert await found(after=starts[1].id) == [2, 3]
        assert await found(statuses=(5,)) == [0]
        assert await found(label=("team", "1")) == [1, 3]
        assert await found(workflow="none") == []
        assert await found(started_after_us=T0_US + 1000, started_before_us=T0_US + 3000) == [1, 2]


@in_loop
async def test_what_refuses_a_retry_is_known_from_rows(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        starts = [start_row(n, parent=n == 1 or None) for n in range(6)]
        ids = [one.id for one in starts]
        batch = Batch(
            starts=starts,
            changes=[
                StatusChange(ids[3], PAUSED, "lunch"),
                StatusChange(ids[4], PAUSED, "TASK_FAILED"),
            ],
            events=[event_row(ids[2], 1, kind=int(EventKind.COMPENSATING)), event_row(ids[0], 1)],
        )
        await write(stores, lease, batch)
        full = finish_row(ids[5], limits.HISTORY_ROWS_MAX, status=5)
        await write(stores, lease, Batch(finishes=[finish_row(ids[0], 2, status=5), full]))
        assert await stores.engine.unretryable(ids) == {ids[1], ids[2], ids[3], ids[5]}
        assert await stores.engine.unretryable([]) == set()


@in_loop
async def test_a_letter_arrives_once(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        first = Letter(3, "a", 1, b"x")
        await write(stores, lease, Batch(letters=[first, Letter(4, "b", 2, b"y")]))
        await write(stores, lease, Batch(letters=[first]))
        (letter,) = await stores.engine.letters([3], 9)
        assert letter[1:] == (3, 1, b"x")
        assert len(await stores.engine.letters([3, 4], 9)) == 2
        assert await stores.engine.has_letter("b")
        assert not await stores.engine.has_letter("c")
        start = start_row(1)
        await write(stores, lease, Batch(starts=[start], read=[letter.id]))
        assert await stores.engine.letters([3], 9) == []


@in_loop
async def test_a_commands_request_id_is_kept_with_its_rows(backend: Backend) -> None:
    async with backend.ready() as (stores, lease):
        start = start_row(1)
        request = RequestRow("default", "retry/1/r", b"hash", start.id, "p", T0_US + DAY_US)
        await write(stores, lease, Batch(starts=[start], requests=[request]))
        known = await stores.engine.find_request("default", "retry/1/r")
        assert known is not None
        assert known == (start.id, "p", b"hash")
