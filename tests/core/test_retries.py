"""Retries: backoff, reasons, budget, and the rows of attempts that failed."""

import pytest

from bend_server.core.effects import TimerKind
from bend_server.core.model import Failure, TaskStatus
from bend_server.core.plan import RetryPolicy
from bend_server.core.retries import backoff_us, next_attempt_us
from tests.kit.machine_run import FullJitter, Run
from tests.kit.plans import Task, make_plan

SECOND = 1_000_000


class NoWait:
    """Chance at its lower bound."""

    def uniform(self, low: float, high: float) -> float:
        return low


def test_a_failed_attempt_waits_and_the_next_one_counts() -> None:
    run = Run(make_plan([Task(id="a", retry=RetryPolicy(attempts_max=3))]))
    first = run.outcome("a")
    run.fail("a", retryable=True)
    assert run.status("a") == "WAITING"
    assert run.timers(TimerKind.RETRY) == [SECOND]
    row = run.results[0]
    assert (row.status, row.attempt, row.try_) == (TaskStatus.FAILED, 1, 1)
    assert row.retry_at_us == run.now_us + SECOND
    run.check_replay()
    run.pass_time(0.5)
    assert run.status("a") == "WAITING"
    run.pass_time(0.5)
    assert [(ready.try_, ready.attempt) for ready in run.last.ready] == [(2, 2)]
    assert not run.apply(first)
    run.fail("a", retryable=True)
    assert run.timers(TimerKind.RETRY) == [2 * SECOND]
    run.pass_time(2)
    run.check_replay()
    run.complete("a")
    assert run.ended == "COMPLETED"
    assert [row.attempt for row in run.results] == [1, 2, 3]
    run.check_replay()


def test_the_last_attempt_ends_the_task() -> None:
    run = Run(make_plan([Task(id="a", retry=RetryPolicy(attempts_max=2))]))
    run.fail("a", retryable=True)
    run.pass_time(1)
    run.fail("a", retryable=True)
    assert run.status("a") == "FAILED"
    assert run.results[-1].retry_at_us is None


def test_a_timeout_is_retried_like_a_failure() -> None:
    run = Run(make_plan([Task(id="a", retry=RetryPolicy(attempts_max=2))]))
    run.apply(run.outcome("a", TaskStatus.TIMED_OUT))
    assert run.status("a") == "WAITING"
    assert run.results[0].status == TaskStatus.TIMED_OUT


def test_a_failure_that_is_not_retryable_ends_the_task() -> None:
    run = Run(make_plan([Task(id="a", retry=RetryPolicy(attempts_max=9))]))
    run.fail("a", retryable=False)
    assert run.ended == "FAILED"


def test_cancel_during_retry_ends_the_task_at_once() -> None:
    run = Run(make_plan([Task(id="a", retry=RetryPolicy(attempts_max=3))]))
    run.fail("a", retryable=True)
    run.cancel()
    assert run.status("a") == "CANCELLED"
    assert run.ended == "CANCELLED"
    row = run.results[-1]
    assert (row.try_, row.attempt) == (2, 1)
    run.check_replay()
    run.pass_time(5)
    assert run.ended == "CANCELLED"


def test_recovery_opens_a_retry_that_became_due_meanwhile() -> None:
    run = Run(make_plan([Task(id="a", retry=RetryPolicy(attempts_max=3))]))
    run.fail("a", retryable=True)
    run.crash()
    assert run.timers(TimerKind.RETRY) == [SECOND]
    assert not run.last.ready
    run.now_us += 2 * SECOND
    run.crash()
    assert [(ready.try_, ready.attempt) for ready in run.last.ready] == [(2, 2)]


def due(
    policy: RetryPolicy,
    failure: Failure,
    attempt: int = 1,
    now_us: int = 0,
    *,
    timed_out: bool = False,
) -> int | None:
    return next_attempt_us(
        policy,
        failure,
        timed_out=timed_out,
        attempt=attempt,
        first_us=0,
        now_us=now_us,
        chance=FullJitter(),
    )


BROKEN = Failure("BROKEN", retryable=True)


@pytest.mark.parametrize(
    ("policy", "reason", "retried"),
    [
        (RetryPolicy(), "A", True),
        (RetryPolicy(on=frozenset("A")), "A", True),
        (RetryPolicy(on=frozenset("A")), "B", False),
        (RetryPolicy(not_on=frozenset("A")), "A", False),
        (RetryPolicy(not_on=frozenset("A")), "B", True),
        (RetryPolicy(on=frozenset("A"), not_on=frozenset("A")), "A", False),
        (RetryPolicy(attempts_max=1), "A", False),
    ],
)
def test_reasons_choose_what_is_retried(policy: RetryPolicy, reason: str, retried: bool) -> None:
    assert (due(policy, Failure(reason, retryable=True)) is not None) is retried
    assert due(policy, Failure(reason, retryable=False)) is None
    assert (due(policy, Failure(reason), timed_out=True) is not None) is retried


def test_backoff_grows_to_its_maximum_with_full_jitter() -> None:
    policy = RetryPolicy(initial_us=SECOND, multiplier=2.0, max_us=10 * SECOND)
    waits = [backoff_us(policy, attempt, FullJitter()) for attempt in range(1, 7)]
    assert waits == [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND, 10 * SECOND, 10 * SECOND]
    assert backoff_us(policy, 3, NoWait()) == 0
    steady = RetryPolicy(initial_us=SECOND, jitter=False)
    assert backoff_us(steady, 1, NoWait()) == SECOND
    assert backoff_us(RetryPolicy(multiplier=1e9), 1000, FullJitter()) == 60 * SECOND


def test_retry_after_makes_the_wait_longer_never_shorter() -> None:
    wish = BROKEN._replace(retry_after_us=90 * SECOND)
    assert due(RetryPolicy(), wish) == 90 * SECOND
    assert due(RetryPolicy(), BROKEN._replace(retry_after_us=1)) == SECOND


def test_the_budget_counts_from_the_first_attempt() -> None:
    policy = RetryPolicy(attempts_max=100, budget_us=10 * SECOND, jitter=False, multiplier=1.0)
    assert due(policy, BROKEN, now_us=9 * SECOND) == 10 * SECOND
    assert due(policy, BROKEN, now_us=9 * SECOND + 1) is None
