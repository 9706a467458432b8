"""The engine: its parts put together, its loops, its start and stop, and the use cases."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import structlog

from bend.internal.v1 import control_pb2
from bend_server.core.errors import DependencyDown, DomainError, NotFound
from bend_server.core.model import ExecutionStatus
from bend_server.engine.options import Counters, EngineOptions
from bend_server.engine.parts import Parts
from bend_server.ports.blobs import Blobs
from bend_server.ports.clock import Chance, Clock
from bend_server.ports.control import ApprovalSummary, BulkRow
from bend_server.ports.engine import (
    BulkCommand,
    Decision,
    Ended,
    RunOpened,
    StartCommand,
    StartOutcome,
    TaskOverlay,
)
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
        parts = self._parts = Parts(
            store, queue, blobs, clock, chance, plans, options, self.counters
        )
        self._live = parts.live
        self._jobs = parts.jobs
        self._commits = parts.commits
        self._windows = parts.windows
        self._timers = parts.timers
        self._starts = parts.starts
        self._ownership = parts.ownership
        self._recovery = parts.recovery
        self._commands = parts.commands
        self._dispatch = parts.dispatch
        self.sweeper = parts.sweeper
        self.retention = parts.retention
        self._lanes: dict[int, asyncio.Task[None]] = {}
        self._announcements: Subscription | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopping = False
        ownership = parts.ownership
        ownership.open_slot = self._open_slot
        ownership.close_slot = self._close_slot
        ownership.slots_dead = self._drain_slots

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
                    "registry.announce", self._parts.upkeep.hear
                )
            except QueueDown:
                await asyncio.sleep(self.options.retry_s * 5)
        try:
            await self._queue.broadcast(ASK_ANNOUNCE, b"")
        except QueueDown:
            log.info("announcements_not_asked_for")  # executors repeat themselves anyway
        async with asyncio.TaskGroup() as group:
            parts = self._parts
            for loop in (
                parts.commits.run(),
                parts.timers.run(),
                parts.ownership.run(),
                parts.recovery.run(),
                parts.upkeep.run(),
                parts.parking.run(),
                parts.demands.run(),
                parts.sweeper.run(),
                parts.retention.run(),
                parts.queues.run(),
                parts.children.run(),
                parts.slots.run(),
                parts.cache.run(),
                parts.bulks.run(),
                parts.mailbox.run(),
            ):
                group.create_task(loop)

    async def _open_slot(self, slot: int) -> None:
        try:
            await self._commands.open(
                slot, {"slots": self._parts.slots.hear, "mail": self._parts.mailbox.hear}
            )
        except QueueDown as error:
            raise DependencyDown("the queue cannot be reached") from error
        self._lanes[slot] = asyncio.create_task(self._parts.results.run(slot))

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
                self._lanes[slot] = asyncio.create_task(self._parts.results.run(slot))

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

    async def pause(
        self, execution: int, *, reason: str, actor: str, request_id: str = ""
    ) -> ExecutionStatus:
        """Pause; return the status once that is durable."""
        command = self._command(execution, actor, request_id, pause=reason)
        return ExecutionStatus((await self._commands.send(command)).status)

    async def resume(self, execution: int, *, actor: str, request_id: str = "") -> ExecutionStatus:
        """Let a paused execution go on."""
        resume = control_pb2.EngineCommand.Resume()
        command = self._command(execution, actor, request_id, resume=resume)
        return ExecutionStatus((await self._commands.send(command)).status)

    async def retry(
        self, execution: int, *, reason: str, actor: str, request_id: str = ""
    ) -> RunOpened:
        """Open a new run with what did not complete."""
        command = self._command(execution, actor, request_id, retry=reason)
        result = await self._commands.send(command)
        return RunOpened(ExecutionStatus(result.status), result.run)

    async def reset(
        self, execution: int, *, task: str, reason: str, actor: str, request_id: str = ""
    ) -> RunOpened:
        """Open a new run from a task on."""
        reset = control_pb2.EngineCommand.Reset(task=task, reason=reason)
        command = self._command(execution, actor, request_id, reset=reset)
        result = await self._commands.send(command)
        return RunOpened(ExecutionStatus(result.status), result.run)

    async def signal(
        self, execution: int, *, name: str, payload: bytes, actor: str, request_id: str = ""
    ) -> bool:
        """Give a signal; return whether it completed a waiting task."""
        signal = control_pb2.EngineCommand.Signal(name=name, payload=payload)
        command = self._command(execution, actor, request_id, signal=signal)
        return (await self._commands.send(command)).delivered

    async def decide_approval(self, decision: Decision, *, request_id: str = "") -> ApprovalSummary:
        """Decide an approval; return it as stored."""
        asked = (decision.execution, decision.task, decision.item, decision.try_)
        key = control_pb2.TaskKey(
            execution=decision.execution,
            task=decision.task,
            item=decision.item + 1,
            **{"try": decision.try_},
        )
        message = control_pb2.EngineCommand.Decision(
            key=key, approved=decision.approved, comment=decision.comment, data=decision.data
        )
        command = self._command(decision.execution, decision.actor, request_id, decision=message)
        await self._commands.send(command)
        known = await self._store.find_approval(*asked)
        if known is None:
            raise NotFound("there is no such approval", reason="APPROVAL_NOT_FOUND")
        return known

    def _command(
        self, execution: int, actor: str, request_id: str, **what: Any
    ) -> control_pb2.EngineCommand:
        return control_pb2.EngineCommand(
            execution=execution, actor=actor, request_id=request_id, **what
        )

    async def bulk(self, command: BulkCommand) -> BulkRow:
        """Store a bulk job and set it going."""
        return await self._parts.bulks.put(command)

    async def wait(self, execution: int, timeout_s: float) -> Ended | None:
        """Return when the execution is terminal and committed; None after `timeout_s` seconds."""
        return await self._parts.waits.wait(execution, timeout_s)

    def ended(self, executions: Sequence[int]) -> AsyncIterator[list[Ended]]:
        """Yield executions as they end, in batches; ends when all have."""
        return self._parts.waits.ended(executions)

    def watch(self, execution: int) -> AsyncIterator[list[TaskOverlay]]:
        """Yield after every commit that concerns the execution, and on transient changes."""
        return self._parts.watches.watch(execution)

    def waiting(self, execution: int) -> list[TaskOverlay]:
        """Return the overlay of all open tasks; [] when the execution is not in memory here."""
        return self._parts.overlay.of(execution)

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
            "groups_live": sum(group.routable for group in self._parts.routes.groups.values()),
        }

    def waiting_count(self) -> int:
        """Return how many ready tasks wait for an instance."""
        return self._dispatch.lanes.waiting()
