"""How many instances a pool should have: pure, from what is seen and how long it has been so.

Demand is the number of tasks that wait or run, less what other instances of the component can
take. It is for `demand / tasks` instances, rounded up. Two bands keep the number still: demand
has to leave a tolerance around what the instances are for, and it has to stay outside for a
while. The last instances go only when nothing at all was to do for the idle time; the first one
comes at once.
"""

from math import ceil
from typing import NamedTuple

from bend_server.executor.pools.spec import PoolSpec, Scaling


class Trend(NamedTuple):
    """Since when demand has been on one side, in the caller's seconds; None: it is not now."""

    over_since: float | None = None
    under_since: float | None = None
    idle_since: float | None = None


class Observation(NamedTuple):
    """What is seen of a pool.

    Args:
        current: instances it has been aiming at.
        demand: tasks that wait or run and are this pool's to do.
        oldest_s: how long the oldest task has waited, seconds; 0 when none waits.
        credit: tasks that one instance takes at once; 0 when no instance has said.
        trend: from `trend`, with this observation's own demand taken in.
        changed_at: when `current` last changed, or None.
    """

    current: int
    demand: int
    oldest_s: float
    credit: int
    trend: Trend
    changed_at: float | None


def share(scaling: Scaling, credit: int) -> int:
    """Return how many tasks justify one instance, at least 1."""
    return scaling.tasks or max(1, credit)


def needed(scaling: Scaling, seen: Observation) -> tuple[int, int]:
    """Return (at least, at most) how many instances demand is for, tolerance taken in.

    Fewer than the first is too few, more than the second is too many.
    """
    tasks = share(scaling, seen.credit)
    least = ceil(seen.demand / (tasks * (1 + scaling.tolerance)))
    most = ceil(seen.demand / (tasks * (1 - scaling.tolerance)))
    if seen.demand and seen.oldest_s > scaling.age_s:
        least = max(least, seen.current + 1)
        most = max(most, least)
    return least, most


def trend(spec: PoolSpec, before: Trend, seen: Observation, now: float) -> Trend:
    """Return the trend after one more look; `seen.trend` is not used."""
    least, most = needed(spec.scaling, seen)

    def since(old: float | None, holds: bool) -> float | None:
        return (now if old is None else old) if holds else None

    return Trend(
        since(before.over_since, least > seen.current),
        since(before.under_since, most < seen.current),
        since(before.idle_since, seen.demand == 0),
    )


def wanted(spec: PoolSpec, seen: Observation, now: float) -> int:
    """Return how many instances the pool should have now, between its least and most."""
    scaling = spec.scaling
    least, most = needed(scaling, seen)
    current = seen.current
    answer = current
    if least > current:
        if current == 0 or _lasted(seen.trend.over_since, scaling.up_after_s, seen, now):
            answer = min(least, current + scaling.step_up)
    elif most < current and _lasted(seen.trend.under_since, scaling.down_after_s, seen, now):
        answer = max(most, current - scaling.step_down)
        idle = seen.trend.idle_since
        if answer == 0 and (idle is None or now - idle < scaling.idle_s):
            answer = 1
    return max(spec.least, min(answer, spec.most))


def _lasted(since: float | None, for_s: float, seen: Observation, now: float) -> bool:
    """Tell whether a side has lasted, and the last step has had as long to work."""
    if since is None or now - since < for_s:
        return False
    return seen.changed_at is None or now - seen.changed_at >= for_s
