"""Starts: idempotent by request id, judged one by one."""

from dataclasses import replace

import pytest

from bend_server.core.errors import AlreadyExists, Conflict, DependencyDown, DomainError
from bend_server.core.model import ExecutionStatus
from tests.engine.house import House, begin, command, finish, housed
from tests.engine.stores import TroubledStore
from tests.kit.plans import chain


@housed
async def test_a_repeated_request_starts_nothing(house: House) -> None:
    """A client that retries after a lost answer must not run its workflow twice."""
    engine = await house.engine()
    plan = await house.workflow(chain(1))
    first = await begin(engine, plan, request_id="r1")
    again = await begin(engine, plan, request_id="r1")
    assert (again.execution, again.public_id) == (first.execution, first.public_id)
    assert not again.created
    assert len(house.database.executions) == 1


@housed
async def test_a_storm_of_one_request_starts_one(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(chain(1))
    outcomes = await engine.start_executions([command(plan, request_id="r1") for _ in range(50)])
    assert len({outcome.execution for outcome in outcomes}) == 1
    assert [outcome.created for outcome in outcomes].count(True) == 1
    assert len(house.database.executions) == 1


@housed
async def test_a_request_id_with_other_content_is_refused(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(chain(1))
    await begin(engine, plan, request_id="r1")
    (outcome,) = await engine.start_executions(
        [command(plan, request_id="r1", request_hash=b"other")]
    )
    assert isinstance(outcome.error, AlreadyExists)
    assert outcome.error.reason == "REQUEST_ID_REUSED"


@housed
async def test_each_start_of_a_batch_is_judged_alone(house: House) -> None:
    engine = await house.engine()
    await house.executor()
    plan = await house.workflow(chain(1))
    await begin(engine, plan, execution_id="mine")
    outcomes = await engine.start_executions(
        [
            command(plan),
            command(plan, execution_id="mine"),
            command(plan, workflow="missing"),
            command(plan),
        ]
    )
    reasons = [outcome.error.reason if outcome.error else "" for outcome in outcomes]
    assert reasons == ["", "EXECUTION_EXISTS", "WORKFLOW_NOT_FOUND", ""]
    for outcome in (outcomes[0], outcomes[3]):
        assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED


@housed
async def test_an_outdated_revision_is_refused(house: House) -> None:
    """The caller meant the newest revision; another one came between its look and the commit."""
    engine = await house.engine()
    old = await house.workflow(chain(1))
    await house.workflow(replace(old, revision=2))
    (outcome,) = await engine.start_executions([command(old)])
    assert isinstance(outcome.error, Conflict)
    named = await begin(engine, old, current=False)
    assert named.created


@housed
async def test_an_archived_workflow_starts_nothing(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(chain(1))
    await house.stores.workflows.set_archived("default", plan.workflow, True, 1)
    (outcome,) = await engine.start_executions([command(plan)])
    assert outcome.error is not None
    assert outcome.error.reason == "WORKFLOW_ARCHIVED"


@housed
async def test_too_many_live_executions_refuse_more(house: House) -> None:
    engine = await house.engine(executions_live_max=3)
    plan = await house.workflow(chain(1))
    outcomes = await engine.start_executions([command(plan) for _ in range(5)])
    reasons = [outcome.error.reason if outcome.error else "" for outcome in outcomes]
    assert reasons == ["", "", "", "OVERLOADED", "OVERLOADED"]


@housed
async def test_without_sql_a_start_says_so(house: House) -> None:
    """The outcome is unknown then: the caller repeats with the same request id."""
    store = TroubledStore(house.stores.engine)
    engine = await house.engine(store=store)
    await house.executor()
    plan = await house.workflow(chain(1))
    store.fail_after = 1
    with pytest.raises(DependencyDown):
        await engine.start_executions([command(plan, request_id="r1")])
    outcome = None
    while outcome is None:
        try:
            (outcome,) = await engine.start_executions([command(plan, request_id="r1")])
        except DomainError:
            await house.pause(0.1)
    assert not outcome.created
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert len(house.database.executions) == 1
