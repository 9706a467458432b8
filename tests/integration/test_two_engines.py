"""Two engines over one PostgreSQL: invariant 3 on real processes.

What would break in production if these fail: a replica that dies or sleeps takes work along, or a
sleeper wakes up and writes into what belongs to another one by now.
"""

import random
import signal
import threading
import time
from collections.abc import Callable

import grpc
import pytest

from bend.v1 import engine_service_pb2 as engine
from tests.e2e import scenario
from tests.integration.replicas import (
    Door,
    Replicas,
    deploy,
    persist,
    start,
    start_all,
    working,
)
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.kill, pytest.mark.postgres, pytest.mark.timeout(600)]

EXECUTIONS = 3_000
# A machine that others use too is slow; nothing is proven by how fast these end.
SPLIT_S = 150.0
TAKEOVER_S = 150.0
END_S = 240.0


def load(replicas: Replicas, gateway: Door | None = None) -> list[threading.Thread]:
    """Start executions through both engines, or a gateway, from threads of their own."""
    values = replicas.values(EXECUTIONS)
    all_doors = [gateway] if gateway else replicas.doors

    def half(number: int) -> None:
        doors = all_doors[number:] + all_doors[:number]
        mine = values[number::2]
        for first in range(0, len(mine), scenario.BATCH):
            replicas.ids.update(start_all(doors, mine[first : first + scenario.BATCH]))

    return started([threading.Thread(target=half, args=(number,)) for number in range(2)])


def started(threads: list[threading.Thread]) -> list[threading.Thread]:
    """Start threads."""
    for thread in threads:
        thread.start()
    return threads


def busy(replicas: Replicas, chance: random.Random) -> None:
    """Wait for a random moment at which the second engine has much to do: 1,000 tasks and more."""
    wait_until(lambda: replicas.open_at_second() >= 250, "the second engine is busy", END_S)
    time.sleep(chance.uniform(0.0, 0.1))


def finish(replicas: Replicas, threads: list[threading.Thread]) -> None:
    """Wait until all is started and completed."""
    for thread in threads:
        thread.join(END_S)
        assert not thread.is_alive()
    wait_until(lambda: replicas.unfinished() == 0, "all executions completed", END_S)


@pytest.fixture
def two(replicas: Replicas) -> Replicas:
    """Both engines run and have half of the partitions each."""
    if replicas.engine is None or replicas.engine.poll() is not None:
        replicas.wait_for_shares([64], TAKEOVER_S)
        replicas.start_second()
    replicas.wait_for_shares([32, 32], SPLIT_S)
    return replicas


def test_a_storm_of_equal_request_ids_on_two_engines(two: Replicas) -> None:
    """Each id starts one execution, and every caller learns the same one: 2,000 starts of 50."""
    callers = 40
    values = two.values(50)
    answers: list[dict[int, str]] = []
    seeds = scenario.seeded("storm")

    def call(number: int, chance: random.Random) -> None:
        doors = two.doors[:] if number % 2 else two.doors[::-1]
        answers.append(claim(doors, values, chance))

    with working(two) as worker:
        deploy(two)
        threads = [
            threading.Thread(target=call, args=(n, random.Random(seeds.random())))
            for n in range(callers)
        ]
        finish(two, started(threads))
        assert len(answers) == callers
        assert all(answer == answers[0] for answer in answers)
        two.ids.update({name: value for value, name in answers[0].items()})
        verdict = two.judge(worker.file)
    assert verdict[:4] == (0, 0, 0, 0)
    assert len(two.ids) == two.wished
    other = start(values[0])
    other.parameters = b'{"value":1000000}'
    for door in two.doors:
        answer = persist([door], "StartExecutions", engine.StartExecutionsRequest(starts=[other]))
        assert answer.outcomes[0].code == grpc.StatusCode.ALREADY_EXISTS.value[0]


def claim(doors: list[Door], values: range, chance: random.Random) -> dict[int, str]:
    """Ask for all values in an order of its own, in batches, at the first door that answers."""
    order = list(values)
    chance.shuffle(order)
    known: dict[int, str] = {}
    deadline = time.monotonic() + END_S
    while len(known) < len(order) and time.monotonic() < deadline:
        page = [value for value in order if value not in known][:30]
        wishes = engine.StartExecutionsRequest(starts=[start(value) for value in page])
        answer = persist(doors, "StartExecutions", wishes)
        for value, outcome in zip(page, answer.outcomes, strict=True):
            if outcome.code == 0:
                known[value] = outcome.execution_id
            else:
                # Two engines at one id: the loser may be told to ask again, never anything else.
                assert outcome.code in {code.value[0] for code in scenario.PASSING}
    return known


def test_a_killed_engines_partitions_are_taken_over(
    two: Replicas, figure: Callable[[str], None]
) -> None:
    chance = scenario.seeded("killed engine")
    with working(two) as worker:
        deploy(two)
        threads = load(two)
        busy(two, chance)
        two.signal_second(signal.SIGKILL)
        left = two.open_at_second()
        took_s = two.wait_for_shares([64], TAKEOVER_S)
        finish(two, threads)
        verdict = two.judge(worker.file)
    figure(f"killed engine with {left} open: taken over after {took_s:.1f} s, {verdict}")
    assert left > 0
    assert verdict[:4] == (0, 0, 0, 0)
    assert len(two.ids) == two.wished


def test_callers_of_one_gateway_do_not_notice_a_killed_engine(
    two: Replicas, figure: Callable[[str], None]
) -> None:
    """The gateway spreads starts over both engines, and over the one that is left."""
    chance = scenario.seeded("killed engine behind a gateway")
    with working(two) as worker, two.gateway() as gateway:
        deploy(two)
        threads = load(two, gateway)
        busy(two, chance)  # all starts went through the gateway, so it used the second one
        two.signal_second(signal.SIGKILL)
        left = two.open_at_second()
        began = time.monotonic()
        finish(two, threads)
        took_s = time.monotonic() - began
        verdict = two.judge(worker.file)
    figure(f"behind a gateway, {left} open: all done after {took_s:.1f} s, {verdict}")
    assert left > 0
    assert verdict[:4] == (0, 0, 0, 0)
    assert len(two.ids) == two.wished


def test_an_engine_that_slept_past_its_lease_writes_nothing(
    two: Replicas, figure: Callable[[str], None]
) -> None:
    """It wakes up with results in its sockets and its memory as it was, and every row refused."""
    chance = scenario.seeded("stopped engine")
    log = two.mesh.home / "logs" / "second.log"
    known = log.stat().st_size
    with working(two) as worker:
        deploy(two)
        threads = load(two)
        busy(two, chance)
        two.signal_second(signal.SIGSTOP)
        left = two.open_at_second()
        took_s = two.wait_for_shares([64], TAKEOVER_S)
        finish(two, threads)
        before = two.written()
        two.signal_second(signal.SIGCONT)
        # It comes back as a new incarnation and gets its share again.
        two.wait_for_shares([32, 32], SPLIT_S)
        assert two.written() == before
        verdict = two.judge(worker.file)
    figure(f"stopped engine with {left} open: taken over after {took_s:.1f} s, {verdict}")
    said = log.read_bytes()[known:]
    assert b"engine_memory_dropped" in said or b"engine_tenure_ended" in said
    assert left > 0
    assert two.engine is not None
    assert two.engine.poll() is None
    assert verdict[:4] == (0, 0, 0, 0)
    assert len(two.ids) == two.wished


def test_an_ordered_stop_gives_all_partitions_back_at_once(two: Replicas) -> None:
    """A rolling update must not wait for leases to run out."""
    two.signal_second(signal.SIGTERM)
    assert two.engine is not None
    assert two.engine.wait(END_S) == 0
    # Not its lease's end but the stop gave them back: nothing is left for a lease to keep.
    (kept,) = two.ledger.rows(
        "SELECT count(*) AS n FROM engine_lease l JOIN partition p ON l.id = p.lease "
        f"WHERE l.engine LIKE '%:{two.second_port}:%'"
    )
    assert kept["n"] == 0
    two.wait_for_shares([64], TAKEOVER_S)
