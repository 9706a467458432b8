"""Outputs of tasks with `cache`: looked up before hand-out, shared by executions.

A memory of recent entries stands in front of SQL; keys that are new in one turn of the loop are
looked up in one query. Of equal tries only the first runs; the others wait for it, and the next one
runs if it fails.
"""

import asyncio
import hashlib
import json
from collections import OrderedDict, deque
from collections.abc import Callable

import orjson
import structlog

from bend_server.core import limits
from bend_server.core.effects import Ready
from bend_server.core.errors import DomainError
from bend_server.core.ids import partition_of
from bend_server.core.model import CacheRow, Failure, Outcome, ResultRow, TaskStatus
from bend_server.core.plan import ExpressionError, NeedsBlob, Rendered
from bend_server.core.scope import unit_scope
from bend_server.engine.commits import Commits
from bend_server.engine.gathering import Gathering
from bend_server.engine.inputs import Inputs, Verdict
from bend_server.engine.jobs import Jobs
from bend_server.engine.lanes import Work
from bend_server.engine.live import Live
from bend_server.engine.options import Counters
from bend_server.engine.steps import Steps
from bend_server.engine.windows import Key, key_of
from bend_server.language.payloads import load
from bend_server.ports.blobs import Blobs
from bend_server.ports.clock import Clock
from bend_server.ports.store import EngineStore

log = structlog.get_logger()

WORKER = "cache"
ENTRY_BYTES = 400
"""What an entry weighs beside its output, roughly."""
LOOK_UP_MAX = 500
TEND_S = 1.0

_COMPLETED = int(TaskStatus.COMPLETED)
Name = tuple[str, bytes]


class Flight:
    """Equal tries under way: `leader` runs, `followers` wait for what comes of it."""

    __slots__ = ("followers", "leader")

    def __init__(self, leader: Work) -> None:
        self.leader = leader
        self.followers: deque[Work] = deque()


class Cache:
    """Answers tries from earlier outputs, and keeps new ones.

    Args:
        on: takes a try on towards the lanes.
        is_open: whether a try may still run.
        verdict: ends a try that the engine judges itself.
    """

    def __init__(
        self,
        store: EngineStore,
        blobs: Blobs,
        clock: Clock,
        live: Live,
        commits: Commits,
        steps: Steps,
        inputs: Inputs,
        jobs: Jobs,
        counters: Counters,
        bytes_max: int = limits.CACHE_BYTES_MAX,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._live = live
        self._commits = commits
        self._steps = steps
        self._inputs = inputs
        self._jobs = jobs
        self._counters = counters
        self._bytes_max = bytes_max
        self._bytes = 0
        self._recent: OrderedDict[Name, CacheRow] = OrderedDict()
        self._flights: dict[Name, Flight] = {}
        # Where the output of a running try goes, and for how long.
        self._leaders: dict[Key, tuple[Name, int]] = {}
        self._new: dict[Name, None] = {}
        self._looking = False
        self._busy = asyncio.Event()
        self.on: Callable[[list[Work]], None]
        self.is_open: Callable[[Ready], bool]
        self.verdict: Verdict

    def asked(self, work: Work) -> bool:
        """Return whether the cache has no answer for a try: it leads its flight."""
        return key_of(work[0]) in self._leaders

    def ask(self, work: Work) -> None:
        """Answer a try, let it wait, or let it run."""
        rendered = self._inputs.render(work)
        if rendered is None:
            return  # comes again, or was judged
        try:
            name = _name(work[0], rendered)
        except NeedsBlob as need:
            self._inputs.load(work, need)
            return
        except ExpressionError as error:
            failure = Failure("EXPRESSION_ERROR", str(error)[: limits.MESSAGE_CHARS_MAX])
            self.verdict(work, TaskStatus.FAILED, failure)
            return
        self._inputs.keep(work, rendered)
        known = self._known(name)
        if known is not None:
            self._hit(work, known)
            return
        flight = self._flights.get(name)
        if flight is not None:
            if key_of(flight.leader[0]) != key_of(work[0]):
                flight.followers.append(work)
            return
        self._flights[name] = Flight(work)
        self._new[name] = None
        self._busy.set()
        if not self._looking:
            self._looking = True
            self._jobs.spawn(self._look_up())

    def clear(self) -> None:
        """Forget what is under way; entries stay good."""
        self._flights.clear()
        self._leaders.clear()
        self._new.clear()

    def forget(self, partitions: frozenset[int]) -> None:
        """Forget tries of partitions that go elsewhere; the next ones run in their place."""
        for key in [key for key in self._leaders if partition_of(key[0]) in partitions]:
            del self._leaders[key]
        self.tend()

    def before_commit(self, gathering: Gathering) -> None:
        """Add entries for outputs that a commit is about to write."""
        if not self._leaders:
            return
        caches = gathering.effects.caches
        for row in gathering.effects.results:
            led = self._leaders.get((row.execution, row.task, row.item, row.try_))
            if led is not None and row.status == _COMPLETED and row.blob is None:
                caches.append(self._entry(led, row, row.output, None))

    def settled(self, gathering: Gathering) -> None:
        """Hear of tries that ended, durably."""
        for entry in gathering.effects.caches:
            self._remember(entry)
        if not self._leaders:
            return
        for row in gathering.effects.results:
            led = self._leaders.pop((row.execution, row.task, row.item, row.try_), None)
            if led is not None:
                self._land(led, row)

    async def run(self) -> None:
        """Tend, once a second while tries are under way."""
        while True:
            await self._busy.wait()
            await asyncio.sleep(TEND_S)
            self.tend()
            if not self._flights:
                self._busy.clear()

    def tend(self) -> None:
        """Let the next one run where a leader can run no more."""
        for name, flight in list(self._flights.items()):
            if flight.followers and name not in self._new and not self.is_open(flight.leader[0]):
                self._leaders.pop(key_of(flight.leader[0]), None)
                self._next(name, flight)

    def _land(self, led: tuple[Name, int], row: ResultRow) -> None:
        name = led[0]
        flight = self._flights.get(name)
        if row.status == _COMPLETED and row.blob is not None:
            self._jobs.spawn(self._copy(led, row))
        if flight is None:
            return
        if row.status != _COMPLETED:
            self._next(name, flight)
            return
        del self._flights[name]
        entry = CacheRow(*name, row.output, row.blob, row.execution, row.finished_us, 0)
        for work in flight.followers:
            if self.is_open(work[0]):
                self._hit(work, entry)

    def _next(self, name: Name, flight: Flight) -> None:
        while flight.followers:
            work = flight.followers.popleft()
            if self.is_open(work[0]):
                flight.leader = work
                self._lead(name, work)
                return
        self._flights.pop(name, None)

    def _lead(self, name: Name, work: Work) -> None:
        cache = work[0].state.plan.tasks[work[0].task].cache
        self._leaders[key_of(work[0])] = name, 0 if cache is None else cache.ttl_us
        self.on([work])

    async def _look_up(self) -> None:
        """Ask SQL for all new keys at once, until there are none."""
        try:
            while self._new:
                generation = self._live.generation
                names = list(self._new)[:LOOK_UP_MAX]
                try:
                    found = await self._store.cached(names, self._clock.now_us())
                except DomainError as error:
                    log.warning("cache_not_asked", reason=error.reason)
                    found = {}
                if generation != self._live.generation:
                    continue
                self._counters.add("cache_look_ups")
                for name in names:
                    self._new.pop(name, None)
                    entry = found.get(name)
                    if entry is not None:
                        self._remember(entry)
                    self._answer(name, entry)
        finally:
            self._looking = False

    def _answer(self, name: Name, entry: CacheRow | None) -> None:
        flight = self._flights.get(name)
        if flight is None:
            return
        if entry is None:
            if self.is_open(flight.leader[0]):
                self._lead(name, flight.leader)
            else:
                self._next(name, flight)
            return
        del self._flights[name]
        for work in (flight.leader, *flight.followers):
            if self.is_open(work[0]):
                self._hit(work, entry)

    def _hit(self, work: Work, entry: CacheRow) -> None:
        self._counters.add("cache_hits")
        self._inputs.discard(work)
        if entry.blob is not None:
            self._jobs.spawn(self._lend(work, entry))
            return
        self._complete(work, entry.output, None)

    async def _lend(self, work: Work, entry: CacheRow) -> None:
        """Complete a try with a copy of a large output: the entry's own may expire."""
        start = work[0].state.start
        generation = self._live.generation
        blob: str | None = None
        try:
            data = await self._blobs.get(entry.blob or "")
            blob = await self._blobs.put(f"{start.namespace}/{start.id}", data)
        except DomainError as error:
            log.warning("cache_entry_unusable", reason=error.reason)
            self._forget((entry.namespace, entry.key))
        if generation != self._live.generation or not self.is_open(work[0]):
            return
        if blob is not None:
            self._complete(work, None, blob)
            return
        # The entry is gone: the try runs, and what comes of it takes the entry's place.
        self._flights[entry.namespace, entry.key] = Flight(work)
        self._lead((entry.namespace, entry.key), work)

    def _complete(self, work: Work, output: bytes | None, blob: str | None) -> None:
        state, task, item, try_, _, _ = work[0]
        now_us = self._clock.now_us()
        outcome = Outcome(
            task, item, try_, _COMPLETED, output, blob, None, WORKER, 0, 0, now_us, now_us
        )
        self._steps.apply(state, outcome, now_us)

    async def _copy(self, led: tuple[Name, int], row: ResultRow) -> None:
        """Keep a copy of a large output for the entry."""
        try:
            data = await self._blobs.get(row.blob or "")
            blob = await self._blobs.put(prefix_of(led[0]), data)
        except DomainError as error:
            log.warning("output_not_cached", reason=error.reason)
            return
        if self._live.lease is not None:
            entry = self._entry(led, row, None, blob)
            self._commits.gathering.effects.caches.append(entry)
            self._commits.wake()

    def _entry(
        self, led: tuple[Name, int], row: ResultRow, output: bytes | None, blob: str | None
    ) -> CacheRow:
        now_us = self._clock.now_us()
        return CacheRow(*led[0], output, blob, row.execution, now_us, now_us + led[1])

    def _known(self, name: Name) -> CacheRow | None:
        entry = self._recent.get(name)
        if entry is None:
            return None
        if entry.expires_us <= self._clock.now_us():
            self._forget(name)
            return None
        self._recent.move_to_end(name)
        return entry

    def _remember(self, entry: CacheRow) -> None:
        name = (entry.namespace, entry.key)
        self._forget(name)
        self._recent[name] = entry
        self._bytes += _weight(entry)
        while self._bytes > self._bytes_max:
            self._forget(next(iter(self._recent)))

    def _forget(self, name: Name) -> None:
        entry = self._recent.pop(name, None)
        if entry is not None:
            self._bytes -= _weight(entry)


def prefix_of(name: Name) -> str:
    """Return where the blobs of an entry are."""
    return f"{name[0]}/cache-{name[1].hex()}"


def _weight(entry: CacheRow) -> int:
    return ENTRY_BYTES + len(entry.output or b"")


def _name(ready: Ready, rendered: Rendered) -> Name:
    """Return the namespace and key under which a try's output is kept.

    Two tries are equal when component, version pin and input are: keys sorted, secrets by name,
    blobs by content. Raises ExpressionError, NeedsBlob (a template's).
    """
    state = ready.state
    task = state.plan.tasks[ready.task]
    cache = task.cache
    what: object
    if cache is not None and cache.key is not None:
        what = ["key", cache.key(unit_scope(state, ready.task, ready.item))]
    else:
        holes = [
            [hole.path, [[part.text, part.secret, _digest(part.blob)] for part in hole.parts]]
            for hole in rendered.holes
        ]
        what = ["input", load(rendered.data), holes]
    scope = "" if cache is not None and cache.namespace_wide else state.start.workflow
    parts = [scope, task.component, task.major, task.exact_version, what]
    return state.start.namespace, hashlib.sha256(_canonical(parts)).digest()


def _canonical(value: object) -> bytes:
    """Return JSON with sorted keys and all digits."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, sort_keys=True).encode()


def _digest(blob: str | None) -> str | None:
    return None if blob is None else blob.rpartition("/")[2]
