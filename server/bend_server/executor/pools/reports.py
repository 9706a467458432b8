"""What an executor tells about its pools: messages from keepers."""

from collections import deque
from typing import Any

from bend.internal.v1 import control_pb2
from bend.v1 import pool_pb2
from bend_server.executor.pools.keeper import BROKEN, READY, Keeper, Kept
from bend_server.executor.pools.spec import PoolSpec

SAMPLES_MAX = 120
REASON_CHARS_MAX = 2000
STATES: dict[str, Any] = dict(pool_pb2.PoolStatus.State.items())
INSTANCE_STATES: dict[str, Any] = dict(pool_pb2.PoolInstance.State.items())


class Samples:
    """The last two minutes of a pool."""

    def __init__(self) -> None:
        self.kept: deque[pool_pb2.PoolSample] = deque(maxlen=SAMPLES_MAX)

    def add(self, keeper: Keeper, now_us: int) -> None:
        """Take one more."""
        units = [kept.unit for kept in keeper.kept.values()]
        sample = pool_pb2.PoolSample(
            waiting_tasks=waiting(keeper),
            open_tasks=keeper.demand.open,
            wanted=keeper.wanted,
            ready=sum(kept.state == READY for kept in keeper.kept.values()),
            cpu=sum(unit.cpu for unit in units),
            memory_bytes=sum(unit.memory_bytes for unit in units),
        )
        sample.time.FromMicroseconds(now_us)
        self.kept.append(sample)


def waiting(keeper: Keeper) -> int:
    """Return how many tasks wait for an instance: not handed out, or handed out to a full one."""
    held = sum(k.connected.in_flight for k in keeper.kept.values() if k.connected)
    return keeper.demand.waiting + max(0, keeper.demand.open - held - keeper.demand.elsewhere)


def report(
    executor: str,
    spec: PoolSpec,
    keeper: Keeper | None,
    samples: Samples | None,
    fault: str,
    now_us: int,
) -> control_pb2.PoolReport:
    """Return a pool's report; `keeper` is None for one that cannot be kept, `fault` says why."""
    status = pool_pb2.PoolStatus(pool=spec.message, executor=executor)
    status.update_time.FromMicroseconds(now_us)
    message = control_pb2.PoolReport(namespace=spec.namespace, executor=executor)
    if keeper is None:
        status.state = STATES[BROKEN]
        status.reason = fault[:REASON_CHARS_MAX]
    else:
        status.state = STATES[keeper.state]
        status.reason = keeper.reason[:REASON_CHARS_MAX]
        status.wanted = keeper.wanted
        status.waiting_tasks = waiting(keeper)
        status.open_tasks = keeper.demand.open
        if keeper.held is not None:
            status.held_instances = keeper.held
        status.oldest.FromMicroseconds(int(keeper.oldest_s() * 1e6))
        kept = sorted(keeper.kept.values(), key=lambda one: one.unit.number)
        status.instances.extend(_instance(one) for one in kept)
        counts = keeper.counts
        message.stats.starts = counts.starts
        message.stats.failures = counts.failures
        message.stats.stops = counts.stops
        message.stats.kills = counts.kills
        message.stats.ends.extend(keeper.ends)
    if samples is not None:
        message.stats.samples.extend(samples.kept)
    message.status.CopyFrom(status)
    return message


def _instance(kept: Kept) -> pool_pb2.PoolInstance:
    unit = kept.unit
    message = pool_pb2.PoolInstance(
        name=unit.name,
        state=INSTANCE_STATES[kept.state],
        place=unit.place,
        cpu=round(unit.cpu, 3),
        memory_bytes=unit.memory_bytes,
    )
    message.start_time.FromMicroseconds(unit.started_us)
    if kept.connected is not None:
        message.credit = kept.connected.credit
        message.in_flight = kept.connected.in_flight
    return message
