"""The executor's pools: which there are, whether this executor manages them, and their keepers.

One executor manages all pools of a mesh: the one that holds the registry's lease. The others know
them by its reports. Whoever loses touch with the registry acts no more, before the lease can be
somebody else's; its programs run on and are stopped once another executor holds the lease.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import structlog
from google.protobuf.message import DecodeError

from bend.internal.v1 import control_pb2, pool_service_pb2
from bend_server.core import limits
from bend_server.core.errors import DependencyDown, DomainError, InvalidInput
from bend_server.executor.announcer import SUBJECT as ANNOUNCE
from bend_server.executor.pools.configuration import FollowedPools
from bend_server.executor.pools.driver import Driver, DriverFault
from bend_server.executor.pools.heard import Heard
from bend_server.executor.pools.keeper import Keeper
from bend_server.executor.pools.reports import Samples, report
from bend_server.executor.pools.spec import PoolSpec, pool_spec
from bend_server.ports.clock import Chance, Clock
from bend_server.ports.pools import PoolRegistry
from bend_server.ports.queue import Queue, QueueDown, Subscription

REPORTS = "executor.pools"
DEMAND = "engine.demand"
SYNC_S = 2.0
SYNC_IDLE_S = 5.0
SYNC_CALL_S = 8.0
REPORT_S = 1.0
# The lease counts from when it was asked for, and is not used to its last moment.
LEASE_MARGIN_S = 3.0
STOP_S = 4.0
REPORT_OLD_S = 10.0

_log = structlog.get_logger(__name__)
Key = tuple[str, str]


class Described(NamedTuple):
    """A pool of the file or of the registry; `held` is ScalePool's number, None without one."""

    spec: PoolSpec
    configured: bool
    held: int | None


class Warden:
    """One executor's part in keeping pools.

    Args:
        queue: brings demand, announcements and reports.
        clock, chance: time, names.
        registry: stores descriptions, gives the lease.
        file: the operator's pools.
        driver: makes or finds the driver of a kind. Raises DriverFault.
        name: of this executor; `seat` is a place that one process has at a time.
    """

    def __init__(
        self,
        queue: Queue,
        clock: Clock,
        chance: Chance,
        registry: PoolRegistry,
        file: FollowedPools,
        driver: Callable[[str], Driver],
        *,
        name: str,
        seat: str,
    ) -> None:
        self.file = file
        self.registry = registry
        self.heard = Heard()
        self.described: dict[Key, Described] = {}
        self.reports: dict[Key, tuple[float, control_pb2.PoolReport]] = {}
        self._queue = queue
        self._clock = clock
        self._chance = chance
        self._driver = driver
        self._name = name
        self._seat = seat
        self._keepers: dict[Key, Keeper] = {}
        self._samples: dict[Key, Samples] = {}
        self._records: dict[Key, pool_service_pb2.PoolRecord] = {}
        self._leased_until = 0.0
        self._holder = ""
        self._next_sync = 0.0
        self._next_report = 0.0
        self._subscriptions: list[Subscription] = []
        self._task: asyncio.Task[None] | None = None

    # Life

    async def start(self) -> None:
        """Listen, and begin to look. Raises QueueDown."""
        self._subscriptions = [
            await self._queue.subscribe(ANNOUNCE, self._announced),
            await self._queue.subscribe(DEMAND, self._demanded),
            await self._queue.subscribe(REPORTS, self._reported),
        ]
        self._describe()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop what would end with this process, and give the lease back. Idempotent."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        for subscription in self._subscriptions:
            await subscription.close()
        mortal = [k for k in self._keepers.values() if not k.driver.outlives]
        await asyncio.gather(*(keeper.stop(STOP_S) for keeper in mortal))
        for driver in {id(k.driver): k.driver for k in self._keepers.values()}.values():
            await driver.close()
        try:
            async with asyncio.timeout(1.0):
                await self.registry.sync_pools(self._request(release=True))
        except (TimeoutError, DomainError):
            _log.info("pool_lease_not_released")

    async def _announced(self, data: bytes) -> None:
        self.heard.announced(data, asyncio.get_running_loop().time())

    async def _demanded(self, data: bytes) -> None:
        self.heard.demanded(data, asyncio.get_running_loop().time())

    async def _reported(self, data: bytes) -> None:
        """Another executor's report; an empty message means that descriptions changed."""
        if not data:
            self._next_sync = 0.0
            return
        try:
            message = control_pb2.PoolReport.FromString(data)
        except DecodeError:
            return
        if message.executor != self._name and len(self.reports) < 2 * limits.POOLS_MAX:
            self._keep(message)

    def _keep(self, message: control_pb2.PoolReport) -> None:
        key = (message.namespace, message.status.pool.name)
        self.reports[key] = (asyncio.get_running_loop().time(), message)

    # Looking

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except QueueDown:
                _log.info("pool_reports_not_sent")
            except Exception:  # noqa: BLE001 - without this loop no pool would ever be kept
                _log.exception("pool_turn_failed")
            await asyncio.sleep(limits.POOL_LOOK_S)

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        self.heard.expire(loop.time())
        if self.file.refresh():
            _log.info("pools_file_read", pools=len(self.file.content.pools))
            self._next_sync = 0.0
        if loop.time() >= self._next_sync:
            await self.sync()
        if loop.time() < self._leased_until:
            await self._keep_all(loop.time())
        elif self._holder not in {"", self._name} and self._keepers:
            await self._hand_over()
        if loop.time() >= self._next_report and self._keepers:
            self._next_report = loop.time() + REPORT_S
            await self._report()
        for key in [k for k, (at, _) in self.reports.items() if loop.time() - at > REPORT_OLD_S]:
            del self.reports[key]

    def _request(self, *, release: bool = False) -> pool_service_pb2.SyncPoolsRequest:
        return pool_service_pb2.SyncPoolsRequest(
            seat=self._seat,
            executor=self._name,
            configured=bool(self.file.content.pools),
            release=release,
        )

    async def sync(self) -> None:
        """Ask the registry for descriptions and the lease; without it the old ones stay."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        self._next_sync = asked_at + (SYNC_S if self.described else SYNC_IDLE_S)
        try:
            async with asyncio.timeout(SYNC_CALL_S):
                answer = await self.registry.sync_pools(self._request())
        except (TimeoutError, DependencyDown) as error:
            _log.warning("pools_not_synced", error=str(error))
            self._describe()
            return
        had = self._leased_until
        self._holder = answer.holder
        self._leased_until = 0.0
        if answer.lease_ms:
            self._leased_until = asked_at + answer.lease_ms / 1000 - LEASE_MARGIN_S
            if not had:
                _log.info("pools_taken", executor=self._name)
        self._records = {(one.namespace, one.name): one for one in answer.records}
        self._describe()

    def _describe(self) -> None:
        """Put the file's and the stored pools together; the file wins."""
        found: dict[Key, Described] = {}
        for key, record in self._records.items():
            held = record.held_instances if record.HasField("held_instances") else None
            mine = self.file.content.pools.get(key)
            if mine is not None:
                found[key] = Described(mine, True, held)
            elif record.HasField("pool"):
                try:
                    found[key] = Described(pool_spec(key[0], record.pool), False, held)
                except InvalidInput as error:
                    # Written by another release: it waits for one that understands it.
                    _log.warning("pool_not_understood", pool=key[1], error=str(error))
        for key, spec in self.file.content.pools.items():
            found.setdefault(key, Described(spec, True, None))
        self.described = dict(sorted(found.items()))

    def remember(self, record: pool_service_pb2.PoolRecord | None, key: Key) -> None:
        """Take over a change that this executor has just stored."""
        if record is None:
            self._records.pop(key, None)
        else:
            self._records[key] = record
        self._describe()

    async def nudge(self) -> None:
        """Tell all executors that descriptions changed; lossy, they look every 2 s anyway."""
        try:
            await self._queue.broadcast(REPORTS, b"")
        except QueueDown:
            _log.info("pool_change_not_told")

    # Acting

    async def _keep_all(self, now: float) -> None:
        for key, (spec, configured, held) in self.described.items():
            keeper = self._keepers.get(key)
            if keeper is not None and keeper.spec.driver != spec.driver:
                keeper.leaving = True
            elif keeper is not None:
                keeper.leaving = False
                keeper.change(spec, held)
            elif self._allowed(spec, configured):
                self._take(spec, held)
        for key, keeper in self._keepers.items():
            if key not in self.described:
                keeper.leaving = True
        await asyncio.gather(*(keeper.tick(now) for keeper in self._keepers.values()))
        for key in [key for key, keeper in self._keepers.items() if keeper.gone]:
            del self._keepers[key]
            self._samples.pop(key, None)

    def _allowed(self, spec: PoolSpec, configured: bool) -> bool:
        """Tell whether a stored pool may run here: the operator may have changed his mind."""
        return configured or spec.driver in self.file.content.api_drivers

    def _take(self, spec: PoolSpec, held: int | None) -> None:
        try:
            driver = self._driver(spec.driver)
        except DriverFault as error:
            if spec.key not in self.reports:
                _log.error("pool_driver_missing", pool=spec.name, error=str(error))
            fault = f"pool {spec.name}: {error}"
            self._keep(report(self._name, spec, None, None, fault, self._clock.now_us()))
            return
        keeper = Keeper(spec, driver, self.heard, self._clock, self._chance)
        keeper.held = held
        self._keepers[spec.key] = keeper
        self._samples[spec.key] = Samples()

    async def _hand_over(self) -> None:
        """Another executor holds the lease: end what only this one can end."""
        _log.warning("pools_handed_over", to=self._holder)
        mortal = [k for k in self._keepers.values() if not k.driver.outlives]
        await asyncio.gather(*(k.stop(k.spec.drain_s) for k in mortal))
        self._keepers.clear()
        self._samples.clear()

    async def _report(self) -> None:
        now_us = self._clock.now_us()
        for key, keeper in list(self._keepers.items()):
            samples = self._samples[key]
            samples.add(keeper, now_us)
            message = report(self._name, keeper.spec, keeper, samples, "", now_us)
            self._keep(message)
            await self._queue.broadcast(REPORTS, message.SerializeToString())

    # Registration

    def admit(self, namespace: str, pool_instance: str) -> None:
        """Check that a pool has room for one more connected instance.

        The last bound where two executors should start instances at once. Raises DependencyDown.
        """
        pool, _, name = pool_instance.partition("/")
        found = self.described.get((namespace, pool))
        if found is None:
            return
        others = [
            other
            for other, one in self.heard.connected(namespace, pool).items()
            if other != name and not one.draining
        ]
        if len(others) >= found.spec.most:
            raise DependencyDown(f"pool {pool!r} has its {found.spec.most} instances", pool=pool)
