"""Telling who keeps pools how many tasks there are for which instances; once a second, lossy."""

import asyncio

import structlog

from bend.internal.v1 import control_pb2
from bend_server.core import limits
from bend_server.engine.lanes import Lane, Lanes
from bend_server.engine.options import Counters, EngineOptions
from bend_server.engine.routing import Group, Routes
from bend_server.engine.windows import Windows
from bend_server.ports.queue import Queue, QueueDown

log = structlog.get_logger()

SUBJECT = "engine.demand"
PERIOD_S = 1.0
# Executions take turns in a ring, so the oldest task is near the front, not always first.
TURNS_LOOKED_AT = 16


class Demands:
    """Broadcasts demand while there is any, and once more when there is none."""

    def __init__(
        self,
        queue: Queue,
        lanes: Lanes,
        routes: Routes,
        windows: Windows,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._queue = queue
        self._lanes = lanes
        self._routes = routes
        self._windows = windows
        self._name = options.name
        self._counters = counters
        self._told = False

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            notice = self.notice()
            any_left = bool(notice.lanes or notice.groups)
            if not any_left and not self._told:
                continue
            try:
                await self._queue.broadcast(SUBJECT, notice.SerializeToString())
            except QueueDown:
                self._counters.add("broadcasts_failed")
            else:
                self._told = any_left

    def notice(self) -> control_pb2.DemandNotice:
        """Return what waits and what is handed out now."""
        notice = control_pb2.DemandNotice(engine=self._name)
        for lane in self._lanes.waited_for():
            if len(notice.lanes) >= limits.DEMAND_LANES_MAX:
                break
            notice.lanes.append(_lane(lane))
        oldest = self._oldest_frames()
        for group in self._routes.groups.values():
            if group.open and group.component and len(notice.groups) < limits.DEMAND_LANES_MAX:
                notice.groups.add(
                    namespace=group.namespace,
                    component=group.component,
                    version=group.version,
                    labels=group.labels,
                    open=group.open,
                    oldest_us=oldest.get(group, 0),
                )
        return notice

    def _oldest_frames(self) -> dict[Group, int]:
        """Return when the oldest frame of each group went out: the first, they are in order."""
        oldest: dict[Group, int] = {}
        open_groups = sum(1 for group in self._routes.groups.values() if group.open)
        for handout in self._windows.handouts:
            oldest.setdefault(handout.group, handout.sent_us)
            if len(oldest) >= open_groups:
                break
        return oldest


def _lane(lane: Lane) -> control_pb2.LaneDemand:
    task = lane.sample
    demand = control_pb2.LaneDemand(
        namespace=lane.namespace,
        component=task.component,
        exact_version=task.exact_version or "",
        requires=dict(task.requires),
        waiting=lane.count,
        oldest_us=min(
            (ring.oldest(TURNS_LOOKED_AT) for ring in lane.rings.values() if ring.count), default=0
        ),
    )
    if task.major is not None:
        demand.major = task.major
    return demand
