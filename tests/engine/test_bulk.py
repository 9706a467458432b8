"""Bulk jobs: durable, counted, worked on by whoever owns their partition."""

import pytest

from bend_server.core.errors import InvalidInput
from bend_server.core.model import ExecutionStatus
from bend_server.ports.control import BULK_DONE, BULK_RUNNING, BulkRow, ExecutionFilter
from bend_server.ports.engine import BulkCommand
from tests.engine.house import House, begin, command, completed, failed, finish, housed, until
from tests.kit.plans import chain

CANCEL, RETRY = 1, 2


def job(action: int, **changes: object) -> BulkCommand:
    values: dict[str, object] = {
        "namespace": "default",
        "action": action,
        "filter": ExecutionFilter(),
        "reason": "clean up",
        "actor": "user/ada",
        "dry_run": False,
        "request_id": "",
    }
    return BulkCommand(**{**values, **changes})  # type: ignore[arg-type]


async def done(house: House, row: BulkRow) -> BulkRow:
    def stored() -> BulkRow:
        return house.database.control.bulks[row.id]

    await until(lambda: stored().state == BULK_DONE)
    return stored()


@housed
async def test_a_bulk_cancel_ends_everything_that_runs(house: House) -> None:
    engine = await house.engine()
    plan_ = await house.workflow(chain(1))
    outcomes = await engine.start_executions([command(plan_) for _ in range(250)])
    counted = await engine.bulk(job(CANCEL, dry_run=True))
    assert (counted.state, counted.matched, counted.done) == (BULK_DONE, 250, 0)
    assert counted.sample.count(b",") == 9
    assert house.record(outcomes[0].execution).status == ExecutionStatus.RUNNING
    row = await engine.bulk(job(CANCEL, request_id="r"))
    assert row.state == BULK_RUNNING
    assert (await engine.bulk(job(CANCEL, request_id="r"))).id == row.id
    ended = await done(house, row)
    assert (ended.matched, ended.done, ended.refused) == (250, 250, 0)
    for one in outcomes:
        assert await finish(engine, one.execution) == ExecutionStatus.CANCELLED
    assert len(house.database.control.bulks) == 2


@housed
async def test_a_bulk_retry_takes_what_failed_and_survives_a_takeover(house: House) -> None:
    first = await house.engine("e1")
    executor = await house.executor(failed)
    plan_ = await house.workflow(chain(1))
    outcomes = await first.start_executions([command(plan_) for _ in range(120)])
    for one in outcomes:
        assert await finish(first, one.execution) == ExecutionStatus.FAILED
    executor.handle = completed
    row = await first.bulk(job(RETRY))
    await house.pause(0.02)
    await house.crash(first)
    second = await house.engine("e2")
    ended = await done(house, row)
    assert ended.matched == ended.done + ended.refused >= 120
    for one in outcomes:
        assert await finish(second, one.execution) == ExecutionStatus.COMPLETED
        assert house.record(one.execution).run == 2


@housed
async def test_a_bulk_job_counts_what_refuses(house: House) -> None:
    engine = await house.engine()
    await house.executor(failed)
    plan_ = await house.workflow(chain(1))
    started = await begin(engine, plan_)
    assert await finish(engine, started.execution) == ExecutionStatus.FAILED
    house.record(started.execution).start = house.record(started.execution).start._replace(parent=1)
    counted = await engine.bulk(job(RETRY, dry_run=True))
    assert (counted.matched, counted.refused, counted.sample) == (1, 1, b"[]")
    ended = await done(house, await engine.bulk(job(RETRY)))
    assert (ended.matched, ended.done, ended.refused) == (1, 0, 1)


@pytest.mark.parametrize(("action", "status"), [(CANCEL, 4), (RETRY, 2), (RETRY, 4), (7, 2)])
def test_an_action_takes_only_what_it_can_change(action: int, status: int) -> None:
    @housed
    async def run(house: House) -> None:
        engine = await house.engine()
        with pytest.raises(InvalidInput):
            await engine.bulk(job(action, filter=ExecutionFilter(statuses=(status,))))

    run()
