"""Seeded storms: crashes, lost commits, lost messages, wiped queues; then calm, then the truth."""

import asyncio
import random
from typing import Any

import pytest

from bend_server.core.errors import DependencyDown, DomainError, WrongState
from bend_server.core.model import EXECUTION_TERMINAL, TASK_TERMINAL
from bend_server.core.plan import Plan, RetryPolicy
from bend_server.engine import Engine
from bend_server.ports.engine import StartOutcome
from tests.engine.house import FakeExecutor, House, command, completed, failed, housed, until
from tests.engine.stores import TroubledStore
from tests.kit.plans import Task, make_plan

RETRY = RetryPolicy(attempts_max=4, initial_us=500_000, jitter=True)


class RoughWeather:
    """Delays everything a little, loses and doubles some."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.calm = False

    def fate(self, kind: str, subject: str) -> tuple[float, ...]:
        """Return when the copies arrive."""
        delay = self._chance.uniform(0.0005, 0.02)
        if self.calm:
            return (delay,)
        dice = self._chance.random()
        if dice < 0.02:
            return ()
        if dice < 0.04:
            return (delay, delay * 3)
        return (delay,)


def _diamond() -> Plan:
    return make_plan(
        [
            Task(id="a", retry=RETRY),
            Task(id="b", after=["a"], retry=RETRY),
            Task(id="c", after=["a"], retry=RETRY, allow_failure=True),
            Task(id="d", after=["b", "c"], retry=RETRY),
        ]
    )


async def _start(house: House, plan: Plan, number: int) -> StartOutcome:
    """Start with one request id until somebody accepts it, as a patient client does."""
    while True:
        engine = house.chance_of.choice(house.engines) if house.engines else None
        try:
            if engine is not None:
                (outcome,) = await engine.start_executions([command(plan, request_id=f"r{number}")])
                if outcome.error is None:
                    return outcome
        except DependencyDown:
            pass
        except DomainError:
            raise
        await house.pause(0.5)


async def _disturb(
    house: House,
    stores: list[TroubledStore],
    executors: list[FakeExecutor],
    chance: random.Random,
) -> None:
    """Do one bad thing."""
    dice = chance.randrange(8)
    if dice == 0 and len(house.engines) > 1:
        await house.crash(chance.choice(house.engines))
    elif dice == 1:
        chance.choice(stores).fail_before = chance.randrange(3)
    elif dice == 2:
        chance.choice(stores).fail_after = chance.randrange(2)
    elif dice == 3:
        house.broker.wipe()
    elif dice == 4:
        engine: Engine = chance.choice(house.engines)
        await house.freeze(engine)
        await house.pause(chance.uniform(0.1, 25))
        await house.thaw(engine)
    elif dice == 5:
        place = chance.randrange(len(executors))
        old = executors[place]
        await old.stop()
        executors[place] = await house.executor(old.handle, name=f"{old.name}+")
    elif dice == 6:
        running = [one for one in house.database.executions.values() if one.finish is None]
        if running and house.engines:
            await _cancel(chance.choice(house.engines), chance.choice(running).start.id)
    else:
        await house.grow(stores)


async def _cancel(engine: Engine, execution: int) -> None:
    try:
        await engine.cancel(execution, reason="storm", actor="user/ada", request_id="")
    except (DependencyDown, WrongState):
        return


@pytest.mark.parametrize("seed", range(6))
def test_storms_lose_and_double_nothing(seed: int) -> None:
    """Whatever happens in between: every run ends once, every result counts once."""
    print(f"seed {seed}")
    chance = random.Random(seed)

    @housed
    async def story(house: House) -> None:
        weather = RoughWeather(chance)
        house.chance_of = chance
        house.broker.weather = weather
        stores: list[TroubledStore] = []
        for _ in range(2):
            await house.grow(stores)

        def handle(task: Any) -> Any:
            if chance.random() < 0.15:
                return failed(task, retryable=True)
            return completed(task, b"%d" % task.task)

        executors = [await house.executor(handle, name=name) for name in ("x1", "x2")]
        plan = await house.workflow(_diamond())
        async with asyncio.TaskGroup() as group:
            starts = [group.create_task(_start(house, plan, number)) for number in range(60)]
            for _ in range(12):
                await house.pause(chance.uniform(0.05, 4))
                await _disturb(house, stores, executors, chance)
        weather.calm = True
        for store in stores:
            store.fail_before = store.fail_after = 0
        ids = {task.result().execution for task in starts}
        assert len(ids) == 60
        assert set(house.database.executions) == ids
        await until(lambda: all(house.record(one).status in EXECUTION_TERMINAL for one in ids), 900)
        for one in ids:
            _check(house, one, len(plan.tasks))

    story()


def _check(house: House, execution: int, tasks: int) -> None:
    record = house.record(execution)
    rows = sorted(
        [row.seq for row in record.results.values()] + [row.seq for row in record.events.values()]
    )
    assert rows == list(range(1, len(rows) + 1))
    assert record.finish is not None
    assert record.finish.seq == len(rows) + 1
    assert record.pause_reason is None
    last: dict[int, int] = {}
    for row in sorted(record.results.values(), key=lambda row: row.seq):
        final = row.status in TASK_TERMINAL and row.retry_at_us is None
        assert last.get(row.task, 0) == 0, "a task went on after its end"
        last[row.task] = int(final)
    assert last == dict.fromkeys(range(tasks), 1)
