"""Telling the registry and the engines which instance groups live on this executor."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from bend.internal.v1 import control_pb2
from bend_server.executor.groups import Group
from bend_server.executor.options import ANNOUNCE_GAP_S, ANNOUNCE_S
from bend_server.ports.queue import Queue, QueueDown

# Of one group in one announcement: a message may not be over 1 MiB.
INSTANCES_MAX = 1000
SUBJECT = "registry.announce"

_log = structlog.get_logger(__name__)


class Announcer:
    """Broadcasts the whole set at every change, merged, and every 3 s.

    Args:
        queue: carries the broadcasts.
        executor: the executor's name.
        incarnation: random per start.
    """

    def __init__(self, queue: Queue, executor: str, incarnation: int) -> None:
        self._queue = queue
        self._executor = executor
        self._incarnation = incarnation
        self._sequence = 0
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Instances came, went or drain: say so soon."""
        self._changed.set()

    async def run(self, groups: Callable[[], Sequence[Group]]) -> None:
        """Announce until cancelled."""
        while True:
            self._changed.clear()
            await self._say([_announcement(group) for group in groups() if group.sessions])
            await asyncio.sleep(ANNOUNCE_GAP_S)
            try:
                async with asyncio.timeout(ANNOUNCE_S - ANNOUNCE_GAP_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def leave(self) -> None:
        """Say that this executor takes nothing more."""
        await self._say([], leaving=True)

    async def _say(
        self, groups: list[control_pb2.GroupAnnouncement], *, leaving: bool = False
    ) -> None:
        self._sequence += 1
        announcement = control_pb2.InstanceAnnouncement(
            executor=self._executor,
            sequence=self._sequence,
            incarnation=self._incarnation,
            groups=groups,
            leaving=leaving,
        )
        try:
            await self._queue.broadcast(SUBJECT, announcement.SerializeToString())
        except QueueDown as error:
            _log.warning("announcement_failed", error=str(error))


def _announcement(group: Group) -> control_pb2.GroupAnnouncement:
    said = control_pb2.GroupAnnouncement(
        group=group.id,
        namespace=group.namespace,
        component=group.component,
        version=group.version,
        labels=dict(group.contract.labels),
        long_running=group.contract.long_running,
    )
    for session in group.sessions:
        if not session.draining:
            said.credit += session.credit
        if len(said.instances) >= INSTANCES_MAX:
            continue
        said.instances.add(
            instance_id=session.instance_id,
            credit=session.credit,
            in_flight=len(session.running),
            draining=session.draining,
            connected_us=session.connected_us,
            pool_instance=session.pool_instance,
        )
    return said
