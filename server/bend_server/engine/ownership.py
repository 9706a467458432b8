"""The lease, the partitions it owns, and how they move between engines."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from bend_server.core.errors import DependencyDown, DomainError, LeaseLost
from bend_server.core.ids import PARTITIONS, partition_of
from bend_server.engine.commits import Commits
from bend_server.engine.live import Live
from bend_server.engine.options import Counters, EngineOptions
from bend_server.ports.clock import Clock
from bend_server.ports.queue import QueueDown
from bend_server.ports.store import EngineStore, Lease

log = structlog.get_logger()

OWNERS_FRESH_US = 1_000_000
RETRY_FACTOR_MAX = 4
STEADY_TURNS = 2
LAST_WORDS_S = 5.0


class Ownership:
    """Holds the lease.

    One coroutine, `run`, does everything in turn: lease, claim, recovery, renewal, balance. A
    commit that a newer owner refused, or whose outcome is unknown, calls `lost`; memory is gone
    at once and `run` starts over.

    Args:
        recover: loads claimed partitions and sets them going.
        fetch: loads parked executions of opened partitions that are due.
        opened: told the partitions that are used from now on, and how many engines are alive.
        open_slot: starts to listen on a slot; returns what closes it again.
        drop: forgets everything that is derived from states (lanes, windows, timers).
        slots_dead: told the slots whose engines are gone, so that their lanes are drained.
        forgot: told the partitions whose memory was dropped because they go elsewhere.
    """

    def __init__(
        self,
        store: EngineStore,
        clock: Clock,
        live: Live,
        commits: Commits,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._store = store
        self._clock = clock
        self._live = live
        self._commits = commits
        self._options = options
        self._counters = counters
        self._error: DomainError | None = None
        self._changed = asyncio.Event()
        self._owners: dict[int, int] = {}
        self._owners_us = -OWNERS_FRESH_US
        self._slots: dict[int, None] = {}
        self._engines = 1
        self._steady = 0
        self._slot_open = False
        self._lonely = False
        self._abandoned: Lease | None = None
        self.recovered = asyncio.Event()
        self.recover: Callable[[list[int]], Awaitable[None]]
        self.fetch: Callable[[list[int]], Awaitable[None]]
        self.opened: Callable[[list[int], int], None]
        self.open_slot: Callable[[int], Awaitable[None]]
        self.close_slot: Callable[[], Awaitable[None]]
        self.drop: Callable[[], None]
        self.slots_dead: Callable[[list[int]], Awaitable[None]]
        self.forgot: Callable[[frozenset[int]], None]
        self.slots_seen: dict[int, None]

    def lost(self, error: DomainError) -> None:
        """Drop memory: of everything when the lease is gone, else of what SQL may contradict."""
        log.warning(
            "engine_memory_dropped", reason=error.reason, lease=isinstance(error, LeaseLost)
        )
        self._counters.add("memory_dropped")
        self._error = error
        if isinstance(error, LeaseLost):
            self._live.void()
        elif self._commits.in_flight:
            # Nobody knows whether that commit will still be applied, and memory is about to be
            # read anew: without its lease, the fence refuses it.
            self._abandoned = self._live.lease
            self._live.void()
        else:
            self._live.drop()
        self.drop()
        self._changed.set()

    async def owner_slot(self, execution: int) -> int | None:
        """Return the slot of the live owner of an execution's partition, or None."""
        now_us = self._clock.now_us()
        if now_us - self._owners_us >= OWNERS_FRESH_US:
            rows = await self._store.partitions()
            self._owners = {row.partition: row.slot for row in rows if row.live}
            self._owners_us = now_us
        return self._owners.get(partition_of(execution))

    async def run(self) -> None:
        """Own what is to be owned, until cancelled."""
        pause_s = self._options.retry_s
        while True:
            try:
                await self._tenure()
            except (DomainError, QueueDown) as error:
                if self._live.lease is not None and self._error is None:
                    failed = error if isinstance(error, DomainError) else DependencyDown(str(error))
                    self._commits.drop(failed)
                    self.lost(failed)
                log.warning("engine_tenure_ended", error=str(error))
            if self.recovered.is_set():
                self.recovered.clear()
                pause_s = self._options.retry_s
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._options.retry_s * RETRY_FACTOR_MAX)

    async def release(self) -> None:
        """Give everything up, at a planned stop."""
        lease = self._live.lease or self._abandoned
        self._live.void()
        self.drop()
        if lease is not None:
            try:
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._store.release_lease(lease)
            except (DomainError, TimeoutError):
                log.warning("lease_not_released")
        await self.close_slot()

    async def _tenure(self) -> None:
        """Serve one lease until it, or memory, is lost."""
        self._error = None
        self._changed.clear()
        live = self._live
        options = self._options
        lease = live.lease
        if lease is None:
            self._slot_open = False
            await self.close_slot()
            if self._abandoned is not None:
                await self._store.release_lease(self._abandoned)
                self._abandoned = None
            await self._void_predecessors()
            lease = await self._store.acquire_lease(
                options.name, options.slots, options.lease_ttl_us
            )
            live.lease = lease
        else:
            live.lease = lease = self._still(
                await self._store.renew_lease(lease, options.lease_ttl_us)
            )
        # On SQLite a lease owns every partition from the beginning; elsewhere an earlier tenure may
        # have broken off after it took some.
        rows = await self._store.partitions()
        live.claim([row.partition for row in rows if row.lease == self._still(lease).id])
        if not self._slot_open:
            await self.close_slot()  # what a tenure that broke off here may have left
            await self.open_slot(lease.slot)
            self._slot_open = True
        if live.claimed:
            await self._use(sorted(live.claimed))
        while True:
            await self._balance(lease)
            self.recovered.set()
            await self._rest()
            live.lease = lease = self._still(await self._renew(lease))

    def _still(self, lease: Lease) -> Lease:
        """Return a renewed lease, unless it was given up while the renewal was on its way."""
        if self._error is not None:
            raise self._error
        return lease

    async def _void_predecessors(self) -> None:
        """Void what an earlier engine of this replica left: it is dead, nobody need wait.

        Once: what appears later is another incarnation, with rights of its own. Were the guarantee
        broken, the fence of commits would still keep the earlier one from writing.
        """
        replica = self._options.replica
        if not replica or self._lonely:
            return
        for lease in await self._store.leases():
            if lease.engine.startswith(replica):
                log.info("predecessor_voided", engine=lease.engine)
                await self._store.release_lease(lease)
        self._lonely = True

    async def _renew(self, lease: Lease) -> Lease:
        """Renew; a database that is away for a moment is asked again while the lease lasts."""
        while True:
            try:
                return await self._store.renew_lease(lease, self._options.lease_ttl_us)
            except DependencyDown:
                if self._error is not None or self._clock.now_us() >= lease.expires_us:
                    raise
            await asyncio.sleep(self._options.retry_s * 5)

    async def _rest(self) -> None:
        """Wait a third of the lease's life; raise what ended the tenure meanwhile."""
        try:
            async with asyncio.timeout(self._options.lease_ttl_us / 3e6):
                await self._changed.wait()
        except TimeoutError:
            pass
        if self._error is not None:
            raise self._error

    async def _balance(self, lease: Lease) -> None:
        """Claim up to the fair share, or give away what is above it."""
        live = self._live
        leases = await self._store.leases()
        await self._tend_dead_slots({one.slot for one in leases})
        engines = max(1, len(leases))
        self._steady = self._steady + 1 if engines == self._engines else 0
        self._engines = engines
        share = -(-PARTITIONS // engines)
        surplus = len(live.claimed) - share
        if surplus > 0:
            if self._steady >= STEADY_TURNS:
                await self._give(lease, live.order[-surplus:])
        elif surplus < 0:
            taken = await self._store.claim_partitions(lease, -surplus)
            self._still(lease)
            if taken:
                live.claim(taken)
                await self._use(taken)

    async def _tend_dead_slots(self, live_slots: set[int]) -> None:
        """Have lanes of engines that are gone drained: those seen live once, or with results."""
        self._slots.update(dict.fromkeys(sorted(live_slots)))
        self._slots.update(self.slots_seen)
        await self.slots_dead([slot for slot in self._slots if slot not in live_slots])

    async def _use(self, partitions: list[int]) -> None:
        """Recover claimed partitions and open them."""
        generation = self._live.generation
        await self.recover(partitions)
        if generation != self._live.generation:
            raise self._error or LeaseLost("memory was dropped during recovery")
        self._live.open(partitions)
        self._owners_us = -OWNERS_FRESH_US
        self._counters.add("partitions_taken", len(partitions))
        log.info("partitions_opened", count=len(partitions))
        self.opened(partitions, self._engines)
        await self.fetch(partitions)

    async def _give(self, lease: Lease, partitions: list[int]) -> None:
        """Hand partitions over: no new work, drain what is gathered, forget, disown."""
        if not partitions:
            return
        live = self._live
        live.close(partitions)
        await self._commits.after()
        gone = frozenset(partitions)
        # From here to `forget` nothing awaits: no row of these partitions can be gathered between.
        while any(partition_of(key) in gone for key in live.held) or self._gathers(gone):
            await self._commits.after()
        live.forget(partitions)
        self.forgot(gone)
        await self._store.give_partitions(lease, partitions)
        self._owners_us = -OWNERS_FRESH_US
        self._counters.add("partitions_given", len(partitions))
        log.info("partitions_given", count=len(partitions))

    def _gathers(self, gone: frozenset[int]) -> bool:
        gathering = self._commits.gathering
        effects = gathering.effects
        return any(
            partition_of(row.execution) in gone
            for rows in (
                effects.results,
                effects.events,
                effects.finishes,
                effects.changes,
                effects.reopens,
            )
            for row in rows
        ) or any(partition_of(park.execution) in gone for park in gathering.parks)
