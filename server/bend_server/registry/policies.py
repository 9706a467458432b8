"""Telling the engines what was decided about versions: weights and deprecations."""

from collections.abc import Iterable

from bend.internal.v1 import control_pb2
from bend_server.ports.queue import Queue
from bend_server.ports.store import RegistryStore, VersionPolicy

ANNOUNCE = "registry.announce"
POLICIES_MAX = 1000


class Policies:
    """Reads the policies from SQL and broadcasts them.

    SQL is asked each time: another registry may have written. What gets lost on the way is
    repeated.

    Args:
        store: where they rest.
        queue: carries them.
    """

    def __init__(self, store: RegistryStore, queue: Queue) -> None:
        self._store = store
        self._queue = queue

    async def tell(self, namespace: str, name: str) -> None:
        """Tell of one component."""
        found = await self._store.policies(namespace, name)
        await self._say(found or [VersionPolicy(namespace, name, (), ())], whole=False)

    async def tell_all(self) -> None:
        """Tell of all components; in one message also that there are no others."""
        found = await self._store.policies()
        if len(found) <= POLICIES_MAX:
            await self._say(found, whole=True)
            return
        for place in range(0, len(found), POLICIES_MAX):
            await self._say(found[place : place + POLICIES_MAX], whole=False)

    async def _say(self, policies: Iterable[VersionPolicy], *, whole: bool) -> None:
        said = control_pb2.Policies(whole=whole)
        for policy in policies:
            said.components.add(
                namespace=policy.namespace,
                component=policy.name,
                weights=dict(policy.weights),
                deprecated=policy.deprecated,
            )
        message = control_pb2.InstanceAnnouncement(policies=said)
        await self._queue.broadcast(ANNOUNCE, message.SerializeToString())
