"""500 seeds of the whole mesh on virtual time, and two planted faults that they must find."""

import pytest

from tests.simulation.seeds import Report, SeedFailed, run_seed
from tests.simulation.world import Plant

SEEDS = 500
BLOCKS = 10
FOCUSED = 25


@pytest.mark.parametrize("block", range(BLOCKS))
def test_nothing_is_lost_and_nothing_is_doubled(block: int) -> None:
    """Each seed: drops, copies, delays, crashes between awaits; then all must have ended well."""
    for seed in range(block * SEEDS // BLOCKS, (block + 1) * SEEDS // BLOCKS):
        run_seed(seed)


def focused(plant: Plant) -> list[Report]:
    """Run some seeds that look at one kind of chaos."""
    return [run_seed(seed, plant) for seed in range(10_000, 10_000 + FOCUSED)]


def test_invariant_1_sql_is_the_truth_and_the_queue_is_disposable() -> None:
    """A wiped queue in the middle of a run may cost time and repeats, never a result."""
    reports = focused(Plant(only=("wipe",)))
    assert any("loses everything" in line for report in reports for line in report.story)


def test_invariant_2_commit_first() -> None:
    """Engines that die around their commits; the journal looks at each answer and hand-over."""
    reports = focused(Plant(only=("kill", "restart")))
    assert sum(report.commits for report in reports) > 0


def test_invariant_3_one_writer_per_execution() -> None:
    """Commits that hang for longer than a lease lives, while another engine takes over."""
    reports = focused(Plant(only=("kill", "cut", "freeze"), stalls=True))
    assert sum(report.executions for report in reports) > 0


def test_invariant_6_nothing_waits_for_ever() -> None:
    """Lost connections and dead workers: all executions end, or the seed fails after 2,000 s."""
    reports = focused(Plant(only=("kill", "cut")))
    assert sum(report.repeats for report in reports) > 0


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
    for fault in (
        "SIGKILL",
        "dies: before",
        "dies: after",
        "loses everything",
        "loses the queue",
        "still",
    ):
        assert fault in story, fault
