"""What may be lost, is looked for: after a takeover, a reconnect, and from time to time.

SQL tells which tries are open; TASKS and then RESULTS tell which of them are on their way. A task
is acked only after its result is stored, so a try that is in neither, read in this order, is
lost and is handed out again with the same number.
"""

import asyncio

import structlog
from google.protobuf.message import DecodeError

from bend.internal.v1 import frames_pb2
from bend_server.core import limits
from bend_server.core.effects import Ready
from bend_server.core.errors import DependencyDown, LeaseLost
from bend_server.core.model import Failure, TaskStatus
from bend_server.engine.adoption import Adoption
from bend_server.engine.commits import Commits
from bend_server.engine.dispatch import Dispatch
from bend_server.engine.gate import Gate
from bend_server.engine.lanes import Work
from bend_server.engine.live import Live
from bend_server.engine.options import Counters, EngineOptions
from bend_server.engine.overlay import Overlay
from bend_server.engine.results import Results
from bend_server.engine.routing import Routes
from bend_server.engine.timers import Timers
from bend_server.engine.windows import Handout, Key, Windows, key_of
from bend_server.ports.clock import Clock
from bend_server.ports.queue import RESULTS, TASKS, Queue, QueueDown, Stored
from bend_server.ports.store import EngineStore

log = structlog.get_logger()

PAGE = 1000
SLICE = 200
FRAMES_BEFORE_PAUSE = 16


class Recovery:
    """Brings memory and queue together with SQL."""

    def __init__(
        self,
        store: EngineStore,
        queue: Queue,
        clock: Clock,
        live: Live,
        commits: Commits,
        adoption: Adoption,
        dispatch: Dispatch,
        results: Results,
        routes: Routes,
        windows: Windows,
        timers: Timers,
        overlay: Overlay,
        gate: Gate,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._live = live
        self._commits = commits
        self._adoption = adoption
        self._dispatch = dispatch
        self._results = results
        self._routes = routes
        self._windows = windows
        self._timers = timers
        self._overlay = overlay
        self._gate = gate
        self._options = options
        self._counters = counters
        self._incarnation = 0
        self._all = asyncio.Event()
        self.slots_seen: dict[int, None] = {}

    async def recover(self, partitions: list[int]) -> None:
        """Load the unfinished executions of claimed partitions and set them going.

        Raises DependencyDown, QueueDown, LeaseLost: then memory must be dropped.
        """
        open_tries: list[Ready] = []
        async for page in self._store.load_unfinished(partitions, PAGE):
            for place in range(0, len(page), SLICE):
                open_tries += await self._adoption.recover(page[place : place + SLICE])
                await asyncio.sleep(0)
            await self._commits.room()
        await self._commits.after()
        found = await self._scan_tasks(open_tries)
        await self._scan_results()
        for ready in open_tries:
            if found and key_of(ready) in found:
                self._gate.found(ready)
        now_us = self._clock.now_us()
        self._incarnation = self._incarnation or await self._queue.incarnation(TASKS)
        self._counters.add("recovered_tries", len(open_tries))
        for place in range(0, len(open_tries), SLICE):
            self._dispatch.again(
                [
                    (ready, _ready_us(ready, now_us))
                    for ready in open_tries[place : place + SLICE]
                    if not found or key_of(ready) not in found
                ]
            )
            await asyncio.sleep(0)

    def reconnected(self) -> None:
        """Look for everything soon: the queue was away and may have lost what it held."""
        self._all.set()

    async def run(self) -> None:
        """Look for what is out for long, once a period; for everything after a reconnect."""
        while True:
            try:
                async with asyncio.timeout(self._options.resync_s):
                    await self._all.wait()
            except TimeoutError:
                pass
            everything = self._all.is_set()
            self._all.clear()
            if not self._live.owned:
                continue
            try:
                await self.resync(everything=everything)
                await self._look_for_dead_lanes()
            except QueueDown:
                if everything:
                    self._all.set()
                await asyncio.sleep(self._options.retry_s * 10)
            except (DependencyDown, LeaseLost):
                # The commit that was waited for did not happen: memory is dropped, and taking the
                # partitions again looks for everything.
                log.warning("resync_was_overtaken")

    async def resync(self, *, everything: bool) -> None:
        """Hand out again what neither stream holds. Raises QueueDown."""
        incarnation = await self._queue.incarnation(TASKS)
        if self._incarnation and incarnation != self._incarnation:
            everything = True
            log.warning("queue_stream_was_made_anew")
        # What is published while we look is no candidate: it would seem lost.
        generation = self._live.generation
        horizon_us = self._clock.now_us() - int(self._options.ack_wait_s * 1e6)
        candidates = [
            handout
            for handout in self._windows.handouts
            if handout.sequence and (everything or handout.sent_us < horizon_us)
        ]
        if candidates:
            if everything:
                missing = await self._missing_of_all(candidates)
            else:
                missing = await self._missing_of(candidates)
            if missing and generation == self._live.generation:
                await self._scan_results()
                await self._commits.after()
                if generation == self._live.generation:
                    self._again(missing)
        self._incarnation = incarnation

    async def backstop(self, handout: Handout) -> None:
        """Judge a frame that should have ended long ago; called by its timer."""
        try:
            held = bool(handout.sequence) and await self._queue.holds(TASKS, handout.sequence)
            if not held and handout.sequence:
                await self._scan_results()
                await self._commits.after()
        except QueueDown:
            held = True
        except (DependencyDown, LeaseLost):
            return  # memory is dropped, and this frame with it
        if handout.revoked or not handout.open:
            return
        if not held and handout.sequence:
            self._again([handout])
            return
        now_us = self._clock.now_us()
        next_us = 1 << 62
        for work in self._windows.open_works(handout):
            ready, since_us = work
            task = ready.state.plan.tasks[ready.task]
            _, started_us = self._overlay.workers.get(key_of(ready), ("", 0))
            # Until a hint says otherwise it may still wait in the queue for its turn.
            begun_us = started_us or max(since_us, handout.sent_us) + task.schedule_timeout_us
            due_us = begun_us + task.timeout_us + limits.BACKSTOP_US
            if due_us <= now_us:
                failure = Failure("TIMEOUT", "no result came in time", retryable=True)
                self._counters.add("backstops")
                self._dispatch.verdict(work, TaskStatus.TIMED_OUT, failure)
            else:
                next_us = min(next_us, due_us)
        if next_us < 1 << 62:
            self._timers.add(next_us, handout)

    async def _look_for_dead_lanes(self) -> None:
        """Note lanes with results that perhaps nobody consumes any more.

        A task that was handed out by an engine that died since answers to that engine's lane,
        however late. `Ownership` has those drained whose slot no live lease has.
        """
        for slot in range(self._options.slots):
            if slot == self._live.slot or slot in self.slots_seen:
                continue
            async for _ in self._queue.scan(RESULTS, f"results.{slot}"):
                self.slots_seen[slot] = None
                break

    def _again(self, missing: list[Handout]) -> None:
        works: list[Work] = []
        for handout in missing:
            works += self._windows.revoke(handout)
        if works:
            self._counters.add("tasks_lost", len(works))
            self._dispatch.again(works)

    async def _missing_of(self, candidates: list[Handout]) -> list[Handout]:
        """Return frames that the stream no longer holds, asked one by one."""
        missing: list[Handout] = []
        for handout in candidates:
            if not handout.open or handout.revoked:
                continue
            if not await self._queue.holds(TASKS, handout.sequence):
                missing.append(handout)
        return missing

    async def _missing_of_all(self, candidates: list[Handout]) -> list[Handout]:
        """Return frames with a try that is nowhere in the stream, from one reading of it."""
        wanted = {
            key_of(ready): ready
            for handout in candidates
            for ready, _ in self._windows.open_works(handout)
        }
        found: dict[Key, int] = {}
        async for stored in self._queue.scan(TASKS, "tasks.>"):
            for task in _tasks_of(stored):
                key = _key(task)
                if key in wanted:
                    found[key] = stored.sequence
        missing: list[Handout] = []
        for handout in candidates:
            works = self._windows.open_works(handout)
            if any(key_of(ready) not in found for ready, _ in works):
                missing.append(handout)
            elif works:
                handout.sequence = found[key_of(works[0][0])]
        return missing

    async def _scan_tasks(self, open_tries: list[Ready]) -> dict[Key, None]:
        """Register the frames in TASKS that hold open tries; return the tries that were found."""
        found: dict[Key, None] = {}
        if not open_tries:
            return found
        wanted: dict[Key, Ready] | None = None
        now_us = self._clock.now_us()
        async for stored in self._queue.scan(TASKS, "tasks.>"):
            if wanted is None:
                wanted = {key_of(ready): ready for ready in open_tries}
            works: list[Work] = []
            timeout_us = 0
            for task in _tasks_of(stored):
                key = _key(task)
                ready = wanted.get(key)
                if ready is not None and key not in found:
                    found[key] = None
                    works.append((ready, now_us))
                    timeout_us = max(timeout_us, ready.state.plan.tasks[ready.task].timeout_us)
            if works:
                group = self._routes.found(stored.subject.partition(".")[2], now_us)
                handout = Handout(group, works, now_us, stored.sequence)
                handout.timeout_us = timeout_us
                self._windows.open(handout)
                self._timers.add(now_us + timeout_us + limits.BACKSTOP_US, handout)
        return found

    async def _scan_results(self) -> None:
        """Apply every result that waits in RESULTS; their acks come with their delivery."""
        frames = 0
        async for stored in self._queue.scan(RESULTS, "results.>"):
            slot = stored.subject.rpartition(".")[2]
            if slot.isdigit():
                self.slots_seen[int(slot)] = None
            try:
                frame = frames_pb2.ResultFrame.FromString(stored.data)
            except DecodeError:
                continue
            self._results.apply(frame)
            self._commits.wake()
            frames += 1
            if frames % FRAMES_BEFORE_PAUSE == 0:
                await self._commits.room()
                await asyncio.sleep(0)


def _tasks_of(stored: Stored) -> list[frames_pb2.QueuedTask]:
    try:
        return list(frames_pb2.TaskFrame.FromString(stored.data).tasks)
    except DecodeError:
        return []


def _key(task: frames_pb2.QueuedTask) -> Key:
    return task.execution, task.task, task.item - 1, getattr(task, "try")


def _ready_us(ready: Ready, now_us: int) -> int:
    """Return when a recovered try became ready: its timeout in the queue goes on from there."""
    state = ready.state
    if ready.attempt > 1:
        return now_us
    if ready.item >= 0 or ready.iteration or state.run > 1:
        return now_us
    times = state.times
    since_us = state.start.started_us
    if times is not None:
        for dependency in state.plan.tasks[ready.task].dependencies:
            since_us = max(since_us, times[2 * dependency + 1])
    return min(since_us, now_us)
