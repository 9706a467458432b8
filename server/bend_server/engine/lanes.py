"""Ready tasks that wait for hand-out: one lane per kind of demand, fair within it.

Within a lane, priorities share by weight (1 gets nine times what 9 gets, none starves) and
executions of one priority take turns, so that a fan-out of 10,000 tasks does not hold up others.
"""

from collections import deque
from collections.abc import Iterator
from typing import cast

from bend_server.core.effects import Ready
from bend_server.core.plan import TaskPlan
from bend_server.engine.routing import Group, Routes
from bend_server.engine.shares import Share

Work = tuple[Ready, int]
"""A ready try and when it became ready, Unix microseconds."""

QUANTUM = 8
STRIDE = 2520
PLANS_MAX = 200_000


class Bundle:
    """Several ready tasks of one execution, taking one place in the ring."""

    __slots__ = ("execution", "works")

    def __init__(self, execution: int, works: deque[Work]) -> None:
        self.execution = execution
        self.works = works


class Ring:
    """The executions of one priority, in turn. An execution with one task has no Bundle."""

    __slots__ = ("bundles", "count", "passed", "stride", "turns")

    def __init__(self, priority: int) -> None:
        self.turns: deque[Work | Bundle] = deque()
        self.bundles: dict[int, Bundle] = {}
        self.count = 0
        self.passed = 0
        self.stride = STRIDE // max(1, 10 - priority)

    def push(self, execution: int, works: list[Work]) -> None:
        """Append ready tasks of one execution."""
        self.count += len(works)
        bundle = self.bundles.get(execution) if self.bundles else None
        if bundle is not None:
            bundle.works.extend(works)
        elif len(works) == 1:
            self.turns.append(works[0])
        else:
            bundle = self.bundles[execution] = Bundle(execution, deque(works))
            self.turns.append(bundle)

    def take(self, count: int, into: list[Work]) -> None:
        """Move at most `count` tasks out, one per turn."""
        turns = self.turns
        count = min(count, self.count)
        self.count -= count
        for _ in range(count):
            turn = turns.popleft()
            if type(turn) is not Bundle:
                into.append(cast("Work", turn))
                continue
            into.append(turn.works.popleft())
            if turn.works:
                turns.append(turn)
            else:
                del self.bundles[turn.execution]

    def expire(self, now_us: int, into: list[Work]) -> int:
        """Move what is past its time out; return the next such time, 0 when nothing is left."""
        turns, self.turns, self.bundles, self.count = self.turns, deque(), {}, 0
        first_us = 0
        for turn in turns:
            if type(turn) is Bundle:
                execution, works = turn.execution, list(turn.works)
            else:
                work = cast("Work", turn)
                execution, works = work[0].state.start.id, [work]
            kept: list[Work] = []
            for work in works:
                due_us = expiry(work)
                if due_us <= now_us:
                    into.append(work)
                    continue
                kept.append(work)
                if not first_us or due_us < first_us:
                    first_us = due_us
            if kept:
                self.push(execution, kept)
        return first_us


def expiry(work: Work) -> int:
    """Return when a waiting task's schedule timeout ends, Unix microseconds."""
    ready, since_us = work
    return since_us + ready[0].plan.tasks[ready[1]].schedule_timeout_us


class Lane:
    """All ready tasks that the same groups could take.

    `share` tells which version is next when several share its tasks by weight. `expires_us` is not
    later than the first schedule timeout among them (0: nothing waits), and `alarm_us` is when the
    lane's timer fires (0: it has none).
    """

    __slots__ = (
        "alarm_us",
        "expires_us",
        "groups",
        "namespace",
        "rings",
        "routed",
        "sample",
        "share",
    )

    def __init__(self, namespace: str, sample: TaskPlan) -> None:
        self.namespace = namespace
        self.sample = sample
        self.rings: dict[int, Ring] = {}
        self.groups: list[Group] = []
        self.share: Share | None = None
        self.routed = -1
        self.expires_us = 0
        self.alarm_us = 0

    @property
    def count(self) -> int:
        """How many tasks wait."""
        rings = self.rings
        if len(rings) == 1:
            for ring in rings.values():
                return ring.count
        return sum(ring.count for ring in rings.values())

    def route(self, routes: Routes) -> list[Group]:
        """Return the groups that take this lane's tasks now."""
        if self.routed != routes.version:
            self.groups = routes.matching(self.namespace, self.sample)
            self.share = routes.share(self.groups)
            self.routed = routes.version
        return self.groups

    def push(self, priority: int, execution: int, works: list[Work], expires_us: int) -> None:
        """Append ready tasks of one execution, the first of which expires at a time."""
        if not self.expires_us or expires_us < self.expires_us:
            self.expires_us = expires_us
        ring = self.rings.get(priority)
        if ring is None:
            ring = self.rings[priority] = Ring(priority)
        if not ring.count:
            # One that was idle starts level with the others: it saved up nothing.
            ring.passed = min((r.passed for r in self.rings.values() if r.count), default=0)
        ring.push(execution, works)

    def take(self, count: int) -> list[Work]:
        """Move at most `count` tasks out, by weight over the priorities."""
        into: list[Work] = []
        if len(self.rings) == 1:
            for ring in self.rings.values():
                ring.take(count, into)
            return into
        while count > 0:
            active = [ring for ring in self.rings.values() if ring.count]
            if not active:
                break
            ring = min(active, key=lambda ring: ring.passed)
            taken = min(QUANTUM, count, ring.count)
            ring.take(taken, into)
            ring.passed += taken * ring.stride
            count -= taken
        return into

    def expire(self, now_us: int) -> list[Work]:
        """Take out and return what waited past its schedule timeout."""
        expired: list[Work] = []
        self.expires_us = 0
        for ring in self.rings.values():
            first_us = ring.expire(now_us, expired)
            if first_us and (not self.expires_us or first_us < self.expires_us):
                self.expires_us = first_us
        return expired

    def wish(self) -> str:
        """Return what the lane waits for, as people write it."""
        task = self.sample
        if task.exact_version is not None:
            text = f"{task.component}@{task.exact_version}"
        elif task.major is not None:
            text = f"{task.component}@{task.major}"
        else:
            text = task.component
        if task.requires:
            text += " with " + ", ".join(f"{key}={value}" for key, value in task.requires)
        return text


class Lanes:
    """All lanes. `active` are those that may have something to hand out."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[object, ...], Lane] = {}
        # Tasks are looked up by identity: the entry keeps its plan alive, so ids stay unique.
        self._by_plan: dict[int, tuple[TaskPlan, Lane]] = {}
        self.active: dict[Lane, None] = {}

    def lane(self, namespace: str, task: TaskPlan) -> Lane:
        """Return the lane of a task."""
        entry = self._by_plan.get(id(task))
        if entry is not None:
            return entry[1]
        key = (namespace, task.component, task.major, task.exact_version, task.requires)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(namespace, task)
        if len(self._by_plan) >= PLANS_MAX:
            self._by_plan.clear()
        self._by_plan[id(task)] = (task, lane)
        return lane

    def push(self, works: list[Work]) -> None:
        """Queue ready tries; those of one execution and lane that stand together stay together."""
        place = 0
        size = len(works)
        by_plan = self._by_plan
        active = self.active
        while place < size:
            ready = works[place][0]
            state = ready[0]
            task = state.plan.tasks[ready[1]]
            entry = by_plan.get(id(task))
            lane = entry[1] if entry is not None else self.lane(state.start.namespace, task)
            end = place + 1
            while end < size and works[end][0][0] is state:
                other = state.plan.tasks[works[end][0][1]]
                entry = by_plan.get(id(other))
                if (entry[1] if entry else self.lane(state.start.namespace, other)) is not lane:
                    break
                end += 1
            part = works[place:end]
            expires_us = works[place][1] + task.schedule_timeout_us
            if end - place > 1:
                expires_us = min(map(expiry, part))
            lane.push(state.start.priority, state.start.id, part, expires_us)
            active[lane] = None
            place = end

    def wake(self) -> None:
        """Look at every lane again: the routes changed."""
        for lane in self._lanes.values():
            if lane.count:
                self.active[lane] = None

    def waited_for(self) -> Iterator[Lane]:
        """Yield the lanes in which tasks wait."""
        return (lane for lane in self._lanes.values() if lane.count)

    def waiting(self) -> int:
        """Return how many tasks wait in all lanes."""
        return sum(lane.count for lane in self._lanes.values())

    def clear(self) -> None:
        """Drop everything."""
        self._lanes.clear()
        self._by_plan.clear()
        self.active.clear()
