"""Executions that wait for their turn: under a concurrency key, or because there are too many.

They are committed PENDING and parked; nothing but `Adoption.admit` sets them going. Who holds a
slot of a key is in memory; who waits for one is in SQL only, in the order of priority, then age.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import structlog

from bend_server.core.errors import Conflict, DependencyDown, DomainError, WrongState
from bend_server.core.ids import EPOCH_MS, PARTITIONS, make_id
from bend_server.core.model import ExecutionStatus, StartRow
from bend_server.core.plan import ConcurrencyStrategy
from bend_server.core.state import ExecutionState
from bend_server.engine.adoption import Adoption
from bend_server.engine.commits import Commits
from bend_server.engine.gathering import Starting
from bend_server.engine.jobs import Jobs
from bend_server.engine.live import Live
from bend_server.engine.options import Counters, EngineOptions
from bend_server.ports.plans import PlanSource
from bend_server.ports.store import EngineStore, Park

log = structlog.get_logger()

ADMIT_S = 1.0
PAGE = 100
LIMIT_UNKNOWN = 0
CONCURRENCY_LIMIT = "CONCURRENCY_LIMIT"
DISPLACED = "a newer execution with this concurrency key took its place"

_PENDING = int(ExecutionStatus.PENDING)
Key = tuple[str, str, str]
Displace = Callable[[int, str, str], Awaitable[None]]


def partition_of_key(namespace: str, workflow: str, key: str) -> int:
    """Return the partition whose owner decides about a concurrency key."""
    text = f"{namespace}\0{workflow}\0{key}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:4]) % PARTITIONS


class Slots:
    """The slots of one key. `limit` 0: not known since the takeover."""

    __slots__ = ("busy", "cancelled", "limit", "running", "strategy", "waiting")

    def __init__(self) -> None:
        self.limit = LIMIT_UNKNOWN
        self.strategy = int(ConcurrencyStrategy.QUEUE)
        self.running: dict[int, None] = {}
        self.cancelled: set[int] = set()
        self.waiting = 0
        self.busy = False


class Queues:
    """Decides who starts at once, and admits the others when there is room.

    Args:
        displace: cancels an execution, for a reason in words and a code; not one that has ended.
    """

    def __init__(
        self,
        store: EngineStore,
        plans: PlanSource,
        live: Live,
        commits: Commits,
        adoption: Adoption,
        jobs: Jobs,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._store = store
        self._plans = plans
        self._live = live
        self._commits = commits
        self._adoption = adoption
        self._jobs = jobs
        self._admitted_max = options.executions_admitted_max
        self._counters = counters
        self._keys: dict[Key, Slots] = {}
        # Executions without a key that wait for admission; those of other engines come by takeover.
        self.waiting = 0
        self._busy = asyncio.Event()
        self.displace: Displace

    def full(self) -> bool:
        """Return whether new executions have to wait."""
        return len(self._live.states) + len(self._live.held) >= self._admitted_max

    def queue(self, starting: Starting) -> None:
        """Have a start without a key wait for its admission."""
        self._hold(starting)
        self.waiting += 1

    def enter(self, starting: Starting) -> None:
        """Decide about a start with a concurrency key; it is gathered by the caller."""
        concurrency = starting.plan.concurrency
        if concurrency is None:
            return
        row = starting.row
        slots = self._slots(row)
        slots.limit, slots.strategy = concurrency.limit, int(concurrency.strategy)
        taken = len(slots.running) >= slots.limit or slots.waiting > 0
        if taken and slots.strategy == ConcurrencyStrategy.CANCEL_NEWEST:
            starting.doomed = CONCURRENCY_LIMIT
        elif taken or self.full():
            self._hold(starting)
            slots.waiting += 1
        else:
            slots.running[row.id] = None

    def started(self, row: StartRow) -> None:
        """Hear that a start that waits is durable."""
        if row.concurrency_key is None:
            return
        key = _key(row)
        slots = self._slots(row)
        if slots.strategy == ConcurrencyStrategy.CANCEL_OLDEST:
            self._jobs.spawn(self._displace(key, slots))
        self._look(key, slots)

    def refused(self, row: StartRow) -> None:
        """Hear that a start wrote nothing."""
        if row.concurrency_key is None:
            if row.status == _PENDING:
                self.waiting -= 1
            return
        self._leave(row)

    def ended(self, row: StartRow) -> None:
        """Hear that an execution with a key has ended, whether it ran or waited."""
        self._leave(row)

    async def contended(self, row: StartRow) -> None:
        """Find out what the key of an execution allows, before it may run again."""
        slots = self._slots(row)
        if not slots.limit:
            await self._learn(_key(row), slots)

    def must_wait(self, row: StartRow) -> bool:
        """Return whether an execution that has ended has to wait for its turn to run again.

        With `cancel_oldest` it takes its slot, free or not.

        Raises:
            WrongState: it may not even wait, because of `cancel_newest`.
        """
        slots = None if row.concurrency_key is None else self._keys.get(_key(row))
        if slots is None or not slots.limit or slots.strategy == ConcurrencyStrategy.CANCEL_OLDEST:
            return False
        full = len(slots.running) >= slots.limit or slots.waiting > 0
        if full and slots.strategy == ConcurrencyStrategy.CANCEL_NEWEST:
            raise WrongState(
                "as many executions with its concurrency key run as may", reason=CONCURRENCY_LIMIT
            )
        return full

    def reopened(self, state: ExecutionState) -> None:
        """Hear that an execution with a key runs again, or waits for its turn to."""
        row = state.start
        slots = self._slots(row)
        if state.status != _PENDING:
            slots.running[row.id] = None
            return
        slots.waiting += 1
        self._busy.set()
        self._commits.gathering.parks.append(Park(row.id, state.deadline_us or None))

    def _leave(self, row: StartRow) -> None:
        key = _key(row)
        slots = self._keys.get(key)
        if slots is None:
            return
        slots.cancelled.discard(row.id)
        if row.id in slots.running:
            del slots.running[row.id]
        elif row.status == _PENDING and slots.waiting:
            slots.waiting -= 1
        if slots.waiting:
            self._look(key, slots)
        elif not slots.running and not slots.busy:
            del self._keys[key]

    def clear(self) -> None:
        """Forget everything."""
        self._keys.clear()
        self.waiting = 0

    def forget(self, partitions: frozenset[int]) -> None:
        """Forget the keys of partitions that go elsewhere."""
        for key in [key for key in self._keys if partition_of_key(*key) in partitions]:
            del self._keys[key]

    async def recover(self, partitions: list[int]) -> None:
        """Find out who holds slots, and where somebody waits, before partitions are used."""
        for one in await self._store.contenders(partitions):
            slots = self._keys.setdefault((one.namespace, one.workflow, one.key), Slots())
            slots.running[one.execution] = None
        for namespace, workflow, name, count in await self._store.queues(partitions):
            slots = self._keys.setdefault((namespace, workflow, name), Slots())
            slots.waiting = count

    async def opened(self, partitions: list[int]) -> None:
        """Admit what waits in partitions that are used from now on."""
        for key, slots in list(self._keys.items()):
            if slots.waiting and partition_of_key(*key) in partitions:
                self._look(key, slots)
        self.waiting += await self._store.unadmitted_count(partitions)
        self._busy.set()

    async def run(self) -> None:
        """Admit what waits for room, and keys whose turn was missed."""
        while True:
            await self._busy.wait()
            await asyncio.sleep(ADMIT_S)
            try:
                await self._admit_many()
            except DomainError as error:
                log.warning("nothing_admitted", reason=error.reason)
            for key, slots in list(self._keys.items()):
                if slots.waiting and not slots.busy:
                    self._look(key, slots)
            if not self.waiting and not any(one.waiting for one in self._keys.values()):
                self._busy.clear()

    async def _admit_many(self) -> None:
        while self.waiting > 0 and self._live.order and not self.full():
            generation = self._live.generation
            room = self._admitted_max - len(self._live.states) - len(self._live.held)
            page = await self._store.unadmitted(self._live.order, min(PAGE, max(1, room)))
            admitted = 0
            for execution in page:
                if generation != self._live.generation:
                    return
                admitted += await self._admit(execution)
            if len(page) < PAGE:
                self.waiting = 0 if not page else max(0, self.waiting - admitted)
            else:
                self.waiting = max(1, self.waiting - admitted)
            await self._commits.after()
            if not admitted:
                return

    async def _admit(self, execution: int) -> bool:
        try:
            state = await self._adoption.admit(execution)
        except (Conflict, DependencyDown):
            raise
        except DomainError as error:
            log.warning("not_admitted", execution=execution, reason=error.reason)
            return False
        self._counters.add("admitted")
        return state is not None

    def _hold(self, starting: Starting) -> None:
        starting.row = row = starting.row._replace(status=_PENDING)
        self._busy.set()
        park = Park(row.id, row.deadline_us or None)
        self._commits.gathering.parks.append(park)

    def _slots(self, row: StartRow) -> Slots:
        return self._keys.setdefault(_key(row), Slots())

    def _look(self, key: Key, slots: Slots) -> None:
        if not slots.busy and (not slots.limit or len(slots.running) < slots.limit):
            slots.busy = True
            self._jobs.spawn(self._advance(key, slots))

    async def _advance(self, key: Key, slots: Slots) -> None:
        """Give free slots to those whose turn it is."""
        generation = self._live.generation
        try:
            if not slots.limit:
                await self._learn(key, slots)
            while slots.waiting and len(slots.running) < slots.limit and not self.full():
                room = slots.limit - len(slots.running)
                page = await self._store.queued(*key, min(PAGE, room))
                if generation != self._live.generation or self._keys.get(key) is not slots:
                    return
                fresh = [one for one in page if one.execution not in slots.running]
                if not fresh:
                    # What waits is not committed yet (its start tells), or ended just now.
                    break
                for one in fresh:
                    await self._take_slot(slots, one.execution)
                await self._commits.after()
        except DomainError as error:
            log.warning("queue_stands_still", key=key[2], reason=error.reason)
        finally:
            slots.busy = False

    async def _take_slot(self, slots: Slots, execution: int) -> None:
        slots.running[execution] = None
        slots.waiting = max(0, slots.waiting - 1)
        try:
            admitted = await self._admit(execution)
        except DomainError:
            slots.running.pop(execution, None)
            slots.waiting += 1
            raise
        if not admitted:
            slots.running.pop(execution, None)

    async def _learn(self, key: Key, slots: Slots) -> None:
        """Read limit and strategy from the workflow's current revision."""
        current = await self._store.workflow_state(key[0], key[1])
        concurrency = None
        if current is not None:
            plan = await self._plans.plan(key[0], key[1], current[0])
            concurrency = plan.concurrency
        if slots.limit:
            return  # a start told it meanwhile
        if concurrency is None:
            slots.limit = self._admitted_max  # the workflow has no limit any more
            return
        slots.limit, slots.strategy = concurrency.limit, int(concurrency.strategy)

    async def _displace(self, key: Key, slots: Slots) -> None:
        """Cancel the oldest, so that no more are left than the key allows."""
        try:
            queued = await self._store.queued(*key, 10 * PAGE)
            everybody = sorted({*slots.running, *(one.execution for one in queued)})
            stay = [one for one in everybody if one not in slots.cancelled]
            for execution in stay[: max(0, len(stay) - slots.limit)]:
                slots.cancelled.add(execution)
                await self.displace(execution, DISPLACED, CONCURRENCY_LIMIT)
        except DomainError as error:
            log.warning("oldest_not_cancelled", key=key[2], reason=error.reason)


def _key(row: StartRow) -> Key:
    return row.namespace, row.workflow, row.concurrency_key or ""


def address(partition: int) -> int:
    """Return an id that belongs to a partition, for a command that has no execution yet."""
    return make_id(EPOCH_MS * 1000, partition, 0)
