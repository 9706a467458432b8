"""Executions that come into memory from SQL, and those that are taken out of service."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import structlog

from bend_server.core import machine
from bend_server.core.effects import Effects, Ready, Timer, TimerKind
from bend_server.core.errors import (
    Conflict,
    DependencyDown,
    DomainError,
    InvariantBroken,
    LeaseLost,
)
from bend_server.core.model import (
    EXECUTION_TERMINAL,
    ITEM_NONE,
    EventKind,
    EventRow,
    ExecutionStatus,
    StartRow,
    StatusChange,
)
from bend_server.core.state import ExecutionState
from bend_server.engine.commits import Commits
from bend_server.engine.gathering import Gathering
from bend_server.engine.live import Live
from bend_server.engine.options import Counters
from bend_server.engine.steps import Steps
from bend_server.engine.windows import Windows
from bend_server.ports.clock import Clock
from bend_server.ports.plans import PlanSource
from bend_server.ports.store import Batch, EngineStore, Park, StoredExecution

log = structlog.get_logger()

QUARANTINED = machine.QUARANTINED
PAUSE_EVERY = 100
_PENDING = int(ExecutionStatus.PENDING)
_Loaded = ExecutionState | None


class Adoption:
    """Loads executions into memory, each at most once at a time."""

    def __init__(
        self,
        store: EngineStore,
        plans: PlanSource,
        clock: Clock,
        live: Live,
        commits: Commits,
        steps: Steps,
        windows: Windows,
        counters: Counters,
    ) -> None:
        self._store = store
        self._plans = plans
        self._clock = clock
        self._live = live
        self._commits = commits
        self._steps = steps
        self._windows = windows
        self._counters = counters
        self._loading: dict[int, asyncio.Event] = {}
        self.follow: Callable[[Effects, int], None]
        self.adopted: Callable[[list[ExecutionState]], None]
        self.recovered: Callable[[list[ExecutionState]], None]
        self.reopened: Callable[[StartRow], None]

    async def load(self, execution: int) -> ExecutionState | None:
        """Return the state of an execution that is owned here; None when it ended or is unknown.

        One that waits for its admission stays PENDING: only `admit` sets it going.

        Raises Conflict when it belongs to another engine (or is being recovered), DependencyDown,
        CorruptHistory, and what PlanSource raises.
        """
        return await self._turn(execution, self._load)

    async def admit(self, execution: int) -> ExecutionState | None:
        """Set a PENDING execution going; raises as `load` does."""
        state = await self.load(execution)
        if state is not None and state.status == _PENDING:
            gathering = self._commits.gathering
            self._steps.call(state, lambda effects: self._start(state, effects))
            gathering.parks.append(Park(execution, 0))
            self._commits.wake()
        return state

    def _start(self, state: ExecutionState, effects: Effects) -> bool:
        self._steps.resume(state, self._clock.now_us(), effects)
        return True

    async def reopen(
        self, execution: int, verb: Callable[[ExecutionState], bool]
    ) -> tuple[ExecutionState | None, bool]:
        """Run a verb that opens a new run, on the state of an execution that has ended (or not).

        Returns the state (None: unknown) and what the verb said. Raises as `load` does, and what
        the verb raises.
        """
        while True:
            state = await self.load(execution)
            if state is None or not state.terminal:
                break
            await self._commits.after()  # its end is on the way into SQL
        if state is not None:
            return state, verb(state)
        opened: list[bool] = []

        async def open_again(number: int) -> ExecutionState | None:
            live = self._live
            generation = live.generation
            stored = await self._store.load(number)
            if stored is None:
                return None
            ended = await self._folded(stored, generation)
            live.states[number] = ended
            recent = live.recent.pop(number, None)
            try:
                opened.append(verb(ended))
            finally:
                if not opened or not opened[0]:
                    if live.states.get(number) is ended:
                        del live.states[number]
                    live.recent[number] = recent
            if opened[0]:
                self.adopted([ended])
                if ended.start.concurrency_key is not None:
                    self.reopened(ended.start)
            return ended

        state = await self._turn(execution, open_again, ended=True)
        return state, bool(opened and opened[0])

    async def _turn(
        self, execution: int, work: Callable[[int], Awaitable[_Loaded]], *, ended: bool = False
    ) -> _Loaded:
        live = self._live
        while True:
            state = live.states.get(execution)
            if state is not None:
                return state
            if execution in live.recent and not ended:
                return None
            if not live.owns(execution):
                raise Conflict("the execution belongs to another engine", execution=execution)
            if execution in live.held:
                await self._commits.after()
                continue
            busy = self._loading.get(execution)
            if busy is None:
                break
            await busy.wait()
        done = self._loading[execution] = asyncio.Event()
        try:
            return await work(execution)
        finally:
            del self._loading[execution]
            done.set()

    async def _load(self, execution: int) -> ExecutionState | None:
        generation = self._live.generation
        stored = await self._store.load(execution)
        if stored is None or stored.status in EXECUTION_TERMINAL:
            return None
        return await self._take(stored, generation)

    async def load_page(
        self, read: Callable[[], Awaitable[list[StoredExecution]]]
    ) -> tuple[int, int]:
        """Bring in what a read finds, each as `load` does; return how many it found and took.

        It reads twice, however many there are: the first time tells which, the second one is
        made when nobody else may load them. Raises Conflict, DependencyDown.
        """
        found = [stored.start.id for stored in await read()]
        done = asyncio.Event()
        ours = dict.fromkeys(number for number in found if self._absent(number))
        self._loading.update(dict.fromkeys(ours, done))
        generation = self._live.generation
        taken = 0
        try:
            for stored in await read() if ours else []:
                if stored.start.id not in ours or stored.status in EXECUTION_TERMINAL:
                    continue
                try:
                    await self._take(stored, generation)
                except (Conflict, DependencyDown):
                    raise
                except DomainError as error:
                    execution = stored.start.id
                    log.warning("parked_unrecoverable", execution=execution, reason=error.reason)
                    continue
                taken += 1
                if taken % PAUSE_EVERY == 0:
                    await asyncio.sleep(0)
        finally:
            for number in ours:
                del self._loading[number]
            done.set()
        return len(found), taken

    def _absent(self, execution: int) -> bool:
        """Return whether an execution is owned here and neither in memory nor on its way."""
        live = self._live
        known = (live.states, live.recent, live.held, self._loading)
        return live.owns(execution) and not any(execution in one for one in known)

    async def _take(self, stored: StoredExecution, generation: int) -> ExecutionState:
        """Make a state of rows that nobody else loads, and set it going."""
        execution = stored.start.id
        state = await self._folded(stored, generation)
        self._live.states[execution] = state
        gathering = self._commits.gathering
        if state.status == _PENDING:
            if state.deadline_us:
                end = Timer(state.deadline_us, execution, TimerKind.EXECUTION, -1, ITEM_NONE, 0)
                gathering.effects.timers.append(end)
                self._commits.wake()
            return state
        self._steps.resume(state, self._clock.now_us(), gathering.effects)
        gathering.parks.append(Park(execution, 0))
        self._commits.wake()
        self._counters.add("adopted")
        self.adopted([state])
        return state

    async def _folded(self, stored: StoredExecution, generation: int) -> ExecutionState:
        """Fold what was read; raises Conflict when it is not for this engine any more."""
        execution = stored.start.id
        try:
            state = await self.fold(stored)
        except DomainError:
            raise
        except Exception as error:
            raise InvariantBroken(f"the execution cannot be brought back: {error}") from error
        if generation != self._live.generation or not self._live.owns(execution):
            raise Conflict("the execution moved to another engine", execution=execution)
        return state

    async def fold(self, stored: StoredExecution) -> ExecutionState:
        """Return the state that stored rows give."""
        start = stored.start
        if start.status == _PENDING != stored.status:
            start = start._replace(status=ExecutionStatus.RUNNING)  # it had its turn
        plan = self._plans.known(start.namespace, start.workflow, start.revision)
        if plan is None:
            plan = await self._plans.plan(start.namespace, start.workflow, start.revision)
        return machine.fold(plan, start, stored.results, stored.events, stored.finish)

    async def recover(self, page: list[StoredExecution]) -> list[Ready]:
        """Bring unfinished executions into memory; return their tries that are ready.

        Rows that a crash left to be written go into the next commit. What is ready is for the
        caller alone, because the queue may hold it already.
        """
        folded: list[ExecutionState] = []
        for stored in page:
            if stored.pause_reason == QUARANTINED or stored.start.id in self._live.states:
                continue
            try:
                folded.append(await self.fold(stored))
            except (DependencyDown, LeaseLost):
                raise
            except Exception as error:
                log.exception("execution_unrecoverable", execution=stored.start.id)
                await self._write_quarantine(stored, error)
        return self._resume(folded)

    def _resume(self, states: list[ExecutionState]) -> list[Ready]:
        """Resume folded states. No await: their rows must be gathered before anything else is."""
        now_us = self._clock.now_us()
        fresh = Gathering()
        effects = fresh.effects
        for state in states:
            self._live.states[state.start.id] = state
            try:
                self._steps.resume(state, now_us, effects)
            except Exception as error:  # noqa: BLE001 (only this execution pays)
                fresh.strip(state.start.id)
                self._commits.broken(state, error)
        self.adopted(states)
        self.recovered(states)
        ready, effects.ready = effects.ready, []
        if effects.rows():
            self._commits.gathering.absorb(fresh)
            self._commits.wake()
        else:
            self.follow(effects, now_us)
        return ready

    async def quarantine(self, execution: int, error: Exception, first_seq: int) -> None:
        """Take an execution out of service, in a transaction of its own.

        `first_seq` is that of the first row that SQL refused, 0 when the fault was another. Rows
        in SQL that memory did not know mean that memory was old: then it is loaded again instead.
        """
        self._windows.forget(lambda other: other == execution)
        stored = await self._store.load(execution)
        if stored is None or stored.status in EXECUTION_TERMINAL:
            return
        if first_seq and _last_seq(stored) >= first_seq:
            ready = await self.recover([stored])
            self._commits.gathering.effects.ready += ready
            self._commits.wake()
            return
        await self._write_quarantine(stored, error)

    async def _write_quarantine(self, stored: StoredExecution, error: Exception) -> None:
        reason = error.reason if isinstance(error, DomainError) else "INTERNAL"
        execution = stored.start.id
        lease = self._live.lease
        if stored.pause_reason == QUARANTINED or lease is None:
            return
        self._counters.add("quarantined")
        message = str(error)[:1000].replace("\0", "")
        body = orjson.dumps({"reason": reason, "message": message})
        event = EventRow(
            execution=execution,
            seq=_last_seq(stored) + 1,
            run=stored.run,
            kind=EventKind.QUARANTINED,
            task=-1,
            item=ITEM_NONE,
            actor="",
            body=bytes(memoryview(body)),
            at_us=self._clock.now_us(),
        )
        change = StatusChange(execution, ExecutionStatus.PAUSED, QUARANTINED)
        batch = Batch(events=[event], changes=[change])
        try:
            await self._store.commit(lease, self._live.claimed, batch)
        except (DependencyDown, LeaseLost):
            raise
        except DomainError as refused:
            # It stays out of memory; the sweeper tells about it when its deadline has passed.
            self._counters.add("quarantines_refused")
            log.exception("quarantine_refused", execution=execution, reason=refused.reason)


def _last_seq(stored: StoredExecution) -> int:
    last = max((row.seq for row in stored.results), default=0)
    return max(last, max((row.seq for row in stored.events), default=0))
