"""500 seeds of the whole mesh on virtual time, and two planted faults that they must find."""

import pytest

from tests.simulation.seeds import SeedFailed, run_seed
from tests.simulation.world import Plant

SEEDS = 500
BLOCKS = 10


@pytest.mark.parametrize("block", range(BLOCKS))
def test_nothing_is_lost_and_nothing_is_doubled(block: int) -> None:
    """Each seed: drops, copies, delays, crashes between awaits; then all must have ended well."""
    for seed in range(block * SEEDS // BLOCKS, (block + 1) * SEEDS // BLOCKS):
        run_seed(seed)


def found(plant: Plant) -> int:
    """Return the first seed that finds a planted fault."""
    for seed in range(SEEDS):
        try:
            run_seed(seed, plant)
        except SeedFailed:
            return seed
    pytest.fail(f"{SEEDS} seeds do not find {plant}")


def test_an_ack_before_the_commit_is_found() -> None:
    """A result that is acked first is lost when the engine dies, and its task runs again."""
    print("found by seed", found(Plant(ack_before_commit=True)))


def test_a_commit_without_the_fence_is_found() -> None:
    """An engine that lost its partitions would write over the new owner."""
    print("found by seed", found(Plant(without_fence=True)))


def test_a_seed_runs_the_same_way_twice() -> None:
    """A failure that cannot be repeated cannot be repaired."""
    for seed in range(5):
        first, second = run_seed(seed), run_seed(seed)
        assert first == second


def test_the_seeds_have_faults_in_them() -> None:
    """Guards the generator: 50 seeds must crash, repeat hand-overs and wipe the queue."""
    reports = [run_seed(seed) for seed in range(50)]
    story = "\n".join(line for report in reports for line in report.story)
    assert sum(report.repeats for report in reports) > 0
    for fault in ("SIGKILL", "dies: before", "dies: after", "loses everything", "loses the queue"):
        assert fault in story, fault
