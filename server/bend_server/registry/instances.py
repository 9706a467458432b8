"""Who serves what right now, from the executors' announcements; forgotten after 10 s of silence."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bend.internal.v1 import control_pb2

EXPIRY_US = 10_000_000
EXECUTORS_MAX = 4096
INSTANCES_SHOWN_MAX = 10_000


class LiveInstance(NamedTuple):
    """One live instance of one component version."""

    instance_id: str
    namespace: str
    component: str
    version: str
    labels: Mapping[str, str]
    executor: str
    credit: int
    in_flight: int
    draining: bool
    connected_us: int


class _Heard:
    __slots__ = ("at_us", "groups", "incarnation", "sequence")

    def __init__(self, message: control_pb2.InstanceAnnouncement, at_us: int) -> None:
        self.at_us = at_us
        self.incarnation = message.incarnation
        self.sequence = message.sequence
        self.groups = tuple(message.groups)


class Instances:
    """The latest word of each executor."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}

    def apply(self, message: control_pb2.InstanceAnnouncement, now_us: int) -> None:
        """Take an announcement: it replaces all that its executor said before.

        One that was overtaken by a later one of the same incarnation is dropped. A new incarnation
        is believed at once, because the old one is dead.
        """
        if not message.executor:
            # A registry's policies, which engines follow.
            return
        known = self._heard.get(message.executor)
        if (
            known is not None
            and known.incarnation == message.incarnation
            and message.sequence <= known.sequence
        ):
            return
        if message.leaving:
            self._heard.pop(message.executor, None)
            return
        if known is None and len(self._heard) >= EXECUTORS_MAX:
            self._expire(now_us)
            if len(self._heard) >= EXECUTORS_MAX:
                return
        self._heard[message.executor] = _Heard(message, now_us)

    def _expire(self, now_us: int) -> None:
        silent = [name for name, heard in self._heard.items() if now_us - heard.at_us > EXPIRY_US]
        for name in silent:
            del self._heard[name]

    def of(self, namespace: str, component: str, now_us: int) -> list[LiveInstance]:
        """Return the live instances of a component, by instance id, at most 10,000."""
        self._expire(now_us)
        found = [
            one for one in self._all() if one.component == component and one.namespace == namespace
        ]
        found.sort(key=lambda entry: (entry.instance_id, entry.version))
        return found[:INSTANCES_SHOWN_MAX]

    def named(self, namespace: str, instance_id: str, now_us: int) -> list[LiveInstance]:
        """Return what one instance serves, by component and version; [] when it is not live."""
        self._expire(now_us)
        found = [
            one
            for one in self._all()
            if one.instance_id == instance_id and one.namespace == namespace
        ]
        return sorted(found, key=lambda entry: (entry.component, entry.version))

    def _all(self) -> Iterator[LiveInstance]:
        return (
            LiveInstance(
                instance_id=instance.instance_id,
                namespace=group.namespace,
                component=group.component,
                version=group.version,
                labels=dict(group.labels),
                executor=executor,
                credit=instance.credit,
                in_flight=instance.in_flight,
                draining=instance.draining,
                connected_us=instance.connected_us,
            )
            for executor, heard in self._heard.items()
            for group in heard.groups
            for instance in group.instances
        )

    def counts(self, namespace: str, now_us: int) -> dict[str, int]:
        """Return component → how many live instances serve it, all versions together."""
        self._expire(now_us)
        counted: dict[str, int] = {}
        for heard in self._heard.values():
            for group in heard.groups:
                if group.namespace == namespace:
                    known = counted.get(group.component, 0)
                    counted[group.component] = known + len(group.instances)
        return counted
