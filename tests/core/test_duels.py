"""The machine against the reference model: after every event of every history they must agree."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bend_server.core.model import EventKind, ExecutionStatus, Phase
from bend_server.core.model import TaskStatus as S
from tests.core.drawn import play, random_tasks
from tests.core.duel import SIGNALS, Duel

HISTORIES = 20_400
BLOCKS = 24
HEALED = 4
PICKS = st.integers(0, 11)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_histories_agree_with_the_reference_model(block: int) -> None:
    """Each has at least 10 events, and its rows fold to the live state, field by field.

    A history that is healed has to come to its end, with all its tasks.
    """
    for seed in range(block, HISTORIES, BLOCKS):
        duel = play(seed, healing=seed // BLOCKS % HEALED == 0)
        assert duel.events > 10, f"history {seed}"


def test_the_histories_have_everything_in_them() -> None:
    """Guards the generator: histories in which nothing happens would prove nothing."""
    ends: Counter[int] = Counter()
    kinds: Counter[int] = Counter()
    runs = rounds = 0
    for seed in range(600):
        duel = play(seed, healing=True)
        ends[duel.state.status] += 1
        kinds.update(event.kind for event in duel.run.events)
        runs = max(runs, duel.state.run)
        rounds = max(rounds, *(row.iteration for row in duel.run.results), 0)
    assert set(ends) == {
        ExecutionStatus.COMPLETED,
        ExecutionStatus.FAILED,
        ExecutionStatus.CANCELLED,
        ExecutionStatus.TIMED_OUT,
    }
    assert min(ends.values()) >= 20
    never = (EventKind.QUARANTINED, EventKind.TIMER_FIRED)
    missing = [kind.name for kind in EventKind if kinds[kind] < 5 and kind not in never]
    assert not missing
    assert runs >= 4
    assert rounds == 3


class Duels(RuleBasedStateMachine):
    """The same pair of models, driven by Hypothesis, which makes a failing history short."""

    duel: Duel

    @initialize(chance=st.randoms(use_true_random=False), timeout=st.sampled_from((15, 1000)))
    def begin(self, chance, timeout) -> None:  # type: ignore[no-untyped-def]
        tasks = random_tasks(chance)
        pauses = chance.random() < 0.2 and all(t.phase != Phase.ON_FAILURE for t in tasks)
        self.duel = Duel(tasks, timeout, pause_on_failure=pauses)

    @rule(pick=PICKS, blob=st.booleans())
    def complete(self, pick: int, *, blob: bool) -> None:
        self.duel.finish(pick, S.COMPLETED, "", retryable=False, blob=blob)

    @rule(
        pick=PICKS,
        status=st.sampled_from((S.FAILED, S.TIMED_OUT, S.CANCELLED)),
        reason=st.sampled_from(("A", "CHILD_FAILED")),
        retryable=st.booleans(),
    )
    def fail(self, pick: int, status: S, reason: str, *, retryable: bool) -> None:
        self.duel.finish(pick, status, reason, retryable=retryable, blob=False)

    @rule(pick=PICKS, name=st.sampled_from(SIGNALS), seconds=st.sampled_from((0, 1, 8)))
    def wait(self, pick: int, name: str, seconds: int) -> None:
        self.duel.wait(pick, name, seconds)

    @rule(pick=PICKS, approved=st.booleans())
    def decide(self, pick: int, *, approved: bool) -> None:
        self.duel.decide(pick, approved=approved)

    @rule(name=st.sampled_from(SIGNALS))
    def signal(self, name: str) -> None:
        self.duel.signal(name)

    @rule(pick=PICKS)
    def child(self, pick: int) -> None:
        self.duel.child(pick)

    @rule(ms=st.sampled_from((500, 1000, 2000, 11_000, 16_000)))
    def time(self, ms: int) -> None:
        self.duel.pass_time(ms)

    @rule()
    def cancel(self) -> None:
        self.duel.cancel()

    @rule()
    def pause(self) -> None:
        self.duel.pause()

    @precondition(lambda self: self.duel.state.paused)
    @rule()
    def unpause(self) -> None:
        self.duel.unpause()

    @rule()
    def retry(self) -> None:
        self.duel.retry()

    @rule(pick=PICKS)
    def reset(self, pick: int) -> None:
        self.duel.reset(pick)

    @rule(pick=PICKS, lost=st.booleans())
    def crash(self, pick: int, *, lost: bool) -> None:
        self.duel.crash(pick, lost=lost)

    @rule(pick=PICKS)
    def repeat(self, pick: int) -> None:
        self.duel.repeat(pick, S.FAILED)

    def teardown(self) -> None:
        if hasattr(self, "duel"):
            self.duel.run.check_replay()


Duels.TestCase.settings = settings(
    max_examples=500,
    stateful_step_count=14,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
TestDuels = Duels.TestCase
