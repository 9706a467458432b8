"""One pool over a place that the test drives: up, down, crashes, deadlines, replacements."""

from typing import Any

from bend_server.executor.pools.heard import Heard
from bend_server.executor.pools.keeper import Keeper
from tests.executor.conftest import Stage, on_stage
from tests.kit.fakes.pools import FakeDriver, announcement, demand, spec_of
from tests.kit.links import Counter

QUICK = {
    "tasks_per_instance": 4,
    "up_after": {},
    "down_after": {"seconds": 2},
    "idle": {"seconds": 5},
}


class Watch:
    """A keeper that is looked after twice a second; instances connect when they are told to."""

    def __init__(self, stage: Stage, **fields: Any) -> None:
        self.stage = stage
        self.heard = Heard()
        self.driver = FakeDriver()
        self.connects = True
        self.connected: dict[str, bool] = {}
        self.in_flight = 0
        self.tasks = 0
        self.oldest_us = 0
        self._sequence = 0
        fields.setdefault("scaling", QUICK)
        self.keeper = Keeper(spec_of(**fields), self.driver, self.heard, stage.clock, Counter())

    async def turns(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            now = self.stage.loop.time()
            if self.connects:
                self.connected |= dict.fromkeys(self.driver.alive, True)
            names = [f"slow/{name}" for name in self.connected if name in self.driver.alive]
            self._sequence += 1
            self.heard.announced(
                announcement(self._sequence, *names, in_flight=self.in_flight), now
            )
            self.heard.demanded(demand(self.tasks, oldest_us=self.oldest_us), now)
            self.heard.expire(now)
            await self.keeper.tick(now)
            await self.stage.loop_sleep(0.5)

    @property
    def count(self) -> int:
        return len(self.driver.alive)


@on_stage
async def test_a_queue_that_fills_and_drains_moves_the_instances(stage: Stage) -> None:
    watch = Watch(stage)
    await watch.turns(5)
    assert watch.count == 0
    watch.tasks = 20
    await watch.turns(5)
    assert (watch.count, watch.keeper.state) == (5, "ACTIVE")
    watch.tasks = 0
    await watch.turns(30)
    assert watch.count == 0
    assert watch.driver.killed == []
    assert (watch.keeper.counts.starts, watch.keeper.counts.stops) == (5, 5)
    assert watch.keeper.counts.failures == 0


@on_stage
async def test_instances_with_tasks_in_hand_are_not_idle(stage: Stage) -> None:
    watch = Watch(stage)
    watch.tasks = 1
    await watch.turns(2)
    watch.tasks, watch.in_flight = 0, 1
    await watch.turns(60)
    assert watch.count == 1


@on_stage
async def test_other_instances_of_the_component_are_taken_into_account(stage: Stage) -> None:
    watch = Watch(stage)
    now = stage.loop.time()
    watch.heard.announced(announcement(1, "/hand-made", credit=16, executor="x2"), now)
    watch.tasks = 16
    await watch.turns(3)
    assert watch.count == 0
    watch.tasks = 20
    await watch.turns(3)
    assert watch.count == 1


@on_stage
async def test_an_ended_instance_is_replaced_after_pauses_that_grow(stage: Stage) -> None:
    watch = Watch(stage, min_instances=1, restarts={"backoff": {"seconds": 1}, "crashes": 100})
    gaps = []
    await watch.turns(1)
    for _ in range(4):
        watch.driver.end(next(iter(watch.driver.alive)))
        ended = stage.loop.time()
        while not watch.driver.alive:
            await watch.turns(0.5)
        gaps.append(stage.loop.time() - ended)
    assert gaps == sorted(gaps)
    assert gaps[0] <= 2.0
    assert 8.0 <= gaps[3] <= 9.0
    assert watch.keeper.counts.failures == 4
    assert "exit code 1" in watch.keeper.ends[-1]


@on_stage
async def test_a_crash_loop_is_seen_tried_seldom_and_left_when_it_is_over(stage: Stage) -> None:
    watch = Watch(
        stage,
        min_instances=3,
        restarts={
            "backoff": {"nanos": 100_000_000},
            "crashes": 3,
            "window": {"seconds": 20},
            "pause": {"seconds": 60},
        },
    )
    await watch.turns(0.5)
    for _ in range(3):
        for name in list(watch.driver.alive):
            watch.driver.end(name, "exit code 3")
        await watch.turns(1)
    keeper = watch.keeper
    assert keeper.state == "CRASH_LOOP"
    assert "exit code 3" in keeper.reason
    begun = len(watch.driver.started)
    await watch.turns(55)
    assert len(watch.driver.started) == begun
    await watch.turns(10)
    assert watch.count == 1
    await watch.turns(30)
    assert (keeper.state, watch.count) == ("ACTIVE", 3)


@on_stage
async def test_who_does_not_connect_is_ended_and_counts_as_failed(stage: Stage) -> None:
    watch = Watch(stage, min_instances=1, start={"seconds": 5})
    watch.connects = False
    await watch.turns(5)
    assert watch.driver.killed == []
    await watch.turns(2)
    assert len(watch.driver.killed) == 1
    assert watch.keeper.counts.failures == 1
    assert "did not connect within 5 s" in watch.keeper.ends[0]


@on_stage
async def test_who_does_not_finish_is_killed_after_the_drain(stage: Stage) -> None:
    watch = Watch(stage, drain={"seconds": 10})
    watch.driver.obedient = False
    watch.tasks = 4
    await watch.turns(2)
    watch.tasks = 0
    await watch.turns(8)
    assert (len(watch.driver.asked), watch.driver.killed) == (1, [])
    await watch.turns(10)
    assert watch.driver.killed == watch.driver.asked
    counts = watch.keeper.counts
    assert (counts.kills, counts.stops, counts.failures) == (1, 1, 0)


@on_stage
async def test_who_uses_too_much_memory_is_ended(stage: Stage) -> None:
    watch = Watch(stage, min_instances=1, resources={"memory_mib": 100})
    await watch.turns(2)
    (name,) = watch.driver.alive
    big = watch.driver.alive[name]._replace(memory_bytes=200 * 1024 * 1024)
    watch.driver.alive[name] = big
    await watch.turns(1.5)
    assert watch.driver.killed == [name]
    assert "200 MiB of 100" in watch.keeper.ends[0]


@on_stage
async def test_a_new_description_replaces_one_after_the_other(stage: Stage) -> None:
    watch = Watch(stage, min_instances=3)
    await watch.turns(3)
    old = set(watch.driver.alive)
    changed = spec_of(min_instances=3, scaling=QUICK, process={"command": ["worker", "--better"]})
    least = []
    watch.keeper.change(changed, None)
    for _ in range(20):
        await watch.turns(0.5)
        least.append(watch.count)
    assert not old & set(watch.driver.alive)
    assert (watch.count, min(least)) == (3, 2)
    assert watch.keeper.counts.failures == 0
    watch.keeper.change(spec_of(min_instances=3, max_instances=5, scaling=QUICK), None)
    # Other bounds are no other program.
    watch.keeper.change(
        spec_of(
            min_instances=3,
            max_instances=5,
            scaling=QUICK,
            process={"command": ["worker", "--better"]},
        ),
        None,
    )
    before = set(watch.driver.alive)
    await watch.turns(5)
    assert set(watch.driver.alive) == before


@on_stage
async def test_a_held_pool_ignores_demand_within_its_most(stage: Stage) -> None:
    watch = Watch(stage)
    watch.keeper.held = 20
    await watch.turns(2)
    assert watch.count == 8
    watch.keeper.held = 2
    watch.tasks = 100
    await watch.turns(2)
    assert watch.count == 2
    watch.keeper.held = None
    await watch.turns(5)
    assert watch.count == 8


@on_stage
async def test_a_fault_of_the_place_is_the_pools_state_and_passes(stage: Stage) -> None:
    watch = Watch(stage, min_instances=1)
    watch.driver.fault = "the place is away"
    await watch.turns(3)
    assert (watch.keeper.state, watch.keeper.reason) == ("BROKEN", "the place is away")
    watch.driver.fault = ""
    await watch.turns(2)
    assert (watch.keeper.state, watch.keeper.reason, watch.count) == ("ACTIVE", "", 1)


@on_stage
async def test_what_an_earlier_executor_left_is_taken_over(stage: Stage) -> None:
    watch = Watch(stage)
    for number in (1, 2):
        await watch.driver.start(watch.keeper.spec, f"slow-{number}-0000", number)
    watch.tasks = 8
    await watch.turns(3)
    assert sorted(watch.driver.alive) == ["slow-1-0000", "slow-2-0000"]
    assert watch.keeper.counts.starts == 0


@on_stage
async def test_who_drains_by_itself_is_replaced_and_did_not_fail(stage: Stage) -> None:
    watch = Watch(stage, min_instances=1)
    await watch.turns(2)
    (name,) = watch.driver.alive
    watch.heard.announced(
        announcement(1000, f"slow/{name}", draining=[f"slow/{name}"]), stage.loop.time()
    )
    await watch.keeper.tick(stage.loop.time())
    assert watch.driver.asked == [name]
    await watch.keeper.tick(stage.loop.time())
    assert (watch.count, name in watch.driver.alive) == (1, False)
    assert (watch.keeper.counts.failures, watch.keeper.counts.stops) == (0, 1)
