"""The engine: its parts put together, its loops, its start and stop, and the use cases."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import structlog

from bend_server.core.errors import DependencyDown, DomainError
from bend_server.core.ids import partition_of
from bend_server.core.model import ExecutionStatus
from bend_server.engine.adoption import Adoption
from bend_server.engine.commands import Commands
from bend_server.engine.commits import Commits
from bend_server.engine.demand import Demands
from bend_server.engine.dispatch import Dispatch
from bend_server.engine.due import Due
from bend_server.engine.inputs import Inputs
from bend_server.engine.jobs import Jobs
from bend_server.engine.live import Live
from bend_server.engine.options import Counters, EngineOptions
from bend_server.engine.overlay import Overlay
from bend_server.engine.ownership import Ownership
from bend_server.engine.parking import Parking
from bend_server.engine.recovery import Recovery
from bend_server.engine.results import Results
from bend_server.engine.routing import Routes
from bend_server.engine.settlement import Settlement
from bend_server.engine.starts import Starts
from bend_server.engine.steps import Steps
from bend_server.engine.timers import Timers
from bend_server.engine.upkeep import Retention, Sweeper, Upkeep
from bend_server.engine.waits import Waits
from bend_server.engine.watch import Watches
from bend_server.engine.windows import Windows
from bend_server.ports.blobs import Blobs
from bend_server.ports.clock import Chance, Clock
from bend_server.ports.engine import Ended, StartCommand, StartOutcome, TaskOverlay
from bend_server.ports.plans import PlanSource
from bend_server.ports.queue import ASK_ANNOUNCE, Queue, QueueDown, Subscription
from bend_server.ports.store import EngineStore

log = structlog.get_logger()

FLUSH_S = 5.0


class Engine:
    """One engine; offers `ports.engine.EngineUseCases`.

    All of it runs on one event loop. A loop that dies of a fault of ours ends the engine: `failed`
    then has the error, and the composition root ends the process.
    """

    def __init__(
        self,
        store: EngineStore,
        queue: Queue,
        blobs: Blobs,
        clock: Clock,
        chance: Chance,
        plans: PlanSource,
        options: EngineOptions,
    ) -> None:
        self.counters = Counters()
        self.options = options
        self._store = store
        self._queue = queue
        self._blobs = blobs
        self._clock = clock
        self._live = Live()
        self._jobs = Jobs()
        self._commits = Commits(store, blobs, self._live, options, self.counters)
        self._steps = Steps(self._commits, chance)
        self._routes = Routes(options)
        self._windows = Windows()
        self._timers = Timers(clock)
        self._watches = Watches(self._live)
        self._waits = Waits(store, queue, self._live, self._jobs)
        self._starts = Starts(clock, chance, self._live, self._commits, plans, options)
        self._ownership = Ownership(store, clock, self._live, self._commits, options, self.counters)
        self._make_dispatch()
        self._make_intake(plans, chance)
        self._make_followers()
        self._lanes: dict[int, asyncio.Task[None]] = {}
        self._announcements: Subscription | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopping = False
        self._connect()

    def _make_dispatch(self) -> None:
        live, jobs = self._live, self._jobs
        self._dispatch = Dispatch(
            self._queue,
            self._clock,
            live,
            self._steps,
            self._routes,
            self._windows,
            Inputs(self._blobs, live, jobs),
            self._timers,
            jobs,
            self.options,
            self.counters,
        )
        self._overlay = Overlay(live, self._windows, self._dispatch, self._routes)
        self._upkeep = Upkeep(
            self._queue,
            self._clock,
            live,
            self._routes,
            self._dispatch,
            self._watches,
            self.counters,
        )

    def _make_intake(self, plans: PlanSource, chance: Chance) -> None:
        live, commits, steps, counters = self._live, self._commits, self._steps, self.counters
        self._adoption = Adoption(
            self._store, plans, self._clock, live, commits, steps, self._windows, counters
        )
        self._results = Results(
            self._queue,
            self._clock,
            chance,
            live,
            commits,
            steps,
            self._adoption,
            self._jobs,
            self.options,
            counters,
        )
        self._commands = Commands(
            self._store,
            self._queue,
            self._clock,
            live,
            commits,
            steps,
            self._adoption,
            self._waits,
            self._watches,
            self._overlay,
            counters,
        )
        self._recovery = Recovery(
            self._store,
            self._queue,
            self._clock,
            live,
            commits,
            self._adoption,
            self._dispatch,
            self._results,
            self._routes,
            self._windows,
            self._timers,
            self._overlay,
            self.options,
            counters,
        )

    def _make_followers(self) -> None:
        store, clock, live, steps = self._store, self._clock, self._live, self._steps
        adoption, options, counters = self._adoption, self.options, self.counters
        self._parking = Parking(
            store, clock, live, self._commits, adoption, self._timers, options, counters
        )
        self._settlement = Settlement(
            store,
            self._queue,
            self._blobs,
            clock,
            live,
            self._commits,
            steps,
            self._dispatch,
            self._windows,
            self._timers,
            self._waits,
            self._watches,
            self._parking,
            self._overlay,
            self._jobs,
            counters,
        )
        self._due = Due(
            clock, live, steps, self._dispatch, self._recovery, self._settlement, self._jobs
        )
        self._demands = Demands(
            self._queue, self._dispatch.lanes, self._routes, self._windows, options, counters
        )
        self.sweeper = Sweeper(store, clock, live, adoption, steps, options, counters)
        self.retention = Retention(store, self._blobs, clock, live, options, counters)

    def _connect(self) -> None:
        """Tie the parts that know each other both ways."""
        ownership = self._ownership
        self._watches.overlay = self._overlay
        self._commits.settle = self._settlement
        self._commits.lost = ownership.lost
        self._commits.quarantine = self._adoption.quarantine
        self._adoption.follow = self._settlement.follow
        self._timers.fire = self._due.fire
        self._timers.expire = self._due.expire
        self._results.owner_slot = ownership.owner_slot
        self._commands.owner_slot = ownership.owner_slot
        self._waits.register = self._commands.register
        ownership.recover = self._recovery.recover
        ownership.fetch = self._parking.fetch
        ownership.open_slot = self._open_slot
        ownership.close_slot = self._close_slot
        ownership.drop = self._drop
        ownership.slots_dead = self._drain_slots
        ownership.slots_seen = self._recovery.slots_seen
        ownership.forgot = self._forgot
        self._queue.on_reconnect(self._recovery.reconnected)
        self._queue.on_reconnect(self._upkeep.reconnected)

    # Life

    async def start(self) -> None:
        """Start the loops; return once partitions are recovered, or after `start_wait_s`."""
        self._main = asyncio.create_task(self._run(), name="engine")
        try:
            async with asyncio.timeout(self.options.start_wait_s):
                await self._ownership.recovered.wait()
        except TimeoutError:
            log.warning("engine_starts_without_ownership", reasons=self.reasons())

    async def stop(self) -> None:
        """Stop in order: intake, flush, release of the partitions, loops. Idempotent."""
        if self._stopping or self._main is None:
            return
        self._stopping = True
        await self._close_slot()
        try:
            async with asyncio.timeout(FLUSH_S):
                while self._commits.busy and self._live.lease is not None:
                    await self._commits.after()
        except (DomainError, TimeoutError):
            log.warning("engine_stops_without_flush")
        self._main.cancel()
        await asyncio.wait([self._main])
        await self._ownership.release()
        self._commits.drop(DependencyDown("the engine stops"))
        await self._jobs.close()
        if self._announcements is not None:
            await self._announcements.close()

    @property
    def failed(self) -> BaseException | None:
        """The fault that ended the engine's loops, or None while they run."""
        main = self._main
        if main is None or not main.done() or main.cancelled():
            return None
        return main.exception()

    async def join(self) -> None:
        """Wait until the loops have ended; raise the fault that ended them, if one did."""
        if self._main is not None:
            await asyncio.wait([self._main])
            failed = self.failed
            if failed is not None:
                raise failed

    @property
    def ready(self) -> bool:
        """Whether this engine has its lease, owns partitions and has recovered them."""
        return not self.reasons()

    def reasons(self) -> list[str]:
        """Return why the engine is not ready; [] when it is."""
        reasons: list[str] = []
        live = self._live
        if self._main is None or self._main.done() or self._stopping:
            reasons.append("the engine does not run")
        if live.lease is None:
            reasons.append("no lease")
        elif live.claimed - live.owned:
            reasons.append("partitions are being recovered")
        elif not live.owned:
            reasons.append("no partition is owned")
        if not self._queue.connected:
            reasons.append("the queue is not connected")
        return reasons

    async def _run(self) -> None:
        while self._announcements is None:
            try:
                self._announcements = await self._queue.subscribe(
                    "registry.announce", self._upkeep.hear
                )
            except QueueDown:
                await asyncio.sleep(self.options.retry_s * 5)
        try:
            await self._queue.broadcast(ASK_ANNOUNCE, b"")
        except QueueDown:
            log.info("announcements_not_asked_for")  # executors repeat themselves anyway
        async with asyncio.TaskGroup() as group:
            for loop in (
                self._commits.run(),
                self._timers.run(),
                self._ownership.run(),
                self._recovery.run(),
                self._upkeep.run(),
                self._parking.run(),
                self._demands.run(),
                self.sweeper.run(),
                self.retention.run(),
            ):
                group.create_task(loop)

    async def _open_slot(self, slot: int) -> None:
        try:
            await self._commands.open(slot)
        except QueueDown as error:
            raise DependencyDown("the queue cannot be reached") from error
        self._lanes[slot] = asyncio.create_task(self._results.run(slot))

    async def _close_slot(self) -> None:
        await self._drain_slots([], own=False)
        await self._commands.close()

    async def _drain_slots(self, dead: list[int], *, own: bool = True) -> None:
        """Consume the lanes of dead slots beside the own one, and no others."""
        wanted = [self._live.slot, *dead] if own else dead
        for slot in [slot for slot in self._lanes if slot not in wanted]:
            task = self._lanes.pop(slot)
            task.cancel()
            await asyncio.wait([task])
        for slot in dead:
            if slot not in self._lanes:
                self._lanes[slot] = asyncio.create_task(self._results.run(slot))

    def _drop(self) -> None:
        self._dispatch.clear()
        self._timers.clear()
        self._overlay.workers.clear()
        self._watches.wake_all()

    def _forgot(self, partitions: frozenset[int]) -> None:
        self._windows.forget(lambda execution: partition_of(execution) in partitions)
        self._waits.forget(lambda execution: partition_of(execution) in partitions)
        self._watches.wake_all()

    # Use cases, see ports.engine

    async def start_executions(self, commands: Sequence[StartCommand]) -> list[StartOutcome]:
        """Start many; answer in order, after the commit. Each is judged alone."""
        if self._stopping:
            raise DependencyDown("this engine stops")
        return await self._starts.start(commands)

    async def cancel(
        self, execution: int, *, reason: str, actor: str, request_id: str
    ) -> ExecutionStatus:
        """Cancel; return the status after the wish is durable, wherever the owner is."""
        return await self._commands.cancel(execution, reason, actor, request_id)

    async def wait(self, execution: int, timeout_s: float) -> Ended | None:
        """Return when the execution is terminal and committed; None after `timeout_s` seconds."""
        return await self._waits.wait(execution, timeout_s)

    def ended(self, executions: Sequence[int]) -> AsyncIterator[list[Ended]]:
        """Yield executions as they end, in batches; ends when all have."""
        return self._waits.ended(executions)

    def watch(self, execution: int) -> AsyncIterator[list[TaskOverlay]]:
        """Yield after every commit that concerns the execution, and on transient changes."""
        return self._watches.watch(execution)

    def waiting(self, execution: int) -> list[TaskOverlay]:
        """Return the overlay of all open tasks; [] when the execution is not in memory here."""
        return self._overlay.of(execution)

    def owns(self, execution: int) -> bool:
        """Return whether this engine owns the execution's partition."""
        return self._live.owns(execution)

    def live_count(self) -> int:
        """Return how many executions are in memory."""
        return len(self._live.states)

    def gauges(self) -> dict[str, int]:
        """Return what is held just now, by name; for metrics."""
        return {
            "executions_live": len(self._live.states),
            "partitions_owned": len(self._live.owned),
            "tasks_waiting": self._dispatch.lanes.waiting(),
            "tasks_handed_out": len(self._windows.by_key),
            "rows_gathered": self._commits.gathering.rows(),
            "jobs_running": len(self._jobs),
            "jobs_failed": self._jobs.failed,
            "groups_live": sum(group.routable for group in self._routes.groups.values()),
        }

    def waiting_count(self) -> int:
        """Return how many ready tasks wait for an instance."""
        return self._dispatch.lanes.waiting()
