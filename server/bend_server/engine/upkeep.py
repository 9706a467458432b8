"""Slow loops: the routing table's age, executions past their deadline, old data."""

import asyncio

import structlog
from google.protobuf.message import DecodeError

from bend_server.core.errors import DependencyDown, DomainError
from bend_server.engine.adoption import Adoption
from bend_server.engine.dispatch import Dispatch
from bend_server.engine.live import Live
from bend_server.engine.options import Counters, EngineOptions
from bend_server.engine.routing import Group, Routes
from bend_server.engine.steps import Steps
from bend_server.engine.watch import Watches
from bend_server.ports.blobs import Blobs
from bend_server.ports.clock import Clock
from bend_server.ports.queue import TASKS, Queue, QueueDown
from bend_server.ports.store import EngineStore

log = structlog.get_logger()

ROUTES_S = 1.0
PAGE = 500


class Upkeep:
    """Keeps the routing table young and moves work away from groups that vanished."""

    def __init__(
        self,
        queue: Queue,
        clock: Clock,
        live: Live,
        routes: Routes,
        dispatch: Dispatch,
        watches: Watches,
        counters: Counters,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._live = live
        self._routes = routes
        self._dispatch = dispatch
        self._watches = watches
        self._counters = counters

    async def hear(self, data: bytes) -> None:
        """Take in an executor's announcement."""
        try:
            changed = self._routes.announce(data, self._clock.now_us())
        except DecodeError:
            self._counters.add("announcements_garbage")
            return
        if changed:
            self._changed()

    def reconnected(self) -> None:
        """Give executors time to be heard again: it was this engine that was deaf."""
        self._routes.rejuvenate(self._clock.now_us())

    async def run(self) -> None:
        """Age the table, once a second."""
        while True:
            await asyncio.sleep(ROUTES_S)
            if not self._queue.connected:
                continue
            now_us = self._clock.now_us()
            if self._routes.expire(now_us):
                self._changed()
            for group in self._routes.vanished(now_us):
                await self._clear(group)

    def _changed(self) -> None:
        self._dispatch.lanes.wake()
        self._dispatch.pump()
        self._watches.wake_all()

    async def _clear(self, group: Group) -> None:
        """Drop what a vanished group left in the queue; its tries go elsewhere, or wait here."""
        if group.open and self._live.owned:
            log.warning("group_vanished", group=group.name, open=group.open)
            try:
                await self._queue.purge(TASKS, f"tasks.{group.name}")
            except QueueDown:
                return
            if not group.empty_us:
                return
            self._dispatch.revoke(group)
        self._routes.forget(group)


class Sweeper:
    """Ends executions that are long past their deadline: a timer was lost. It should find none."""

    def __init__(
        self,
        store: EngineStore,
        clock: Clock,
        live: Live,
        adoption: Adoption,
        steps: Steps,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._store = store
        self._clock = clock
        self._live = live
        self._adoption = adoption
        self._steps = steps
        self._period_s = options.sweep_s
        self._late_us = options.sweep_late_us
        self._counters = counters

    async def run(self) -> None:
        """Sweep once a period."""
        while True:
            await asyncio.sleep(self._period_s)
            try:
                await self.sweep()
            except DomainError as error:
                log.warning("sweep_failed", reason=error.reason)

    async def sweep(self) -> int:
        """End what is overdue; return how many executions that were."""
        before_us = self._clock.now_us() - self._late_us
        after = 0
        found = 0
        while self._live.order:
            page = await self._store.overdue(self._live.order, before_us, after, PAGE)
            for execution in page:
                found += await self._end(execution)
            if len(page) < PAGE:
                break
            after = page[-1]
        if found:
            self._counters.add("swept", found)
            log.error("executions_overdue", count=found)
        return found

    async def _end(self, execution: int) -> bool:
        try:
            state = await self._adoption.load(execution)
        except DependencyDown:
            raise
        except DomainError as error:
            log.warning("overdue_unusable", execution=execution, reason=error.reason)
            return False
        if state is None or not state.deadline_us:
            return False
        if state.quarantined:
            # It waits for a person, not for a deadline, and not in memory.
            self._live.states.pop(execution, None)
            return False
        now_us = self._clock.now_us()
        ended = self._steps.timed_out(state, now_us)
        return self._steps.grace_over(state, now_us) or ended


class Retention:
    """Deletes what is older than its time: trees of executions with their blobs, entries of the
    cache with theirs, request ids.
    """

    def __init__(
        self,
        store: EngineStore,
        blobs: Blobs,
        clock: Clock,
        live: Live,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._live = live
        self._period_s = options.retention_s
        self._keep_us = options.retention_us
        self._counters = counters

    async def run(self) -> None:
        """Forget once a period."""
        while True:
            await asyncio.sleep(self._period_s)
            if 0 not in self._live.owned:
                # One engine is enough, and partition 0 has one owner.
                continue
            try:
                await self.forget()
            except DomainError as error:
                log.warning("retention_failed", reason=error.reason)

    async def forget(self) -> int:
        """Delete what is old, in bounded pages; return how many executions that were."""
        now_us = self._clock.now_us()
        count = 0
        while True:
            gone = await self._store.forget_finished(now_us - self._keep_us, PAGE)
            for execution, namespace in gone:
                await self._blobs.delete_prefix(f"{namespace}/{execution}/")
            count += len(gone)
            if len(gone) < PAGE:
                break
        expired = PAGE
        while expired == PAGE:
            entries = await self._store.forget_cached(now_us, PAGE)
            for entry in entries:
                if entry.blob is not None:
                    await self._blobs.delete_prefix(f"{entry.blob.rpartition('/')[0]}/")
            expired = len(entries)
        forgotten = PAGE
        while forgotten == PAGE:
            forgotten = await self._store.forget_requests(now_us, PAGE)
        self._counters.add("executions_forgotten", count)
        return count
