"""When a failed attempt is followed by another."""

from typing import Protocol

from bend_server.core.model import Failure
from bend_server.core.plan import RetryPolicy


class Jitter(Protocol):
    """The part of chance that the core needs."""

    def uniform(self, low: float, high: float) -> float:
        """Return a float in [low, high]."""
        ...


def backoff_us(policy: RetryPolicy, attempt: int, chance: Jitter) -> int:
    """Return the wait after a failed attempt: exponential, at most `max_us`, with full jitter.

    Args:
        attempt: the attempt that failed, from 1.
    """
    try:
        ceiling = min(policy.initial_us * policy.multiplier ** (attempt - 1), policy.max_us)
    except OverflowError:
        ceiling = policy.max_us
    return int(chance.uniform(0.0, ceiling) if policy.jitter else ceiling)


def next_attempt_us(
    policy: RetryPolicy,
    failure: Failure,
    *,
    timed_out: bool,
    attempt: int,
    first_us: int,
    now_us: int,
    chance: Jitter,
) -> int | None:
    """Return when the next attempt starts, Unix microseconds; None when there is none.

    A timeout is retried like a retryable failure; a failure that is not retryable never is, also
    when `on` names its reason. A component's retry-after only makes the wait longer. Nothing starts
    past the budget, which counts from the first attempt's start.

    Args:
        attempt: the attempt that failed, from 1.
        first_us: start of the first attempt, Unix microseconds.
    """
    if attempt >= policy.attempts_max or not (failure.retryable or timed_out):
        return None
    if failure.reason in policy.not_on or (policy.on and failure.reason not in policy.on):
        return None
    wait_us = backoff_us(policy, attempt, chance)
    if failure.retry_after_us is not None and failure.retry_after_us > wait_us:
        wait_us = failure.retry_after_us
    due_us = now_us + wait_us
    if policy.budget_us is not None and due_us > first_us + policy.budget_us:
        return None
    return due_us
