"""Limits of tasks (`concurrency`, `rate_limit`): tries wait for a place under their keys.

The owner of a key's partition keeps its book. Engines ask, hold and release in batches over core
NATS (`engine.slots.<slot>`), and say again every 10 s what they want and hold, so that nothing has
to arrive; with one engine all of it is a local call.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import orjson
import structlog

from bend_server.core import limits
from bend_server.core.effects import Ready
from bend_server.core.errors import DomainError
from bend_server.core.ids import PARTITIONS
from bend_server.core.model import Failure, TaskStatus
from bend_server.core.plan import ExpressionError, NeedsBlob
from bend_server.core.scope import unit_scope
from bend_server.engine.gathering import Gathering
from bend_server.engine.inputs import Inputs, Verdict
from bend_server.engine.jobs import Jobs
from bend_server.engine.lanes import Work, expiry
from bend_server.engine.live import Live
from bend_server.engine.options import Counters
from bend_server.engine.queues import address
from bend_server.engine.slot_books import LEASE_US, Ask, Holder, SlotBooks
from bend_server.engine.windows import Key, key_of
from bend_server.ports.clock import Clock
from bend_server.ports.queue import Queue, QueueDown

log = structlog.get_logger()

ASSERT_S = 10.0
TICK_S = 1.0
MESSAGE_ASKS_MAX = 500

OwnerSlot = Callable[[int], Awaitable[int | None]]


class Wish:
    """A try that waits: `asks` are its places, `granted` how many of them it has, in order."""

    __slots__ = ("asks", "granted", "work")

    def __init__(self, work: Work, asks: list[Ask]) -> None:
        self.work = work
        self.asks = asks
        self.granted = 0


class Slots:
    """Asks for places, and grants them for the keys that belong here.

    Args:
        on: takes tries on into the lanes.
        owner_slot: returns the slot of the engine that owns an execution's partition.
        is_open: whether a try may still run.
        verdict: ends a try that the engine judges itself.
    """

    def __init__(
        self, queue: Queue, clock: Clock, live: Live, inputs: Inputs, jobs: Jobs, counters: Counters
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._live = live
        self._inputs = inputs
        self._jobs = jobs
        self._counters = counters
        self._books = SlotBooks()
        self._wishes: dict[Key, Wish] = {}
        self._held: dict[Key, list[Ask]] = {}
        self._granting = False
        # What goes to owners elsewhere, by partition, and to askers elsewhere, by slot.
        self._to_owners: dict[int, list[list[object]]] = {}
        self._to_askers: dict[int, list[list[object]]] = {}
        self._sending = False
        self._busy = asyncio.Event()
        self.on: Callable[[list[Work]], None]
        self.owner_slot: OwnerSlot
        self.is_open: Callable[[Ready], bool]
        self.verdict: Verdict

    def holds(self, work: Work) -> bool:
        """Return whether a try has all its places."""
        return key_of(work[0]) in self._held

    def reason(self, key: Key) -> str:
        """Return what a try waits for here; empty when it does not."""
        wish = self._wishes.get(key)
        if wish is None:
            return ""
        ask = wish.asks[wish.granted]
        shown = ask.name.rpartition("\0")[2]
        return f"{'rate limit' if ask.per_us else 'concurrency'} key {shown}"

    def ask(self, work: Work) -> None:
        """Let a try wait for its places."""
        ready = work[0]
        key = key_of(ready)
        if key in self._wishes:
            return
        asks = self._asks(work)
        if asks is None:
            return
        wish = self._wishes[key] = Wish(work, asks)
        self._busy.set()
        self._want(wish)

    def found(self, ready: Ready) -> None:
        """Hear of a try that is out already: it holds its places."""
        asks = self._asks((ready, self._clock.now_us()))
        if asks:
            self._held[key_of(ready)] = asks
            self._busy.set()
            for ask in asks:
                self._tell("hold", ask)

    def settled(self, gathering: Gathering) -> None:
        """Hear of tries that ended, durably."""
        if not self._held and not self._wishes:
            return
        for row in gathering.effects.results:
            self._close((row.execution, row.task, row.item, row.try_))

    def clear(self) -> None:
        """Forget everything."""
        self._wishes.clear()
        self._held.clear()
        self._books.clear()

    def took_over(self, engines: int) -> None:
        """Hear that partitions came here: with others alive, their keys wait for a lease time."""
        if engines > 1:
            self._books.closed_until_us = self._clock.now_us() + LEASE_US

    def forget(self, partitions: frozenset[int]) -> None:
        """Forget the keys, and the tries, of partitions that go elsewhere."""
        self._books.forget(
            [name for name in self._books.names() if partition_of_name(name) in partitions]
        )
        live = self._live
        for key in [key for key in (*self._wishes, *self._held) if not live.claims(key[0])]:
            self._close(key)

    async def hear(self, data: bytes) -> None:
        """Take in what another engine asks, holds, releases or grants."""
        try:
            message = orjson.loads(data)
            asker = int(message["from"])
            entries = [
                (str(verb), Ask(str(name), int(limit), int(per_us), _holder(holder)))
                for verb, name, limit, per_us, holder in message["entries"]
            ]
        except (ValueError, KeyError, TypeError):
            self._counters.add("slot_messages_garbage")
            return
        for verb, ask in entries:
            if verb == "grant":
                self._granted(ask.name, ask.holder)
            else:
                self._book(verb, ask, asker)
        self._grant()

    async def run(self) -> None:
        """Grant, expire and say again, while anybody wants or holds a place."""
        turns = 0
        while True:
            if not (self._wishes or self._held or len(self._books)):
                self._busy.clear()
            await self._busy.wait()
            await asyncio.sleep(TICK_S)
            turns += 1
            self._tend()
            if turns % int(ASSERT_S / TICK_S) == 0:
                for asks in self._held.values():
                    for ask in asks:
                        self._tell("hold", ask)
                for wish in list(self._wishes.values()):
                    for ask in wish.asks[: wish.granted]:
                        self._tell("hold", ask)
                    self._want(wish)
            self._grant(everywhere=True)

    def _tend(self) -> None:
        now_us = self._clock.now_us()
        for key, wish in list(self._wishes.items()):
            ready = wish.work[0]
            if not self.is_open(ready):
                self._close(key)
            elif expiry(wish.work) <= now_us:
                why = self.reason(key)
                self._close(key)
                self._inputs.discard(wish.work)
                seconds = ready.state.plan.tasks[ready.task].schedule_timeout_us / 1e6
                message = f"{why} gave no place within {seconds:g} s"
                failure = Failure("SCHEDULE_TIMEOUT", message)
                self.verdict(wish.work, TaskStatus.FAILED, failure)

    def _asks(self, work: Work) -> list[Ask] | None:
        """Return what a try has to ask for; None when it was judged, or comes again."""
        ready = work[0]
        state = ready.state
        try:
            scope = unit_scope(state, ready.task, ready.item)
            return [
                Ask(
                    f"{state.start.namespace}\0{'rate' if slot.per_us else 'run'}\0"
                    f"{slot.key(scope)}",
                    slot.limit,
                    slot.per_us,
                    key_of(ready),
                )
                for slot in state.plan.tasks[ready.task].slots
            ]
        except NeedsBlob as need:
            self._inputs.load(work, need)
        except ExpressionError as error:
            failure = Failure("EXPRESSION_ERROR", str(error)[: limits.MESSAGE_CHARS_MAX])
            self.verdict(work, TaskStatus.FAILED, failure)
        return None

    def _want(self, wish: Wish) -> None:
        self._tell("ask", wish.asks[wish.granted])

    def _close(self, key: Key) -> None:
        asks = self._held.pop(key, None)
        wish = self._wishes.pop(key, None)
        if wish is not None:
            asks = [*(asks or ()), *wish.asks]
        for ask in asks or ():
            if not ask.per_us or wish is not None:
                self._tell("release", ask)

    def _tell(self, verb: str, ask: Ask) -> None:
        """Tell the owner of a key: at once when that is this engine."""
        partition = partition_of_name(ask.name)
        if partition in self._live.owned:
            self._book(verb, ask, self._live.slot)
            self._grant_soon()
        else:
            self._put(self._to_owners, partition, verb, ask)

    def _book(self, verb: str, ask: Ask, asker: int) -> None:
        now_us = self._clock.now_us()
        if partition_of_name(ask.name) not in self._live.owned:
            return  # whoever owns it hears of it within 10 s
        self._busy.set()
        if verb == "ask":
            self._books.ask(ask, asker, now_us)
        elif verb == "hold":
            self._books.hold(ask, now_us)
        else:
            self._books.release(ask.name, ask.holder)

    def _grant_soon(self) -> None:
        """Grant once this turn of the loop is over: what asks together is served together."""
        if not self._granting:
            self._granting = True
            asyncio.get_running_loop().call_soon(self._grant)

    def _grant(self, *, everywhere: bool = False) -> None:
        self._granting = False
        now_us = self._clock.now_us()
        for name, holder, asker in self._books.grants(now_us, everywhere=everywhere):
            if asker == self._live.slot:
                self._granted(name, holder)
            else:
                self._put(self._to_askers, asker, "grant", Ask(name, 0, 0, holder))
        next_us = self._books.next_us(now_us)
        if next_us is not None and next_us - now_us < TICK_S * 1e6 and not self._granting:
            self._granting = True
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.001, (next_us - now_us) / 1e6), self._grant)

    def _granted(self, name: str, holder: Holder) -> None:
        wish = self._wishes.get(holder)
        if wish is None or wish.asks[wish.granted].name != name:
            if holder not in self._held:
                self._tell("release", Ask(name, 1, 0, holder))
            return
        wish.granted += 1
        if wish.granted < len(wish.asks):
            self._want(wish)
            return
        del self._wishes[holder]
        self._held[holder] = wish.asks
        if self.is_open(wish.work[0]):
            self.on([wish.work])
        else:
            self._close(holder)

    def _put(
        self, outbox: dict[int, list[list[object]]], address_: int, verb: str, ask: Ask
    ) -> None:
        entry: list[object] = [verb, ask.name, ask.limit, ask.per_us, list(ask.holder)]
        outbox.setdefault(address_, []).append(entry)
        if not self._sending:
            self._sending = True
            self._jobs.spawn(self._send())

    async def _send(self) -> None:
        """Send what has gathered; what is lost is said again."""
        await asyncio.sleep(0)
        self._sending = False
        owners, self._to_owners = self._to_owners, {}
        askers, self._to_askers = self._to_askers, {}
        by_slot = dict(askers)
        for partition, entries in owners.items():
            try:
                slot = await self.owner_slot(address(partition))
            except DomainError as error:
                log.info("slot_owner_unknown", reason=error.reason)
                continue
            if slot is not None:
                by_slot.setdefault(slot, []).extend(entries)
        for slot, entries in by_slot.items():
            for place in range(0, len(entries), MESSAGE_ASKS_MAX):
                part = entries[place : place + MESSAGE_ASKS_MAX]
                data = orjson.dumps({"from": self._live.slot, "entries": part})
                try:
                    await self._queue.broadcast(f"engine.slots.{slot}", data)
                except QueueDown:
                    return


def partition_of_name(name: str) -> int:
    """Return the partition whose owner keeps a key's book."""
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:4]) % PARTITIONS


def _holder(value: list[int]) -> Holder:
    execution, task, item, try_ = value
    return int(execution), int(task), int(item), int(try_)
