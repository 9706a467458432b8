"""What the mesh says about pools: demand from the engines, instances from all executors."""

from collections.abc import Mapping
from typing import NamedTuple

from google.protobuf.message import DecodeError

from bend.internal.v1 import control_pb2
from bend_server.core import limits
from bend_server.executor.pools.spec import PoolSpec

ANNOUNCED_S = 10.0
DEMANDED_S = 5.0


class Connected(NamedTuple):
    """One instance of a pool that has a stream to some executor."""

    credit: int
    in_flight: int
    draining: bool
    connected_us: int


class Demand(NamedTuple):
    """Tasks that a pool could do.

    `waiting` have no instance yet, `open` are handed out and not answered; `elsewhere` is the
    credit of live instances that are not the pool's; `oldest_us` is when about the oldest waiting
    one became ready, 0 when none waits.
    """

    waiting: int = 0
    open: int = 0
    elsewhere: int = 0
    oldest_us: int = 0


class _Said(NamedTuple):
    incarnation: int
    sequence: int
    at: float
    groups: tuple[control_pb2.GroupAnnouncement, ...]


class Heard:
    """The latest word of each executor and each engine. Times are the caller's seconds."""

    def __init__(self) -> None:
        self._executors: dict[str, _Said] = {}
        self._engines: dict[str, tuple[float, control_pb2.DemandNotice]] = {}

    def announced(self, data: bytes, now: float) -> None:
        """Take an InstanceAnnouncement; what cannot be read, or is older, is dropped."""
        try:
            message = control_pb2.InstanceAnnouncement.FromString(data)
        except DecodeError:
            return
        if message.HasField("policies"):
            # A registry's word about versions.
            return
        known = self._executors.get(message.executor)
        same = known is not None and known.incarnation == message.incarnation
        if same and known is not None and message.sequence <= known.sequence:
            return
        if message.leaving:
            self._executors.pop(message.executor, None)
            return
        if known is None and len(self._executors) >= limits.PEERS_HEARD_MAX:
            return
        self._executors[message.executor] = _Said(
            message.incarnation, message.sequence, now, tuple(message.groups)
        )

    def demanded(self, data: bytes, now: float) -> None:
        """Take a DemandNotice; what cannot be read is dropped."""
        try:
            message = control_pb2.DemandNotice.FromString(data)
        except DecodeError:
            return
        if message.engine in self._engines or len(self._engines) < limits.PEERS_HEARD_MAX:
            self._engines[message.engine] = (now, message)

    def expire(self, now: float) -> None:
        """Drop what is too old to be believed."""
        for name in [n for n, said in self._executors.items() if now - said.at > ANNOUNCED_S]:
            del self._executors[name]
        for name in [n for n, said in self._engines.items() if now - said[0] > DEMANDED_S]:
            del self._engines[name]

    def connected(self, namespace: str, pool: str) -> dict[str, Connected]:
        """Return the pool's connected instances by name; two streams of one are added up."""
        found: dict[str, Connected] = {}
        prefix = f"{pool}/"
        seen: set[str] = set()
        for said in self._executors.values():
            for group in said.groups:
                if group.namespace != namespace:
                    continue
                for one in group.instances:
                    if one.pool_instance.startswith(prefix) and one.instance_id not in seen:
                        # It is in one group for each of its components.
                        seen.add(one.instance_id)
                        name = one.pool_instance.removeprefix(prefix)
                        found[name] = _both(found.get(name), one)
        return found

    def demand(self, spec: PoolSpec) -> Demand:
        """Return the demand that a pool's instances could serve."""
        credit = self._credit(spec)
        waiting = opened = oldest_us = 0
        for _, notice in self._engines.values():
            for lane in notice.lanes:
                if _lane_fits(spec, lane):
                    waiting += lane.waiting
                    oldest_us = _older(oldest_us, lane.oldest_us)
            for group in notice.groups:
                facts = _facts(group.version, group.labels)
                if group.component != spec.component or group.namespace != spec.namespace:
                    continue
                own = (not spec.version or group.version == spec.version) and (
                    dict(group.labels) == dict(spec.labels)
                )
                if own or facts in credit.own:
                    opened += group.open
                    # Otherwise the oldest one is running, not waiting.
                    if group.open > credit.all.get(facts, 0):
                        oldest_us = _older(oldest_us, group.oldest_us)
        return Demand(waiting, opened, credit.elsewhere, oldest_us)

    def _credit(self, spec: PoolSpec) -> "_Credit":
        found = _Credit()
        prefix = f"{spec.name}/"
        for said in self._executors.values():
            for group in said.groups:
                if group.component != spec.component or group.namespace != spec.namespace:
                    continue
                if spec.version and group.version != spec.version:
                    continue
                facts = _facts(group.version, group.labels)
                mine = False
                for one in group.instances:
                    if one.draining:
                        continue
                    found.all[facts] = found.all.get(facts, 0) + one.credit
                    if one.pool_instance.startswith(prefix):
                        mine = True
                    elif _has(dict(group.labels), spec.labels):
                        found.elsewhere += one.credit
                if mine:
                    found.own.add(facts)
        return found


Facts = tuple[str, tuple[tuple[str, str], ...]]
"""Version and labels of an instance group."""


class _Credit:
    """Credit by group, which groups have instances of the pool, and what others can take."""

    def __init__(self) -> None:
        self.all: dict[Facts, int] = {}
        self.own: set[Facts] = set()
        self.elsewhere = 0


def _facts(version: str, labels: Mapping[str, str]) -> Facts:
    return version, tuple(sorted(labels.items()))


def _both(known: Connected | None, one: control_pb2.InstanceInfo) -> Connected:
    if known is None:
        return Connected(one.credit, one.in_flight, one.draining, one.connected_us)
    return Connected(
        known.credit + one.credit,
        known.in_flight + one.in_flight,
        known.draining and one.draining,
        min(known.connected_us, one.connected_us),
    )


def _older(one_us: int, other_us: int) -> int:
    return min(filter(None, (one_us, other_us)), default=0)


def _has(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def _lane_fits(spec: PoolSpec, lane: control_pb2.LaneDemand) -> bool:
    if lane.component != spec.component or lane.namespace != spec.namespace:
        return False
    if spec.version:
        if lane.exact_version and lane.exact_version != spec.version:
            return False
        if lane.HasField("major") and str(lane.major) != spec.version.partition(".")[0]:
            return False
    return _has(spec.labels, lane.requires)
