"""The registry: components and their contracts in SQL, live instances in memory."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import structlog
from google.protobuf.message import DecodeError

from bend.internal.v1 import control_pb2
from bend_server.core.errors import DependencyDown, InvalidInput, NotFound, WrongState
from bend_server.ports.clock import Clock
from bend_server.ports.queue import ASK_ANNOUNCE, DRAIN, Queue, QueueDown, Subscription
from bend_server.ports.store import ComponentRow, RegistryStore
from bend_server.registry.compatibility import Change, changes
from bend_server.registry.contracts import Contract, contract_row, version_key
from bend_server.registry.drains import Drains
from bend_server.registry.instances import Instances, LiveInstance
from bend_server.registry.policies import ANNOUNCE, Policies

# Engines that missed a broadcast follow after so long.
REPEAT_S = 10.0
# Of a refused contract's changes, so many stand in the text.
SAID_MAX = 10

_log = structlog.get_logger(__name__)


class Comparison(NamedTuple):
    """Two contracts of a component; `base` is None when there is nothing older."""

    base: str | None
    version: str
    changes: list[Change]

    @property
    def breaking(self) -> list[Change]:
        """The changes that break."""
        return [change for change in self.changes if change.breaking]


class Registry:
    """Knows components, their versions, and who serves them now.

    Args:
        store: where contracts rest.
        queue: brings the executors' announcements.
        clock: tells how old an announcement is.
        refuse_breaking: refuse a new version that breaks an older one of its major (from 1 on);
            otherwise only log it.
    """

    def __init__(
        self, store: RegistryStore, queue: Queue, clock: Clock, *, refuse_breaking: bool = True
    ) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._refuse_breaking = refuse_breaking
        self._live = Instances()
        self._drains = Drains(queue, self._live, clock)
        self._policies = Policies(store, queue)
        self._subscriptions: list[Subscription] = []
        self._repeating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen to announcements, and ask for them: executors repeat them only every 3 s."""
        self._subscriptions = [
            await self._queue.subscribe(ANNOUNCE, self._heard),
            await self._queue.subscribe(ASK_ANNOUNCE, self._asked),
            await self._queue.subscribe(DRAIN, self._drain_heard),
        ]
        await self._queue.broadcast(ASK_ANNOUNCE, b"")
        self._repeating = asyncio.get_running_loop().create_task(self._repeat())

    async def stop(self) -> None:
        """Stop listening. Idempotent."""
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.close()
        repeating, self._repeating = self._repeating, None
        if repeating is not None:
            repeating.cancel()
            await asyncio.wait((repeating,))

    async def _heard(self, data: bytes) -> None:
        try:
            message = control_pb2.InstanceAnnouncement.FromString(data)
        except DecodeError:
            _log.warning("announcement_unreadable", size_bytes=len(data))
            return
        self._live.apply(message, self._clock.now_us())
        await self._drains.announced(message)

    async def _drain_heard(self, data: bytes) -> None:
        try:
            self._drains.noticed(data)
        except DecodeError:
            _log.warning("drain_notice_unreadable", size_bytes=len(data))

    async def _asked(self, _data: bytes) -> None:
        await self._tell_all()

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(REPEAT_S)
            await self._tell_all()

    async def _tell_all(self) -> None:
        try:
            await self._policies.tell_all()
        except (DependencyDown, QueueDown) as error:
            _log.warning("policies_not_told", error=str(error))

    async def register(self, namespace: str, contract: Contract) -> tuple[ComponentRow, bool]:
        """Store a version; return what is stored now and whether this call stored it.

        Idempotent.

        Raises:
            InvalidInput: a schema is no JSON Schema.
            WrongState: CONTRACT_MISMATCH, the version is there with another contract, or it breaks
                what an older version of its major promised.
        """
        row = contract_row(namespace, contract, self._clock.now_us())
        versions = await self._store.component_versions(namespace, row.name)
        if all(known.version != row.version for known in versions):
            await self._judge(row, versions)
        stored, created = await self._store.put_version(row)
        if created:
            _log.info("component_registered", component=row.name, version=row.version)
        return stored, created

    async def _judge(self, row: ComponentRow, versions: list[ComponentRow]) -> None:
        """Refuse a breaking change within a major; 0.x promises nothing."""
        base = _base(row, [known for known in versions if known.major == row.major])
        broken = (await _compared(base, row)).breaking if base is not None else []
        if base is None or not broken:
            return
        told = "; ".join(f"{one.path} {one.message}" for one in broken[:SAID_MAX])
        more = f" (and {len(broken) - SAID_MAX} more)" if len(broken) > SAID_MAX else ""
        refused = self._refuse_breaking and row.major > 0
        _log.warning(
            "contract_breaks", component=row.name, version=row.version, base=base.version,
            changes=len(broken), refused=refused,
        )  # fmt: skip
        if refused:
            raise WrongState(
                f"{row.name} {row.version} breaks {base.version}; raise the major version: "
                f"{told}{more}",
                reason="CONTRACT_MISMATCH",
                component=row.name,
                version=row.version,
                base=base.version,
                changes=told + more,
            )

    async def compare(
        self, namespace: str, name: str, *, version: str, base: str, contract: Contract | None
    ) -> Comparison:
        """Compare a contract with an older version.

        Args:
            namespace, name: the component.
            version: the newer, when `contract` is None; "" is the newest.
            base: the older; "" is the nearest before the newer that is not deprecated, of its
                major where there is one.
            contract: the newer, not stored.

        Raises:
            NotFound: COMPONENT_NOT_FOUND.
            InvalidInput: the contract is wrong, or of another component.
        """
        if contract is None:
            versions, row = await self.component(namespace, name, version)
        else:
            if contract.name != name:
                raise InvalidInput(
                    f"the contract is of {contract.name!r}, not of {name!r}", field="contract.name"
                )
            row = contract_row(namespace, contract, self._clock.now_us())
            versions, _ = await self.component(namespace, name)
        if base:
            _, older = await self.component(namespace, name, base)
            return await _compared(older, row)
        same = [known for known in versions if known.major == row.major]
        found = _base(row, same) or _base(row, versions)
        if found is None:
            return Comparison(None, row.version, [])
        return await _compared(found, row)

    async def deprecate(
        self, namespace: str, name: str, version: str, *, deprecated: bool
    ) -> ComponentRow:
        """Deprecate a version, or take that back. Idempotent.

        Raises:
            NotFound: COMPONENT_NOT_FOUND.
        """
        row = await self._store.set_deprecated(namespace, name, version, deprecated)
        if row is None:
            raise _unknown(f"{name}@{version}")
        _log.info("component_deprecated", component=name, version=version, deprecated=deprecated)
        await self._tell(namespace, name)
        return row

    async def set_weights(
        self, namespace: str, name: str, weights: Mapping[str, int]
    ) -> list[tuple[str, int]]:
        """Replace a component's weights; return them, newest version first. Idempotent.

        Raises:
            NotFound: COMPONENT_NOT_FOUND, a version is not registered.
            InvalidInput: all weights are 0.
        """
        if weights and not any(weights.values()):
            raise InvalidInput("all weights are 0: no task would be given out", field="weights")
        missing = await self._store.set_weights(namespace, name, weights, self._clock.now_us())
        if missing:
            raise _unknown(", ".join(missing))
        _log.info("component_weights_set", component=name, weights=dict(weights))
        await self._tell(namespace, name)
        return _by_version(weights.items())

    async def weights(self, namespace: str, name: str) -> list[tuple[str, int]]:
        """Return a component's weights, newest version first; [] when the newest takes all."""
        found = await self._store.policies(namespace, name)
        return _by_version(found[0].weights) if found else []

    async def _tell(self, namespace: str, name: str) -> None:
        try:
            await self._policies.tell(namespace, name)
        except QueueDown as error:
            # It is stored; the repetition will tell.
            _log.warning("policies_not_told", error=str(error))

    async def drain(self, namespace: str, instance_id: str, *, drain: bool) -> list[LiveInstance]:
        """Give an instance no new tasks, or take that back; see Drains.set."""
        try:
            return await self._drains.set(namespace, instance_id, drain=drain)
        except QueueDown as error:
            raise DependencyDown(f"the queue is away: {error}") from error

    async def component(
        self, namespace: str, name: str, version: str = ""
    ) -> tuple[list[ComponentRow], ComponentRow]:
        """Return all versions, newest first, and the one asked for (or the newest).

        Raises:
            NotFound: COMPONENT_NOT_FOUND.
        """
        versions = await self._store.component_versions(namespace, name)
        for row in versions:
            if not version or row.version == version:
                return versions, row
        raise _unknown(f"{name}@{version}" if version else name)

    async def components(
        self, namespace: str, *, query: str, after: str | None, limit: int
    ) -> list[tuple[ComponentRow, int]]:
        """List (newest version, number of versions) by name, strictly after one."""
        return await self._store.components(namespace, query=query, after=after, limit=limit)

    def instances(self, namespace: str, name: str) -> list[LiveInstance]:
        """Return who serves a component now."""
        return self._live.of(namespace, name, self._clock.now_us())

    def instance_counts(self, namespace: str) -> dict[str, int]:
        """Return component → number of live instances."""
        return self._live.counts(namespace, self._clock.now_us())


def _unknown(what: str) -> NotFound:
    return NotFound(f"no component {what!r}", reason="COMPONENT_NOT_FOUND", component=what)


def _base(row: ComponentRow, versions: list[ComponentRow]) -> ComponentRow | None:
    """Return the nearest version before one, rather one that is not deprecated."""
    older = [one for one in versions if version_key(one.version) < version_key(row.version)]
    trusted = [one for one in older if not one.deprecated] or older
    return max(trusted, key=lambda one: version_key(one.version), default=None)


async def _compared(base: ComponentRow, row: ComponentRow) -> Comparison:
    # Large schemas take a while, which other calls must not wait for.
    found = await asyncio.to_thread(
        changes, base.input_schema, row.input_schema, base.output_schema, row.output_schema
    )
    return Comparison(base.version, row.version, found)


def _by_version(weights: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(weights, key=lambda one: version_key(one[0]), reverse=True)


__all__ = ["ANNOUNCE", "Change", "Comparison", "Contract", "LiveInstance", "Registry"]
