"""How many instances a pool wants, and when it may start some again: pure rules, by properties."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bend_server.executor.pools.crashes import Crashes
from bend_server.executor.pools.scaling import Observation, Trend, needed, trend, wanted
from bend_server.executor.pools.spec import PoolSpec, Restarts
from tests.kit.fakes.pools import spec_of

SCALING = {
    "tasks_per_instance": 4,
    "up_after": {"seconds": 2},
    "down_after": {"seconds": 10},
    "idle": {"seconds": 30},
    "age": {"seconds": 5},
    "step_up": 3,
}


def spec(least: int = 0, most: int = 10, **scaling: Any) -> PoolSpec:
    return spec_of(min_instances=least, max_instances=most, scaling={**SCALING, **scaling})


class Run:
    """Feeds demand to the rules once a second, as the keeper does."""

    def __init__(self, pool: PoolSpec, current: int = 0) -> None:
        self.pool = pool
        self.current = current
        self.now = 0.0
        self.trend = Trend()
        self.changed_at: float | None = None

    def look(self, demand: int, oldest_s: float = 0.0) -> int:
        seen = Observation(self.current, demand, oldest_s, 4, self.trend, self.changed_at)
        self.trend = trend(self.pool, self.trend, seen, self.now)
        answer = wanted(self.pool, seen._replace(trend=self.trend), self.now)
        if answer != self.current:
            self.current, self.changed_at = answer, self.now
        self.now += 1.0
        return answer

    def looks(self, demand: int, seconds: int) -> list[int]:
        return [self.look(demand) for _ in range(seconds)]


@st.composite
def observations(draw: Any) -> tuple[PoolSpec, Observation, float]:
    least = draw(st.integers(0, 5))
    most = draw(st.integers(max(1, least), 20))
    pool = spec(least, most, step_down=draw(st.integers(1, 5)))
    now = draw(st.floats(0, 1e6))
    moment = st.none() | st.floats(0, now)
    seen = Observation(
        current=draw(st.integers(0, 25)),
        demand=draw(st.integers(0, 200)),
        oldest_s=draw(st.floats(0, 100)),
        credit=draw(st.integers(0, 50)),
        trend=Trend(draw(moment), draw(moment), draw(moment)),
        changed_at=draw(moment),
    )
    return pool, seen, now


@given(observations())
def test_it_stays_in_its_bounds_and_steps(given_: tuple[PoolSpec, Observation, float]) -> None:
    pool, seen, now = given_
    answer = wanted(pool, seen, now)
    assert pool.least <= answer <= pool.most
    if pool.least <= seen.current <= pool.most:
        assert answer - seen.current <= pool.scaling.step_up
        assert seen.current - answer <= pool.scaling.step_down


@given(observations())
def test_it_never_moves_against_demand(given_: tuple[PoolSpec, Observation, float]) -> None:
    pool, seen, now = given_
    least, most = needed(pool.scaling, seen)
    answer = wanted(pool, seen, now)
    if pool.least <= seen.current <= pool.most:
        assert answer <= seen.current or least > seen.current
        assert answer >= seen.current or most < seen.current


@given(observations(), st.integers(0, 100))
def test_more_demand_never_wants_fewer(
    given_: tuple[PoolSpec, Observation, float], more: int
) -> None:
    pool, seen, now = given_
    higher = seen._replace(demand=seen.demand + more)
    assert wanted(pool, higher, now) >= wanted(pool, seen, now)


@settings(max_examples=30)
@given(st.integers(1, 8), st.integers(0, 40))
def test_constant_demand_is_met_and_then_nothing_moves(current: int, demand: int) -> None:
    run = Run(spec(), current)
    run.looks(demand, 300)
    settled = run.current
    assert run.looks(demand, 100) == [settled] * 100
    # Enough for the demand, and not one more than the tolerance explains.
    assert min(10, -(-demand // 5)) <= settled <= min(10, -(-demand // 3) or 0)


@given(st.lists(st.booleans(), min_size=1, max_size=100))
def test_demand_that_swings_within_the_tolerance_changes_nothing(swings: list[bool]) -> None:
    run = Run(spec(), 5)
    assert {run.look(20 + swing) for swing in swings} == {5}


def test_the_first_one_comes_at_once_the_others_after_a_while() -> None:
    run = Run(spec())
    assert run.look(1) == 1
    # 40 tasks are for ten; three a step, each step as long after the last as demand has to last.
    assert run.looks(40, 7) == [1, 4, 4, 7, 7, 10, 10]


def test_a_short_dip_stops_nothing_and_a_long_one_stops_one_by_one() -> None:
    run = Run(spec(), 4)
    assert run.looks(0, 9) == [4] * 9
    assert run.look(16) == 4
    assert run.looks(3, 10) == [4] * 10
    assert run.looks(3, 30)[0] == 3
    assert run.current == 1


def test_the_last_one_goes_only_after_the_idle_time() -> None:
    run = Run(spec(), 1)
    seen = run.looks(0, 40)
    assert seen.index(0) == 30
    again = Run(spec(), 1)
    again.looks(0, 25)
    again.look(1)
    assert 0 not in again.looks(0, 29)


def test_min_instances_stay() -> None:
    run = Run(spec(least=2), 5)
    run.looks(0, 200)
    assert run.current == 2


def test_an_old_task_brings_one_more_although_demand_is_small() -> None:
    run = Run(spec(), 1)
    assert [run.look(2, oldest_s=4.0) for _ in range(5)] == [1] * 5
    assert [run.look(2, oldest_s=6.0) for _ in range(3)] == [1, 1, 2]


def test_without_a_number_an_instance_is_for_its_credit() -> None:
    pool = spec(tasks_per_instance=0)
    seen = Observation(0, 16, 0.0, 8, Trend(), None)
    assert needed(pool.scaling, seen) == (2, 3)
    assert needed(pool.scaling, seen._replace(credit=0))[0] == 15


RULES = Restarts(backoff_s=1.0, backoff_max_s=8.0, crashes=4, window_s=30.0, pause_s=100.0)


def test_pauses_double_up_to_the_longest() -> None:
    crashes = Crashes(Restarts(backoff_s=1.0, backoff_max_s=8.0, crashes=1000, window_s=0.0))
    pauses = []
    for _ in range(6):
        crashes.ended(0.0)
        pauses.append(crashes.wait_s(0.0))
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


def test_many_ends_in_the_window_are_a_loop_few_are_not() -> None:
    slow, fast = Crashes(RULES), Crashes(RULES)
    for number in range(8):
        slow.ended(number * 11.0)
        fast.ended(number * 9.0)
    assert (slow.looping, fast.looping) == (False, True)


def test_in_a_loop_one_is_tried_and_a_steady_one_ends_it() -> None:
    crashes = Crashes(RULES)
    for _ in range(4):
        crashes.ended(0.0)
    assert crashes.allowed(99.0, 0) == 0
    assert crashes.allowed(100.0, 0) == 1
    assert crashes.allowed(100.0, 1) == 0
    crashes.ended(101.0)
    assert crashes.allowed(200.0, 0) == 0
    crashes.steady(240.0)
    assert (crashes.looping, crashes.allowed(240.0, 0)) == (False, None)


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=60))
def test_starts_are_never_barred_for_longer_than_the_longest_pause(gaps: list[float]) -> None:
    crashes = Crashes(RULES)
    now = 0.0
    for gap in gaps:
        now += gap
        crashes.ended(now)
        assert 0.0 < crashes.wait_s(now) <= RULES.pause_s + 1e-6
        assert crashes.looping or crashes.wait_s(now) <= RULES.backoff_max_s + 1e-6
