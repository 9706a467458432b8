"""Ready tasks that wait for hand-out: one lane per kind of demand, fair within it.

Within a lane, priorities share by weight (1 gets nine times what 9 gets, none starves). In one
priority, concurrency keys take turns with each other and with executions that have none, and so do
the executions of one key: neither a fan-out of 10,000 tasks nor a busy key holds up others.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import cast

from bend_server.core.effects import Ready
from bend_server.core.model import StartRow
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


class KeyTurn:
    """The ready tasks of all executions with one concurrency key, taking one place in the ring."""

    __slots__ = ("key", "ring")

    def __init__(self, key: "Key", ring: "Ring") -> None:
        self.key = key
        self.ring = ring


Key = tuple[str, str]
"""A workflow and a value of its concurrency key; a lane is of one namespace."""
Turn = Work | Bundle | KeyTurn


class Ring:
    """The turns of one priority. An execution with one task has no Bundle."""

    __slots__ = ("bundles", "count", "keys", "passed", "priority", "stride", "turns")

    def __init__(self, priority: int) -> None:
        self.turns: deque[Turn] = deque()
        self.bundles: dict[int, Bundle] = {}
        self.keys: dict[Key, KeyTurn] = {}
        self.count = 0
        self.passed = 0
        self.priority = priority
        self.stride = STRIDE // max(1, 10 - priority)

    def push(self, execution: int, works: list[Work], key: Key | None = None) -> None:
        """Append ready tasks of one execution; `key` is that of its concurrency, if it has one."""
        self.count += len(works)
        if key is not None:
            turn = self.keys.get(key)
            if turn is None:
                turn = self.keys[key] = KeyTurn(key, Ring(self.priority))
                self.turns.append(turn)
            turn.ring.push(execution, works)
            return
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
            if type(turn) is Bundle:
                into.append(turn.works.popleft())
                if turn.works:
                    turns.append(turn)
                else:
                    del self.bundles[turn.execution]
            elif type(turn) is KeyTurn:
                turn.ring.take(1, into)
                if turn.ring.count:
                    turns.append(turn)
                else:
                    del self.keys[turn.key]
            else:
                into.append(cast("Work", turn))

    def expire(self, now_us: int, into: list[Work]) -> int:
        """Move what is past its time out; return the next such time, 0 when nothing is left."""
        turns, self.turns, self.bundles, self.keys, self.count = self.turns, deque(), {}, {}, 0
        first_us = 0
        for turn in turns:
            for key, execution, works in _contents(turn):
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
                    self.push(execution, kept, key)
        return first_us

    def oldest(self, turns_max: int) -> int:
        """Return when the oldest task became ready, looking at so many turns; 0 when none waits."""
        seen: list[int] = []
        for turn in islice(self.turns, turns_max):
            if type(turn) is Bundle:
                seen.append(turn.works[0][1])
            elif type(turn) is KeyTurn:
                seen.append(turn.ring.oldest(turns_max))
            else:
                seen.append(cast("Work", turn)[1])
        return min(seen, default=0)


def _contents(turn: Turn) -> Iterator[tuple[Key | None, int, list[Work]]]:
    """Yield what a turn holds: (concurrency key, execution, its tasks)."""
    if type(turn) is KeyTurn:
        for inner in turn.ring.turns:
            for _, execution, works in _contents(inner):
                yield turn.key, execution, works
    elif type(turn) is Bundle:
        yield None, turn.execution, list(turn.works)
    else:
        work = cast("Work", turn)
        yield None, work[0].state.start.id, [work]


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

    def push(self, start: StartRow, works: list[Work], expires_us: int) -> None:
        """Append ready tasks of one execution, the first of which expires at a time."""
        priority = start.priority
        if not self.expires_us or expires_us < self.expires_us:
            self.expires_us = expires_us
        ring = self.rings.get(priority)
        if ring is None:
            ring = self.rings[priority] = Ring(priority)
        if not ring.count:
            # One that was idle starts level with the others: it saved up nothing.
            ring.passed = min((r.passed for r in self.rings.values() if r.count), default=0)
        key = start.concurrency_key
        ring.push(start.id, works, None if key is None else (start.workflow, key))

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
            lane.push(state.start, part, expires_us)
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
