"""Instances that people have taken out of service: said until their executor has heard it."""

import asyncio
import contextlib

from bend.internal.v1 import control_pb2
from bend_server.core.errors import DependencyDown, NotFound
from bend_server.ports.clock import Clock
from bend_server.ports.queue import DRAIN, Queue, QueueDown
from bend_server.registry.instances import Instances, LiveInstance

CONFIRM_S = 8.0
AGAIN_S = 0.5
# Ids are those of processes: the oldest are long gone.
DRAINS_MAX = 10_000


class Drains:
    """What each instance was told last.

    Executors remember it too, but one that starts later knows nothing: the notice is repeated when
    an announcement shows that it was not heard.

    Args:
        queue: carries the notices.
        live: what executors announce.
        clock: tells how old an announcement is.
    """

    def __init__(self, queue: Queue, live: Instances, clock: Clock) -> None:
        self._queue = queue
        self._live = live
        self._clock = clock
        self._wanted: dict[tuple[str, str], bool] = {}
        self._heard = asyncio.Event()

    def noticed(self, data: bytes) -> None:
        """Take in a notice, of this registry or another. Raises DecodeError."""
        notice = control_pb2.DrainNotice.FromString(data)
        self._remember((notice.namespace, notice.instance_id), notice.drain)

    def _remember(self, key: tuple[str, str], drain: bool) -> None:
        self._wanted.pop(key, None)
        self._wanted[key] = drain
        if len(self._wanted) > DRAINS_MAX:
            del self._wanted[next(iter(self._wanted))]

    async def announced(self, message: control_pb2.InstanceAnnouncement) -> None:
        """Look whether an executor does what was asked; tell it again when not."""
        if self._wanted:
            for group in message.groups:
                for instance in group.instances:
                    key = (group.namespace, instance.instance_id)
                    if self._wanted.get(key) is True and not instance.draining:
                        with contextlib.suppress(QueueDown):
                            await self._say(key, drain=True)
        self._heard.set()

    async def set(self, namespace: str, instance_id: str, *, drain: bool) -> list[LiveInstance]:
        """Tell an instance's executor, and wait until it announces it so.

        Raises:
            NotFound: INSTANCE_NOT_FOUND.
            DependencyDown: no confirmation within 8 s.
        """
        key = (namespace, instance_id)
        if not self._of(key):
            raise NotFound(
                f"no live instance {instance_id!r}",
                reason="INSTANCE_NOT_FOUND",
                instance=instance_id,
            )
        self._remember(key, drain)
        try:
            async with asyncio.timeout(CONFIRM_S):
                return await self._confirmed(key, drain=drain)
        except TimeoutError:
            raise DependencyDown(
                f"the executor of {instance_id} did not confirm within {CONFIRM_S:g} s"
            ) from None

    async def _confirmed(self, key: tuple[str, str], *, drain: bool) -> list[LiveInstance]:
        while True:
            found = self._of(key)
            if found and all(one.draining == drain for one in found):
                return found
            self._heard.clear()
            await self._say(key, drain=drain)
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._heard.wait()
            except TimeoutError:
                continue

    def _of(self, key: tuple[str, str]) -> list[LiveInstance]:
        return self._live.named(*key, self._clock.now_us())

    async def _say(self, key: tuple[str, str], *, drain: bool) -> None:
        notice = control_pb2.DrainNotice(namespace=key[0], instance_id=key[1], drain=drain)
        await self._queue.broadcast(DRAIN, notice.SerializeToString())
