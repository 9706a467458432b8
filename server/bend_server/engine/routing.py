"""The routing table: which instance groups are live, from the executors' announcements."""

from collections.abc import Iterable
from typing import NamedTuple

from bend.internal.v1 import control_pb2
from bend_server.core.plan import TaskPlan
from bend_server.engine.options import EngineOptions
from bend_server.engine.shares import Share

Version = tuple[int, int, int, str]

# What shares remember of earlier tasks; without it they start anew.
SHARES_MAX = 10_000
# One executor takes a frame, and a frame costs as much as three tasks: each executor gets two of
# what waits, so that it has one under way while the next is made.
FRAMES_EACH = 2


def parse_version(text: str) -> Version:
    """Return a sortable semantic version; a release sorts after its pre-releases.

    What is no number counts as 0: contracts were checked where they were registered.
    """
    core, _, pre = text.partition("+")[0].partition("-")
    numbers = [int(part) if part.isdigit() else 0 for part in core.split(".")[:3]]
    numbers += [0] * (3 - len(numbers))
    return numbers[0], numbers[1], numbers[2], pre or "~"


class Group:
    """One instance group over all executors.

    `credit` sums what live executors announce; `frames` is into how many frames what waits is cut,
    and `frame_max` how many tasks one may have; `routable` tells whether new tasks may go there;
    `empty_us` is when the last executor left it, 0 while there is one; `open` counts tries that are
    handed out to it.
    """

    __slots__ = (
        "component",
        "credit",
        "empty_us",
        "frame_max",
        "frames",
        "labels",
        "long_running",
        "name",
        "namespace",
        "open",
        "parsed",
        "routable",
        "version",
    )

    def __init__(self, announced: control_pb2.GroupAnnouncement) -> None:
        self.name = announced.group
        self.describe(announced)
        self.credit = 0
        self.frames = FRAMES_EACH
        self.frame_max = 1
        self.routable = False
        self.empty_us = 0
        self.open = 0

    def describe(self, announced: control_pb2.GroupAnnouncement) -> None:
        """Take over what an announcement says of the group's identity."""
        self.namespace = announced.namespace
        self.component = announced.component
        self.version = announced.version
        self.parsed = parse_version(announced.version)
        self.labels = dict(announced.labels)
        self.long_running = announced.long_running


class Policy(NamedTuple):
    """What was decided about a component's versions: version → weight, and deprecated ones."""

    weights: dict[str, int]
    deprecated: frozenset[str]


NO_POLICY = Policy({}, frozenset())


class _Executor:
    """What one executor said last."""

    __slots__ = ("groups", "incarnation", "seen_us", "sequence")

    def __init__(self) -> None:
        self.incarnation = 0
        self.sequence = 0
        self.seen_us = 0
        self.groups: dict[str, tuple[int, int, bool]] = {}


class Routes:
    """The table. `version` changes with every change that could move a decision."""

    def __init__(self, options: EngineOptions) -> None:
        self._silence_us = options.silence_us
        self._window_min = options.window_tasks_min
        self._executors: dict[str, _Executor] = {}
        self._policies: dict[tuple[str, str], Policy] = {}
        self._shares: dict[tuple[object, ...], Share] = {}
        self.groups: dict[str, Group] = {}
        self.version = 0

    def announce(self, data: bytes, now_us: int) -> bool:
        """Take in what an executor or a registry says; return whether the table changed.

        Raises DecodeError.
        """
        message = control_pb2.InstanceAnnouncement.FromString(data)
        if message.HasField("policies"):
            return self._decided(message.policies)
        known = self._executors.get(message.executor)
        if message.leaving:
            if known is None or known.incarnation != message.incarnation:
                return False
            del self._executors[message.executor]
            return self._sum(now_us)
        if known is None or known.incarnation != message.incarnation:
            known = self._executors[message.executor] = _Executor()
            known.incarnation = message.incarnation
        elif message.sequence < known.sequence:
            return False
        known.sequence = message.sequence
        known.seen_us = now_us
        known.groups = {}
        for announced in message.groups:
            group = self.groups.get(announced.group)
            if group is None:
                self.groups[announced.group] = Group(announced)
            elif not group.component:
                group.describe(announced)
            drains = bool(announced.instances) and all(
                instance.draining for instance in announced.instances
            )
            taking = [one.credit for one in announced.instances if not one.draining]
            largest = max(taking, default=announced.credit)
            known.groups[announced.group] = (announced.credit, largest, not drains)
        return self._sum(now_us)

    def found(self, name: str, now_us: int) -> Group:
        """Return the group of a frame in the queue; one that nobody announced yet is empty."""
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = Group(control_pb2.GroupAnnouncement(group=name))
            group.empty_us = now_us
        return group

    def rejuvenate(self, now_us: int) -> None:
        """Count every executor's silence, and every group's emptiness, from now on."""
        for executor in self._executors.values():
            executor.seen_us = now_us
        for group in self.groups.values():
            if group.empty_us:
                group.empty_us = now_us

    def expire(self, now_us: int) -> bool:
        """Drop executors that are silent; return whether the table changed."""
        silent = [
            name
            for name, executor in self._executors.items()
            if now_us - executor.seen_us > self._silence_us
        ]
        for name in silent:
            del self._executors[name]
        return self._sum(now_us) if silent else False

    def vanished(self, now_us: int) -> list[Group]:
        """Return groups that have had no executor for the silence time."""
        return [
            group
            for group in self.groups.values()
            if group.empty_us and now_us - group.empty_us >= self._silence_us
        ]

    def forget(self, group: Group) -> None:
        """Drop a group that nobody serves and that has nothing handed out."""
        if group.empty_us and not group.open:
            self.groups.pop(group.name, None)

    def window(self, group: Group) -> int:
        """Return how many tasks may be handed out to a group at once."""
        return max(self._window_min, 2 * group.credit)

    def matching(self, namespace: str, task: TaskPlan) -> list[Group]:
        """Return the groups for a task: those of the versions that get it.

        A pinned version is the only one. Otherwise versions with a weight share the tasks; without
        weights the newest live version takes all. A deprecated one is taken when nothing else
        fits, one of weight 0 never.
        """
        found = [
            group
            for group in self.groups.values()
            if group.routable
            and group.component == task.component
            and group.namespace == namespace
            and _fits(group, task)
        ]
        if not found or task.exact_version is not None:
            return sorted(found, key=lambda group: group.name)
        policy = self._policies.get((namespace, task.component))
        if policy is not None:
            found, weighted = _decided(found, policy)
            if weighted:
                return sorted(found, key=lambda group: group.name)
        if not found:
            return found
        newest = max(group.parsed for group in found)
        return sorted((g for g in found if g.parsed == newest), key=lambda group: group.name)

    def share(self, groups: list[Group]) -> Share | None:
        """Return how tasks are shared out over the versions of groups; None for one version."""
        if not groups or all(group.version == groups[0].version for group in groups):
            return None
        namespace, component = groups[0].namespace, groups[0].component
        policy = self._policies.get((namespace, component), NO_POLICY)
        live = sorted({group.version for group in groups})
        weights = {version: policy.weights[version] for version in live}
        key = (namespace, component, *weights.items())
        found = self._shares.get(key)
        if found is None:
            if len(self._shares) >= SHARES_MAX:
                self._shares.clear()
            found = self._shares[key] = Share(weights)
        return found

    def _decided(self, said: control_pb2.Policies) -> bool:
        """Take in a registry's policies; return whether they changed."""
        heard = {
            (one.namespace, one.component): Policy(dict(one.weights), frozenset(one.deprecated))
            for one in said.components
        }
        policies = heard if said.whole else {**self._policies, **heard}
        policies = {key: policy for key, policy in policies.items() if policy != NO_POLICY}
        changed = policies != self._policies
        self._policies = policies
        self.version += changed
        return changed

    def _sum(self, now_us: int) -> bool:
        changed = False
        sums: dict[str, tuple[int, int, bool, int]] = {}
        for executor in self._executors.values():
            for name, (credit, largest, takes) in executor.groups.items():
                total, most, routable, many = sums.get(name, (0, 0, False, 0))
                sums[name] = total + credit, max(most, largest), routable or takes, many + takes
        for name, group in self.groups.items():
            credit, largest, routable, executors = sums.get(name, (0, 0, False, 0))
            group.frames = FRAMES_EACH * max(1, executors)
            # A frame is held by one executor: larger ones than half of what an instance takes
            # at once would keep work from the other instances.
            group.frame_max = 1 if group.long_running else max(1, largest // 2)
            if name in sums:
                group.empty_us = 0
            elif not group.empty_us:
                group.empty_us = now_us
            if (credit, routable) != (group.credit, group.routable):
                group.credit, group.routable = credit, routable
                changed = True
        self.version += changed
        return changed


def _decided(groups: list[Group], policy: Policy) -> tuple[list[Group], bool]:
    """Return the groups that a policy leaves, and whether they share by weight.

    Weighted ones come first, then others, then deprecated ones.
    """
    allowed = [group for group in groups if policy.weights.get(group.version) != 0]
    current = [group for group in allowed if group.version not in policy.deprecated]
    weighted = [group for group in current if group.version in policy.weights]
    return weighted or current or allowed, bool(weighted)


def _fits(group: Group, task: TaskPlan) -> bool:
    if task.exact_version is not None:
        if group.version != task.exact_version:
            return False
    elif task.major is not None and group.parsed[0] != task.major:
        return False
    return _labelled(group, task.requires)


def _labelled(group: Group, requires: Iterable[tuple[str, str]]) -> bool:
    labels = group.labels
    return all(labels.get(key) == value for key, value in requires)
