"""All rules together, on random plans and random stories; every failure prints its seed."""

from collections import Counter
from collections.abc import Iterator

import pytest

from bend_server.core.model import ExecutionStatus, TaskStatus
from tests.kit.machine_run import Run
from tests.kit.random_runs import Story

SEEDS = 1500
BLOCKS = 10


def stories(block: int) -> Iterator[tuple[Story, Run]]:
    for seed in range(block, SEEDS, BLOCKS):
        story = Story(seed)
        try:
            run = story.play()
        except Exception:
            print(f"seed {seed}")
            raise
        yield story, run


@pytest.mark.parametrize("block", range(BLOCKS))
def test_invariant_5_every_run_ends_in_exactly_one_terminal_status(block: int) -> None:
    """A run without an end, with two, or with an open task would hang or lie to its users.

    `Run.commit` refuses a second finish; `Story.play` checks at each step that replay = live.
    """
    for story, run in stories(block):
        seed = f"seed {story.seed}"
        assert run.finish is not None, seed
        assert all(run.state.task_terminal(task.index) for task in run.plan.tasks), seed
        assert run.state.status == run.finish.status, seed
        kinds = [event.kind for event in run.events]
        failed = any(
            row.status in (TaskStatus.FAILED, TaskStatus.TIMED_OUT)
            and row.retry_at_us is None
            and not run.plan.tasks[row.task].allow_failure
            for row in run.results
        )
        if run.finish.status == ExecutionStatus.COMPLETED:
            assert not kinds, seed
            assert not failed, seed
            assert run.finish.output is not None, seed
        else:
            assert run.finish.error is not None, seed
        run.check_replay()


@pytest.mark.parametrize("block", range(BLOCKS))
def test_invariant_4_a_result_counts_once(block: int) -> None:
    """A result that counts twice would run dependents twice; `Story.repeat` delivers them again."""
    for story, run in stories(block):
        seed = f"seed {story.seed}"
        keys = Counter((row.task, row.item, row.try_) for row in run.results)
        assert set(keys.values()) == {1}, seed
        final = Counter(row.task for row in run.results if row.retry_at_us is None)
        assert final == Counter(task.index for task in run.plan.tasks), seed
        seqs = sorted([row.seq for row in run.results] + [row.seq for row in run.events])
        assert run.finish is not None
        assert [*seqs, run.finish.seq] == list(range(1, len(seqs) + 2)), seed
        for outcome in story.seen:
            assert not run.apply(outcome), seed


def test_the_stories_have_everything_in_them() -> None:
    """Guards the generator: stories in which nothing happens would prove nothing."""
    ends: Counter[int] = Counter()
    attempts = 0
    for seed in range(200):
        run = Story(seed).play()
        ends[run.state.status] += 1
        attempts = max(attempts, *(row.attempt for row in run.results))
    assert set(ends) == {4, 5, 6, 7}
    assert min(ends.values()) >= 5
    assert attempts == 3
