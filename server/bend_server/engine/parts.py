"""The parts of one engine, made and tied together."""

from functools import partial

from bend_server.core.errors import DomainError
from bend_server.core.ids import partition_of
from bend_server.core.model import ExecutionStatus
from bend_server.engine.adoption import Adoption
from bend_server.engine.bulk import Bulks
from bend_server.engine.cache import Cache
from bend_server.engine.child_starts import ChildStarts
from bend_server.engine.children import Children
from bend_server.engine.commands import Commands
from bend_server.engine.commits import Commits
from bend_server.engine.controls import Controls
from bend_server.engine.demand import Demands
from bend_server.engine.dispatch import Dispatch
from bend_server.engine.due import Due
from bend_server.engine.gate import Gate
from bend_server.engine.inputs import Inputs
from bend_server.engine.jobs import Jobs
from bend_server.engine.live import Live
from bend_server.engine.mailbox import Mailbox
from bend_server.engine.options import Counters, EngineOptions
from bend_server.engine.overlay import Overlay
from bend_server.engine.own_types import OwnTypes
from bend_server.engine.ownership import Ownership
from bend_server.engine.parking import Parking
from bend_server.engine.queues import Queues
from bend_server.engine.recovery import Recovery
from bend_server.engine.results import Results
from bend_server.engine.routing import Routes
from bend_server.engine.settlement import Settlement
from bend_server.engine.slots import Slots
from bend_server.engine.starts import Starts
from bend_server.engine.steps import Steps
from bend_server.engine.timers import Timers
from bend_server.engine.upkeep import Retention, Sweeper, Upkeep
from bend_server.engine.waits import Waits
from bend_server.engine.watch import Watches
from bend_server.engine.windows import Windows
from bend_server.ports.blobs import Blobs
from bend_server.ports.clock import Chance, Clock
from bend_server.ports.engine import StartCommand, StartOutcome
from bend_server.ports.plans import PlanSource
from bend_server.ports.queue import Queue
from bend_server.ports.store import EngineStore


class Parts:
    """Everything that an engine is made of; no loop runs yet."""

    def __init__(
        self,
        store: EngineStore,
        queue: Queue,
        blobs: Blobs,
        clock: Clock,
        chance: Chance,
        plans: PlanSource,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._store = store
        self._queue = queue
        self._blobs = blobs
        self._clock = clock
        self._plans = plans
        self._options = options
        self._counters = counters
        self.live = Live()
        self.jobs = Jobs()
        self.commits = Commits(store, blobs, self.live, options, counters)
        self.steps = Steps(self.commits, chance)
        self.routes = Routes(options)
        self.windows = Windows()
        self.timers = Timers(clock)
        self.watches = Watches(self.live)
        self.waits = Waits(store, queue, self.live, self.jobs)
        self.ownership = Ownership(store, clock, self.live, self.commits, options, counters)
        self.adoption = Adoption(
            store, plans, clock, self.live, self.commits, self.steps, self.windows, counters
        )
        self.queues = Queues(
            store, plans, self.live, self.commits, self.adoption, self.jobs, options, counters
        )
        self.starts = Starts(
            clock, chance, self.live, self.commits, plans, self.queues, self.jobs, options
        )
        self.mailbox = Mailbox(store, queue, plans, self.live, self.commits, self.queues, self.jobs)
        self._make_dispatch()
        self._make_intake(chance)
        self._make_followers()
        self.bulks = Bulks(store, clock, chance, self.live, self.commands, counters)
        self._connect()

    def _make_dispatch(self) -> None:
        live, jobs, clock = self.live, self.jobs, self._clock
        self.inputs = Inputs(self._blobs, live, jobs)
        self.dispatch = Dispatch(
            self._queue,
            clock,
            live,
            self.steps,
            self.routes,
            self.windows,
            self.inputs,
            self.timers,
            jobs,
            self._options,
            self._counters,
        )
        self.children = Children(self._store, clock, live, self.steps, self.adoption, jobs)
        self.child_starts = ChildStarts(
            self._store,
            self._plans,
            clock,
            live,
            self.commits,
            self.steps,
            self.starts,
            self.queues,
            self.children,
            self.mailbox,
            self._counters,
        )
        self.own = OwnTypes(
            self._blobs, clock, live, self.steps, self.inputs, self.child_starts, jobs
        )
        self.cache = Cache(
            self._store,
            self._blobs,
            clock,
            live,
            self.commits,
            self.steps,
            self.inputs,
            jobs,
            self._counters,
        )
        self.slots = Slots(self._queue, clock, live, self.inputs, jobs, self._counters)
        self.gate = Gate(self.own, self.cache, self.slots, self.inputs)
        self.overlay = Overlay(live, self.windows, self.dispatch, self.routes, self.slots)
        self.upkeep = Upkeep(
            self._queue,
            clock,
            live,
            self.routes,
            self.dispatch,
            self.watches,
            self._counters,
        )

    def _make_intake(self, chance: Chance) -> None:
        live, commits, steps, counters = self.live, self.commits, self.steps, self._counters
        self.results = Results(
            self._queue,
            self._clock,
            chance,
            live,
            commits,
            steps,
            self.adoption,
            self.jobs,
            self._options,
            counters,
        )
        self.controls = Controls(self._store, self._clock, live, commits, steps, self.adoption)
        self.commands = Commands(
            self._store,
            self._queue,
            self._clock,
            live,
            commits,
            steps,
            self.adoption,
            self.waits,
            self.watches,
            self.overlay,
            self.controls,
            counters,
        )
        self.recovery = Recovery(
            self._store,
            self._queue,
            self._clock,
            live,
            commits,
            self.adoption,
            self.dispatch,
            self.results,
            self.routes,
            self.windows,
            self.timers,
            self.overlay,
            self.gate,
            self._options,
            counters,
        )

    def _make_followers(self) -> None:
        store, clock, live, steps = self._store, self._clock, self.live, self.steps
        adoption, options, counters = self.adoption, self._options, self._counters
        self.parking = Parking(
            store,
            clock,
            live,
            self.commits,
            adoption,
            self.timers,
            self.windows,
            options,
            counters,
        )
        self.settlement = Settlement(
            store,
            self._queue,
            self._blobs,
            clock,
            live,
            self.commits,
            steps,
            self.dispatch,
            self.windows,
            self.timers,
            self.waits,
            self.watches,
            self.parking,
            self.overlay,
            self.gate,
            self.children,
            self.queues,
            self.mailbox,
            self.jobs,
            counters,
        )
        self.due = Due(clock, live, steps, self.dispatch, self.recovery, self.settlement, self.jobs)
        self.demands = Demands(
            self._queue, self.dispatch.lanes, self.routes, self.windows, options, counters
        )
        self.sweeper = Sweeper(store, clock, live, adoption, steps, options, counters)
        self.retention = Retention(store, self._blobs, clock, live, options, counters)

    def _connect(self) -> None:
        """Tie the parts that know each other both ways."""
        ownership, dispatch = self.ownership, self.dispatch
        self.watches.overlay = self.overlay
        self.commits.settle = self.settlement
        self.commits.before = self.cache.before_commit
        self.commits.lost = ownership.lost
        self.commits.quarantine = self.adoption.quarantine
        self.adoption.follow = self.settlement.follow
        self.adoption.adopted = self.children.adopted
        self.adoption.recovered = self.parking.recovered
        self.adoption.reopened = self.queues.reopened
        self.timers.fire = self.due.fire
        self.timers.expire = self.due.expire
        for asking in (self.results, self.commands, self.slots, self.mailbox):
            asking.owner_slot = ownership.owner_slot
        self.waits.register = self.commands.register
        self.starts.send = self.commands.send
        self.controls.start_here = self._start_here
        self.queues.displace = self.commands.displace
        self.children.cancel = self._cancel
        self.children.retry = self.mailbox.retry = self.controls.retry_child
        self.children.ask_retry = self.mailbox.ask_retry
        self.children.wait = self.waits.wait
        self.children.durable = self.controls.durable
        self.mailbox.refused = self.children.not_started
        self.mailbox.not_again = self.children.not_again
        self.children.anew = partial(self.own.begin, anew=True)
        dispatch.gate = self.gate
        for judging in (
            self.own,
            self.cache,
            self.slots,
            self.children,
            self.child_starts,
            self.gate,
        ):
            judging.verdict = dispatch.verdict
        for looking in (self.own, self.cache, self.slots):
            looking.is_open = dispatch.is_open
        self.cache.on = dispatch.uncached
        self.slots.on = dispatch.through
        ownership.recover = self._recover
        ownership.fetch = self.parking.fetch
        ownership.opened = self._opened
        ownership.drop = self._drop
        ownership.slots_seen = self.recovery.slots_seen
        ownership.forgot = self._forgot
        self._queue.on_reconnect(self.recovery.reconnected)
        self._queue.on_reconnect(self.upkeep.reconnected)

    async def _cancel(
        self, execution: int, reason: str, actor: str, request_id: str
    ) -> ExecutionStatus:
        return await self.commands.cancel(execution, reason, actor, request_id)

    async def _start_here(self, commands: list[StartCommand]) -> list[StartOutcome]:
        return await self.starts.start(commands, here=True)

    async def _recover(self, partitions: list[int]) -> None:
        await self.queues.recover(partitions)
        await self.recovery.recover(partitions)

    def _opened(self, partitions: list[int], engines: int) -> None:
        self.slots.took_over(engines)
        self.mailbox.look()
        self.jobs.spawn(self._admit(partitions))

    async def _admit(self, partitions: list[int]) -> None:
        try:
            await self.queues.opened(partitions)
        except DomainError:
            self._counters.add("admissions_not_counted")

    def _drop(self) -> None:
        self.dispatch.clear()
        self.timers.clear()
        self.queues.clear()
        self.children.clear()
        self.child_starts.clear()
        self.overlay.workers.clear()
        self.watches.wake_all()

    def _forgot(self, partitions: frozenset[int]) -> None:
        self.windows.forget(lambda execution: partition_of(execution) in partitions)
        self.waits.forget(lambda execution: partition_of(execution) in partitions)
        self.queues.forget(partitions)
        self.children.forget(partitions)
        self.slots.forget(partitions)
        self.inputs.forget(partitions)
        self.cache.forget(partitions)
        self.watches.wake_all()
