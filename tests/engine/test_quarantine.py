"""Poison stays alone."""

from typing import Any

from bend_server.core import machine
from bend_server.core.effects import Effects
from bend_server.core.errors import DependencyDown
from bend_server.core.model import EventKind, ExecutionStatus
from bend_server.core.plan import Rendered, Scope
from bend_server.engine.results import outcome_of
from bend_server.ports.store import Batch
from tests.engine.house import House, begin, command, completed, finish, housed, until
from tests.engine.stores import TroubledStore
from tests.kit.plans import Task, chain, make_plan


def _poisoned(batch: Batch) -> bool:
    return any(row.output == b'"poison"' for row in batch.results)


@housed
async def test_invariant_10_poison_stays_alone(house: House) -> None:
    """One row that SQL refuses must not stop the group commit for everybody."""
    store = TroubledStore(house.stores.engine)
    store.refuse = _poisoned
    engine = await house.engine(store=store)
    bad: list[int] = []

    def handle(task: Any) -> Any:
        poison = task.execution in bad and task.task == 1
        return completed(task, b'"poison"' if poison else b"1")

    plan = await house.workflow(chain(3))
    outcomes = await engine.start_executions([command(plan) for _ in range(50)])
    bad.append(outcomes[7].execution)
    await house.executor(handle)
    for place, outcome in enumerate(outcomes):
        if place != 7:
            assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    record = house.record(bad[0])
    assert record.status == ExecutionStatus.PAUSED
    assert record.pause_reason == "QUARANTINED"
    assert [event.kind for event in record.events.values()] == [EventKind.QUARANTINED]
    assert engine.counters["quarantined"] == 1
    assert "memory_dropped" not in engine.counters
    # It can still be cancelled.
    status = await engine.cancel(bad[0], reason="broken", actor="user/ada", request_id="")
    assert status == ExecutionStatus.CANCELLED


@housed
async def test_a_fault_of_the_machine_breaks_one_execution(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(chain(2))
    outcomes = await engine.start_executions([command(plan) for _ in range(10)])
    bad = outcomes[3].execution
    real = machine.apply

    def faulty(state: Any, *rest: Any) -> bool:
        if state.id == bad:
            real(state, *rest)
            raise RuntimeError("a fault of ours")
        return real(state, *rest)

    machine.apply = faulty
    try:
        await house.executor()
        for outcome in outcomes:
            if outcome.execution != bad:
                assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
        await until(lambda: house.record(bad).status == ExecutionStatus.PAUSED)
    finally:
        machine.apply = real
    assert not house.record(bad).results


@housed
async def test_a_refused_start_is_answered(house: House) -> None:
    store = TroubledStore(house.stores.engine)
    store.refuse = lambda batch: any(row.public_id == "bad" for row in batch.starts)
    engine = await house.engine(store=store)
    await house.executor()
    plan = await house.workflow(chain(1))
    outcomes = await engine.start_executions(
        [command(plan), command(plan, execution_id="bad"), command(plan)]
    )
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert await finish(engine, outcomes[2].execution) == ExecutionStatus.COMPLETED


@housed
async def test_history_that_contradicts_itself_is_quarantined_at_recovery(house: House) -> None:
    engine = await house.engine()
    plan = await house.workflow(chain(2))
    good = await begin(engine, plan)
    bad = await begin(engine, plan)
    executor = await house.executor(lambda task: completed(task) if not task.task else None)
    await until(lambda: len(executor.seen) == 4)
    await engine.stop()
    await executor.stop()
    results = house.record(bad.execution).results
    (key,) = results
    results[key] = results[key]._replace(seq=5)
    await house.executor(name="x2")
    second = await house.engine("e2")
    assert await finish(second, good.execution) == ExecutionStatus.COMPLETED
    assert house.record(bad.execution).pause_reason == "QUARANTINED"


@housed
async def test_old_memory_is_no_poison(house: House) -> None:
    """A commit that was reported lost but arrived later must not quarantine anybody."""
    engine = await house.engine()
    executor = await house.executor(lambda task: None if task.task else completed(task))
    plan = await house.workflow(chain(2))
    outcome = await begin(engine, plan)
    await until(lambda: len(executor.seen) == 2)
    row = next(iter(house.record(outcome.execution).results.values()))
    ghost = row._replace(seq=2, task=1, output=b'"ghost"')
    house.record(outcome.execution).results[1, -1, 1] = ghost
    await house.publish_results(executor, [completed(executor.seen[1])])
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert "quarantined" not in engine.counters


@housed
async def test_a_fault_in_rendering_fails_one_task(house: House) -> None:
    """It happens after a commit, among the tasks of everybody: memory must not be dropped."""
    engine = await house.engine()
    await house.executor()

    def broken(scope: Scope) -> Rendered:
        raise RuntimeError("a fault of ours")

    bad = await house.workflow(make_plan([Task(id="a", render=broken)], workflow="bad"))
    good = await house.workflow(chain(3))
    outcomes = await engine.start_executions([command(good), command(bad), command(good)])
    ends = [await finish(engine, outcome.execution) for outcome in outcomes]
    assert ends == [ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.COMPLETED]
    assert "memory_dropped" not in engine.counters


@housed
async def test_a_fault_in_a_condition_quarantines_one_execution(house: House) -> None:
    engine = await house.engine()
    await house.executor()

    def broken(scope: Scope) -> bool:
        raise RuntimeError("a fault of ours")

    tasks = [Task(id="a"), Task(id="b", after=["a"], condition=broken)]
    bad = await house.workflow(make_plan(tasks, workflow="bad"))
    root = await house.workflow(make_plan([Task(id="a", condition=broken)], workflow="root"))
    good = await house.workflow(chain(3))
    outcomes = await engine.start_executions([command(good), command(bad), command(root)])
    assert await finish(engine, outcomes[0].execution) == ExecutionStatus.COMPLETED
    for outcome in outcomes[1:]:
        record = house.record(outcome.execution)
        await until(lambda record=record: record.pause_reason == "QUARANTINED")  # type: ignore[misc]
    assert "memory_dropped" not in engine.counters


@housed
async def test_a_plan_that_cannot_be_made_stops_nobody_else(house: House) -> None:
    """A release that cannot compile one old document must still recover all the others."""
    first = await house.engine("e1")
    good = await house.workflow(chain(2))
    bad = await house.workflow(make_plan([Task(id="a")], workflow="bad"))
    outcomes = await first.start_executions([command(good), command(bad), command(good)])
    await house.crash(first)
    house.plans.faults["bad"] = KeyError("a fault of ours")
    await house.executor()
    second = await house.engine("e2")
    assert await finish(second, outcomes[0].execution) == ExecutionStatus.COMPLETED
    assert await finish(second, outcomes[2].execution) == ExecutionStatus.COMPLETED
    assert house.record(outcomes[1].execution).pause_reason == "QUARANTINED"


@housed
async def test_a_refused_quarantine_does_not_stop_the_engine(house: House) -> None:
    store = TroubledStore(house.stores.engine)
    store.refuse = lambda batch: _poisoned(batch) or bool(batch.events)
    engine = await house.engine(store=store)
    plan = await house.workflow(chain(2))
    outcomes = await engine.start_executions([command(plan) for _ in range(5)])
    bad = outcomes[2].execution
    await house.executor(
        lambda task: completed(task, b'"poison"' if task.execution == bad else b"1")
    )
    for outcome in outcomes:
        if outcome.execution != bad:
            assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert engine.counters["quarantines_refused"] >= 1
    assert "memory_dropped" not in engine.counters


@housed
async def test_a_result_that_was_not_written_is_not_acked(house: House) -> None:
    """The rows of a batch that met old memory are gone; their results must come again."""
    engine = await house.engine()
    executor = await house.executor(lambda task: None)
    plan = await house.workflow(make_plan([Task(id="a"), Task(id="b")]))
    outcome = await begin(engine, plan)
    await until(lambda: len(executor.seen) == 2)
    first, second = executor.seen
    # A commit that was given up arrives late: it has the first result, memory does not know it.
    state = engine._live.states[outcome.execution]
    effects = Effects()
    real = machine.fold(plan, state.start, [], [], None)
    machine.resume(real, 1, house.chance, effects)
    machine.apply(real, outcome_of(completed(first)), 1, house.chance, effects)
    house.record(outcome.execution).results[first.task, -1, 1] = effects.results[0]
    await house.publish_results(executor, [completed(first), completed(second, b'"kept"')])
    assert await finish(engine, outcome.execution, 60) == ExecutionStatus.COMPLETED
    assert house.record(outcome.execution).results[second.task, -1, 1].output == b'"kept"'
    assert "tasks_lost" not in engine.counters


@housed
async def test_a_commit_that_was_given_up_is_fenced_off(house: House) -> None:
    """A lease that cannot be renewed drops memory while a commit is still on its way."""
    store = TroubledStore(house.stores.engine)
    engine = await house.engine(store=store)
    await house.executor()
    plan = await house.workflow(chain(2))
    outcomes = await engine.start_executions([command(plan) for _ in range(5)])
    store.gate.clear()
    arrived = store.arrived
    await until(lambda: store.arrived > arrived)
    error = DependencyDown("SQL cannot be reached")
    engine._commits.drop(error)
    engine._ownership.lost(error)
    await house.pause(3)
    assert not engine.ready
    store.gate.set()
    for outcome in outcomes:
        assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert "executions_refused" not in engine.counters
