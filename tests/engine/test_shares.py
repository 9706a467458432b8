"""Which version gets a task: weights, deprecations, drains. If these fail, a canary hurts many."""

from dataclasses import replace

import pytest

from bend.internal.v1 import control_pb2
from bend_server.core.plan import Plan
from bend_server.engine.options import EngineOptions
from bend_server.engine.routing import Group, Routes
from bend_server.engine.shares import Share
from tests.engine.house import FakeExecutor, House, begin, fan_out, finish, housed, until
from tests.kit.plans import Task, chain, make_plan
from tests.kit.seeds import chance_of

TASK = make_plan([Task(id="a")]).tasks[0]


def policy(
    weights: dict[str, int] | None = None, deprecated: tuple[str, ...] = (), *, whole: bool = True
) -> bytes:
    """Return what a registry says of test.echo."""
    said = control_pb2.Policies(whole=whole)
    said.components.add(
        namespace="default", component="test.echo", weights=weights or {}, deprecated=deprecated
    )
    return control_pb2.InstanceAnnouncement(policies=said).SerializeToString()


def announced(*versions: str, draining: tuple[str, ...] = (), sequence: int = 1) -> bytes:
    """Return an executor's announcement of one group a version."""
    message = control_pb2.InstanceAnnouncement(executor="x", incarnation=1, sequence=sequence)
    for version in versions:
        group = message.groups.add(
            group=version, namespace="default", component="test.echo", version=version, credit=8
        )
        group.instances.add(instance_id=version, credit=8, draining=version in draining)
    return message.SerializeToString()


def routes(*versions: str) -> Routes:
    made = Routes(EngineOptions(name="e"))
    made.announce(announced(*versions), 1)
    return made


def chosen(table: Routes, **pin: object) -> list[str]:
    return sorted(group.version for group in table.matching("default", replace(TASK, **pin)))


@pytest.mark.parametrize("runs", [1, 2, 7, 128])
def test_ten_thousand_tasks_are_shared_out_to_half_a_percent(runs: int) -> None:
    """Measured in every prefix: also the first thousand have their 5 %."""
    share = Share({"1.0.0": 95, "2.0.0": 5})
    given = {"1.0.0": 0, "2.0.0": 0}
    left = 10_000
    while left:
        version, count = share.turn(left if runs > 1 else 1)
        count = min(count, runs)
        share.gave(count)
        given[version] += count
        left -= count
        if 10_000 - left >= 1000 * runs:
            assert given["2.0.0"] / (10_000 - left) == pytest.approx(0.05, abs=0.05)
    assert given["2.0.0"] / 10_000 == pytest.approx(0.05, abs=0.005)
    assert runs > 1 or given["2.0.0"] == 500


def test_tasks_that_come_one_by_one_are_never_further_than_one_from_their_part() -> None:
    seed, rng = chance_of("shares")
    for _ in range(20):
        weights = {f"{n}.0.0": rng.randint(1, 100) for n in range(rng.randint(2, 5))}
        share, given = Share(weights), dict.fromkeys(weights, 0)
        for total in range(1, 500):
            version, _ = share.turn(1)
            share.gave(1)
            given[version] += 1
            for name, weight in weights.items():
                part = total * weight / sum(weights.values())
                assert abs(given[name] - part) < len(weights), (seed, weights, total)


def test_a_full_canary_holds_nobody_up_and_a_canary_never_stands_in() -> None:
    message = control_pb2.GroupAnnouncement(group="g", version="1.0.0")
    main = Group(message)
    message.version = "2.0.0"
    canary = Group(message)
    share = Share({"1.0.0": 95, "2.0.0": 5})
    given = 0
    for _ in range(1000):
        group, room = share.choose([(main, 10), (canary, 0)], 1)
        assert (group, room) == (main, 1)
        share.gave(1)
    # It was full in its turns: it does not get them afterwards, all at once.
    for _ in range(100):
        group, _ = share.choose([(main, 10), (canary, 10)], 1)
        share.gave(1)
        given += group is canary
    assert 4 <= given <= 6
    waits = 0
    for _ in range(100):
        group, _ = share.choose([(main, 0), (canary, 10)], 1)
        if group is None:
            waits += 1
            break
        assert group is canary
        share.gave(1)
    assert waits == 1


def test_weights_pins_and_deprecations_choose() -> None:
    table = routes("1.0.0", "1.1.0", "2.0.0", "3.0.0")
    assert chosen(table) == ["3.0.0"]
    assert table.announce(policy({"1.0.0": 95, "2.0.0": 5}), 1)
    assert chosen(table) == ["1.0.0", "2.0.0"]
    assert chosen(table, major=1) == ["1.0.0"]
    assert chosen(table, major=3) == ["3.0.0"]
    assert chosen(table, exact_version="1.1.0") == ["1.1.0"]
    assert not table.announce(policy({"1.0.0": 95, "2.0.0": 5}), 1)
    # A deprecation wins over a weight: the way back from a canary that went wrong.
    assert table.announce(policy({"1.0.0": 95, "2.0.0": 5}, ("2.0.0",), whole=False), 1)
    assert chosen(table) == ["1.0.0"]
    assert chosen(table, major=2) == ["2.0.0"]
    assert chosen(table, exact_version="2.0.0") == ["2.0.0"]
    assert table.announce(policy({"3.0.0": 0, "2.0.0": 1}), 1)
    assert chosen(table) == ["2.0.0"]
    assert chosen(table, major=3) == []
    assert chosen(table, exact_version="3.0.0") == ["3.0.0"]
    assert table.announce(policy(deprecated=("3.0.0", "1.1.0")), 1)
    assert chosen(table) == ["2.0.0"]
    assert chosen(table, major=1) == ["1.0.0"]
    whole = control_pb2.InstanceAnnouncement(policies=control_pb2.Policies(whole=True))
    assert table.announce(whole.SerializeToString(), 1)
    assert chosen(table) == ["3.0.0"]


def test_deprecated_versions_with_and_without_weight_are_the_last_resort_together() -> None:
    table = routes("1.0.0", "2.0.0")
    table.announce(policy({"1.0.0": 1}, ("1.0.0", "2.0.0")), 1)
    assert chosen(table) == ["2.0.0"]
    assert table.share(table.matching("default", TASK)) is None


def test_a_weighted_version_that_is_not_live_leaves_its_part_to_the_others() -> None:
    table = routes("1.0.0")
    table.announce(policy({"1.0.0": 50, "2.0.0": 50}), 1)
    assert chosen(table) == ["1.0.0"]
    table.announce(announced("1.0.0", "2.0.0", sequence=2), 1)
    assert chosen(table) == ["1.0.0", "2.0.0"]
    table.announce(announced("1.0.0", "2.0.0", draining=("2.0.0",), sequence=3), 1)
    assert chosen(table) == ["1.0.0"]


async def shared(house: House, plan: Plan, *executors: FakeExecutor) -> list[int]:
    engine = await house.engine(window_tasks_min=100_000)
    for executor in executors:
        await executor.start()
    await house.workflow(plan)
    outcome = await begin(engine, plan)
    await finish(engine, outcome.execution)
    return [len(executor.seen) for executor in executors]


@housed
async def test_a_canary_gets_five_percent_of_ten_thousand_tasks(house: House) -> None:
    """Through the engine, with frames of many tasks, from its start on: it asks for policies."""

    async def say(_: bytes) -> None:
        await house.queue("registry").broadcast(
            "registry.announce", policy({"1.0.0": 95, "2.0.0": 5})
        )

    await house.queue("registry").subscribe("executor.announce", say)
    queue = house.queue("executor")
    main = FakeExecutor(queue, name="main", version="1.0.0")
    canary = FakeExecutor(queue, name="canary", version="2.0.0")
    newer = FakeExecutor(queue, name="newer", version="3.0.0")
    counts = await shared(house, fan_out(1000, join=False), main, canary, newer)
    engine = house.engines[0]
    for _ in range(9):
        plan = fan_out(1000, join=False)
        await finish(engine, (await begin(engine, plan)).execution)
    counts = [len(one.seen) for one in (main, canary, newer)]
    assert sum(counts) == 10_000
    assert counts[1] / 10_000 == pytest.approx(0.05, abs=0.005)
    assert counts[2] == 0


@housed
async def test_new_weights_count_from_the_next_task_on(house: House) -> None:
    engine = await house.engine()
    old = await house.executor(name="old", version="1.0.0")
    new = await house.executor(name="new", version="2.0.0")
    plan = await house.workflow(chain(1))
    registry = house.queue("registry")
    for weights, expected in (({"1.0.0": 1}, (20, 0)), ({"2.0.0": 1}, (0, 20)), ({}, (0, 20))):
        await registry.broadcast("registry.announce", policy(weights))
        await house.pause(0.1)
        before = len(old.seen), len(new.seen)
        for _ in range(20):
            await finish(engine, (await begin(engine, plan)).execution)
        assert (len(old.seen) - before[0], len(new.seen) - before[1]) == expected


@housed
async def test_garbage_in_policies_changes_nothing(house: House) -> None:
    engine = await house.engine()
    executor = await house.executor(version="2.0.0")
    plan = await house.workflow(chain(1))
    said = control_pb2.Policies()
    said.components.add(weights={"no version": 3}, deprecated=["", "x" * 10_000])
    message = control_pb2.InstanceAnnouncement(policies=said).SerializeToString()
    registry = house.queue("registry")
    for data in (message, message[:-3], b"\xff"):
        await registry.broadcast("registry.announce", data)
    await finish(engine, (await begin(engine, plan)).execution)
    await until(lambda: len(executor.seen) == 1)
