"""Executions that wait long leave memory and come back in time."""

import asyncio
from collections import Counter
from typing import Any, cast

from bend_server.core.model import EventKind, ExecutionStatus
from bend_server.core.plan import RetryPolicy
from bend_server.engine.parking import DUE_MAX
from bend_server.ports.store import Committed, EngineStore
from tests.engine.control import own, plan
from tests.engine.house import House, begin, command, completed, failed, finish, housed, until
from tests.engine.stores import TroubledStore
from tests.kit.plans import Task, make_plan

LONG = RetryPolicy(attempts_max=3, initial_us=900_000_000, max_us=900_000_000, jitter=False)


def _flaky(task: Any) -> Any:
    return completed(task) if task.attempt == 2 else failed(task, retryable=True)


@housed
async def test_a_long_backoff_leaves_memory_and_comes_back(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(_flaky)
    flaky = await house.workflow(make_plan([Task(id="a", retry=LONG)]))
    outcome = await begin(engine, flaky)
    begun = house.clock.now_us()
    await until(lambda: len(executor.seen) == 1)
    await until(lambda: engine.live_count() == 0)
    assert house.record(outcome.execution).parked is not None
    await house.pause(300)
    assert engine.live_count() == 0
    assert await finish(engine, outcome.execution) == ExecutionStatus.COMPLETED
    assert 900 <= (house.clock.now_us() - begun) / 1e6 < 915
    assert engine.counters["parked"] == 1


@housed
async def test_a_parked_execution_can_be_cancelled(house: House) -> None:
    engine = await house.engine()
    await house.executor(_flaky)
    flaky = await house.workflow(make_plan([Task(id="a", retry=LONG)]))
    outcome = await begin(engine, flaky)
    await until(lambda: engine.counters.get("parked") == 1)
    await engine.cancel(outcome.execution, reason="", actor="", request_id="")
    assert await finish(engine, outcome.execution, 5) == ExecutionStatus.CANCELLED


@housed
async def test_parked_executions_survive_a_restart(house: House) -> None:
    first = await house.engine("e1")
    executor = await house.executor(_flaky)
    flaky = await house.workflow(make_plan([Task(id="a", retry=LONG)]))
    outcome = await begin(first, flaky)
    await until(lambda: first.counters.get("parked") == 1)
    await house.crash(first)
    second = await house.engine("e2")
    assert second.live_count() == 0
    assert await finish(second, outcome.execution) == ExecutionStatus.COMPLETED
    assert len(executor.seen) == 2


@housed
async def test_one_that_was_fetched_and_crashed_is_found_again(house: House) -> None:
    """The parked mark is taken back when it returns to memory: recovery sees it."""
    first = await house.engine("e1")
    executor = await house.executor(_flaky)
    flaky = await house.workflow(make_plan([Task(id="a", retry=LONG)]))
    outcome = await begin(first, flaky)
    await until(lambda: first.counters.get("parked") == 1)
    executor.handle = lambda task: None
    await until(lambda: len(executor.seen) == 2, 1000)
    await house.crash(first)
    executor.handle = completed
    second = await house.engine("e2")
    await house.publish_results(executor, [completed(executor.seen[1])])
    assert await finish(second, outcome.execution) == ExecutionStatus.COMPLETED


@housed
async def test_an_execution_with_work_stays(house: House) -> None:
    engine = await house.engine()
    await house.executor(lambda task: failed(task, retryable=True) if task.task == 0 else None)
    flaky = await house.workflow(make_plan([Task(id="a", retry=LONG), Task(id="b")]))
    await begin(engine, flaky)
    await house.pause(30)
    assert engine.live_count() == 1
    assert "parked" not in engine.counters


@housed
async def test_a_deadline_before_the_backoff_is_kept(house: House) -> None:
    engine = await house.engine()
    await house.executor(_flaky)
    flaky = await house.workflow(make_plan([Task(id="a", retry=LONG)], timeout_us=400_000_000))
    outcome = await begin(engine, flaky)
    begun = house.clock.now_us()
    await until(lambda: engine.counters.get("parked") == 1)
    assert await finish(engine, outcome.execution) == ExecutionStatus.TIMED_OUT
    assert 395 <= (house.clock.now_us() - begun) / 1e6 < 425


@housed
async def test_many_that_are_due_come_back_by_pages(house: House) -> None:
    """A takeover of thousands must not read them one by one, each over a network."""
    first = await house.engine("e1")
    await house.executor(_flaky)
    flaky = await house.workflow(make_plan([Task(id="a", retry=LONG)]))
    count = DUE_MAX + 100
    outcomes = await first.start_executions([command(flaky) for _ in range(count)])
    await until(lambda: first.counters.get("parked") == count)
    await house.crash(first)
    await house.pause(800)
    store = CountingStore(house.stores.engine)
    second = await house.engine("e2", store=cast("EngineStore", store))
    assert second.live_count() == count
    assert store.reads == {"load_due": 4}
    for outcome in outcomes:
        assert await finish(second, outcome.execution) == ExecutionStatus.COMPLETED


class CountingStore:
    """A store that counts how often executions are read from it."""

    def __init__(self, inner: EngineStore) -> None:
        self._inner = inner
        self.reads: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        if name in {"load", "load_due"}:
            self.reads[name] += 1
        return getattr(self._inner, name)


TWO = [Task(id="a"), Task(id="b", after=["a"])]


@housed
async def test_a_paused_execution_leaves_memory_when_what_runs_has_ended(house: House) -> None:
    engine = await house.engine()
    ends = asyncio.Event()

    async def slowly(task: Any) -> Any:
        await ends.wait()
        return completed(task)

    executor = await house.executor(slowly)
    steps = await house.workflow(make_plan(TWO, timeout_us=60_000_000))
    outcome = await begin(engine, steps)
    await until(lambda: len(executor.seen) == 1)
    await engine.pause(outcome.execution, reason="lunch", actor="ada", request_id="")
    await house.pause(5)
    assert engine.live_count() == 1, "its task runs"
    ends.set()
    await until(lambda: engine.live_count() == 0)
    record = house.record(outcome.execution)
    assert (record.status, record.parked) == (ExecutionStatus.PAUSED, (None,))
    await house.pause(1000)  # past its deadline, which stands still, and some sweeps
    assert engine.live_count() == 0
    assert engine.counters["parked"] == 1
    await engine.resume(outcome.execution, actor="ada", request_id="")
    assert await finish(engine, outcome.execution, 5) == ExecutionStatus.COMPLETED
    assert [task.task for task in executor.seen] == [0, 1]


@housed
async def test_a_paused_execution_that_is_parked_takes_what_comes_and_parks_again(
    house: House,
) -> None:
    engine = await house.engine()
    waits = plan(own("s", "signal", {"name": "go"}), Task(id="t"))
    await house.workflow(waits)
    outcome = await begin(engine, waits)
    await engine.pause(outcome.execution, reason="", actor="ada", request_id="")
    await until(lambda: engine.live_count() == 0)
    parked = engine.counters["parked"]
    await engine.signal(outcome.execution, name="go", payload=b"1", actor="ada", request_id="")
    await until(lambda: engine.counters["parked"] > parked)
    assert engine.live_count() == 0
    await house.crash(engine)
    second = await house.engine("e2")
    assert second.live_count() == 0, "a takeover leaves it where it is"
    await house.executor(completed)
    await second.resume(outcome.execution, actor="ada", request_id="")
    assert await finish(second, outcome.execution, 5) == ExecutionStatus.COMPLETED


@housed
async def test_a_paused_execution_that_is_parked_can_be_cancelled(house: House) -> None:
    engine = await house.engine()
    steps = await house.workflow(make_plan(TWO))
    outcome = await begin(engine, steps)
    await engine.pause(outcome.execution, reason="", actor="ada", request_id="")
    await until(lambda: engine.live_count() == 0)
    await engine.cancel(outcome.execution, reason="", actor="ada", request_id="")
    assert await finish(engine, outcome.execution, 5) == ExecutionStatus.CANCELLED


class SlowStore(TroubledStore):
    """Every commit takes a while."""

    async def commit(self, *what: Any) -> Committed:
        """Commit, later."""
        await asyncio.sleep(0.2)
        return await super().commit(*what)


@housed
async def test_a_row_that_is_on_its_way_keeps_an_execution_in_memory(house: House) -> None:
    """Parked in one commit while the next one carries its row: SQL would not have it yet."""
    store = SlowStore(house.stores.engine)
    engine = await house.engine(store=cast("EngineStore", store))
    waits = plan(own("s", "signal", {"name": "go"}), Task(id="t", after=["s"]))
    await house.workflow(waits)
    outcome = await begin(engine, waits)

    async def give(name: str, after_s: float) -> bool:
        await house.pause(after_s)
        return await engine.signal(
            outcome.execution, name=name, payload=b"1", actor="", request_id=""
        )

    # Kept, not taken: the execution goes on waiting, and may be parked again with each commit.
    assert not any(await asyncio.gather(*(give("other", n * 0.07) for n in range(60))))
    await until(lambda: engine.live_count() == 0)
    await house.executor(completed)
    assert await give("go", 0)
    assert await finish(engine, outcome.execution, 5) == ExecutionStatus.COMPLETED
    events = house.record(outcome.execution).events.values()
    assert len([row for row in events if row.kind == EventKind.SIGNALLED]) == 61
    assert not any(batch.changes for batch in store.commits), "no fault took it out of service"
    assert "executions_refused" not in engine.counters
