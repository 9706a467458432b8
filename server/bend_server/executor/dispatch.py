"""The road of a task through the executor: frame in, hand-over, answer, result out."""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from bend.v1 import executor_service_pb2 as pb
from bend.v1 import failure_pb2
from bend_server.core import limits
from bend_server.core.errors import DependencyDown, InvalidInput
from bend_server.executor import holes, outcomes, tokens
from bend_server.executor.chunks import Chunks
from bend_server.executor.groups import Group
from bend_server.executor.holdings import (
    ENDED,
    FILLING,
    NEVER,
    OUTBOX,
    PARKED,
    QUEUED,
    RUNNING,
    Frame,
    Held,
)
from bend_server.executor.inquiry import closed_keys
from bend_server.executor.lanes import Lane
from bend_server.executor.ledger import Ledger
from bend_server.executor.options import (
    BATCH_BYTES_MAX,
    BATCH_TASKS_MAX,
    RESULTS_BATCH_MAX,
    RESULTS_IN_FLIGHT,
    ExecutorOptions,
)
from bend_server.executor.outcomes import CANCELLED, FAILED, TIMED_OUT, Outcome
from bend_server.executor.sessions import Session
from bend_server.executor.warnings import Warnings
from bend_server.ports.blobs import Blobs
from bend_server.ports.clock import Chance, Clock
from bend_server.ports.links import Secrets
from bend_server.ports.queue import Delivery, Queue

FILLERS = 16
UPLOADS = 8
# Tries held at once, results waiting for the queue included: bounds memory when it is away.
HELD_MAX = 131_072
# A frame that kills executors ends; frames handed back on purpose count too, so this is generous.
DELIVERIES_MAX = 20
DAY_US = 86_400_000_000

_log = structlog.get_logger(__name__)


class Dispatch:
    """Moves tasks between the queue and the streams. All of it runs on one event loop."""

    def __init__(
        self,
        queue: Queue,
        blobs: Blobs,
        clock: Clock,
        chance: Chance,
        secrets: Secrets,
        options: ExecutorOptions,
    ) -> None:
        self._queue = queue
        self._blobs = blobs
        self.clock = clock
        self._chance = chance
        self._secrets = secrets
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._began_us = clock.now_us()
        self.ledger = Ledger(queue)
        self.parked: dict[int, Held] = {}
        self.results: dict[int, Lane] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._turns = asyncio.Lock()
        self._fillers = asyncio.Semaphore(FILLERS)
        self._uploads = asyncio.Semaphore(UPLOADS)
        self._warnings = Warnings()
        self.chunks = Chunks(queue, self._warnings)
        self._paused: dict[Group, None] = {}
        self.processed = 0

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the hot path; owned until it ends."""
        task = self._loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._spawned)

    def _spawned(self, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            _log.error("executor_side_task_failed", exc_info=task.exception())

    def stop(self) -> None:
        """Give up everything that is under way."""
        for task in list(self._tasks):
            task.cancel()
        for lane in self.results.values():
            lane.stop()
        self.chunks.stop()

    @property
    def idle(self) -> bool:
        """Whether every result is stored."""
        return not self._tasks and all(lane.idle for lane in self.results.values())

    def warn(self, event: str, **facts: object) -> None:
        """Log what somebody else did wrong, at most once in 10 s per event."""
        self._warnings.warn(event, **facts)

    def frame_in(self, group: Group, delivery: Delivery) -> None:
        """Take a frame; a malformed one is acked and logged, nothing else suffers."""
        options = self._options
        wait = options.ack_wait_long_s if group.contract.long_running else options.ack_wait_short_s
        try:
            frame, fresh = self.ledger.admit(group, delivery, wait, self._loop.time())
        except InvalidInput as error:
            self.warn("task_frame_malformed", group=group.id, reason=error.message)
            self._queue.ack(delivery.token)
            self.ask(group)
            return
        if not fresh:
            # The delivery used up demand without bringing work: ask again, or the pull dries up.
            self.ask(group)
            return
        group.saw_frame(len(fresh))
        # What was published before we began may have run at an executor before this one, also when
        # the queue, killed with it, no longer knows that it was delivered.
        stale_us = max(self._began_us, self.clock.now_us() - int(options.stale_s * 1_000_000))
        if delivery.deliveries > 1 or delivery.published_us < stale_us:
            self.spawn(self._inquire(group, frame, fresh))
        else:
            self.accept(group, fresh)

    async def _inquire(self, group: Group, frame: Frame, fresh: list[Held]) -> None:
        """Ask the engine which tries of an old frame are still wanted, then run those."""
        keys = [held.key for held in fresh]
        closed = await closed_keys(self._queue, frame.slot, keys, self._turns)
        lost = frame.deliveries > DELIVERIES_MAX
        wanted: list[Held] = []
        for held in fresh:
            if held.state == ENDED or self.ledger.held.get(held.key) is not held:
                continue
            if held.key in closed:
                held.state = ENDED
                self.ledger.settle(held)
            elif lost:
                self._worker_lost(held)
            elif held.state not in (RUNNING, PARKED):
                wanted.append(held)
        self.accept(group, wanted)

    def accept(self, group: Group, fresh: list[Held]) -> None:
        """Queue tries of a group, or end those that were cancelled."""
        queue = group.queue
        ledger = self.ledger
        for held in fresh:
            if ledger.is_cancelled(held.key):
                self.end(held, CANCELLED, outcomes.stopped())
            elif held.queued.holes:
                self.spawn(self._fill(group, held))
            else:
                held.state = QUEUED
                queue.append(held)
        self.route(group)

    async def _fill(self, group: Group, held: Held) -> None:
        async with self._fillers:
            try:
                held.secret_names = holes.secret_names(held.queued)
                held.input, held.secrets = await holes.fill(
                    held.queued, group.namespace, self._blobs, self._secrets, self._chance.u64()
                )
            except holes.Unfillable as error:
                problem = outcomes.failure(error.reason, str(error), retryable=error.retryable)
                if held.state == FILLING:
                    self.end(held, FAILED, problem)
                return
        if held.state == FILLING:
            held.state = QUEUED
            group.queue.append(held)
            self.route(group)

    def route(self, group: Group) -> None:
        """Give queued tries to instances with free credit; a closed group gives them back."""
        queue = group.queue
        if group.closed:
            while queue:
                held = queue.popleft()
                if held.state == QUEUED:
                    held.state = ENDED
                    self.ledger.release(held)
            return
        share = -(-len(queue) // max(1, len(group.sessions)))
        while queue:
            session = group.best()
            if session is None:
                break
            room = min(session.free, share, BATCH_TASKS_MAX)
            outbox = session.outbox
            while room and queue:
                held = queue.popleft()
                if held.state != QUEUED:
                    continue
                held.state = OUTBOX
                held.session = session
                outbox.append(held)
                session.free -= 1
                room -= 1
            session.kick()
            group.progress_at = self._loop.time()
        self.ask(group)

    def give_back(self, group: Group) -> None:
        """Return to the queue what waits for credit that does not come: others may have some."""
        group.stalled = True
        while group.queue:
            held = group.queue.popleft()
            if held.state == QUEUED:
                held.state = ENDED
                self.ledger.release(held)
        self.ask(group)

    def ask(self, group: Group) -> None:
        """Pull more for a group, unless too many results wait to be stored."""
        if len(self.ledger.held) < HELD_MAX:
            group.ask()
        elif group.consumer is not None:
            group.consumer.demand(0)
            self._paused[group] = None

    def build(self, session: Session) -> pb.ConnectResponse:
        """Take tries from a session's outbox and hand them over in one message."""
        now = self._loop.time()
        now_us = self.clock.now_us()
        message = pb.ConnectResponse()
        add = message.tasks.tasks.add
        outbox, running, u64 = session.outbox, session.running, self._chance.u64
        count = total = 0
        freed = False
        while outbox and count < BATCH_TASKS_MAX:
            held = outbox[0]
            size = len(held.input)
            if count and total + size > BATCH_BYTES_MAX:
                break
            outbox.popleft()
            if held.state != OUTBOX or held.session is not session:
                session.free += 1
                freed = True
                continue
            queued = held.queued
            if queued.schedule_deadline_us and queued.schedule_deadline_us < now_us:
                session.free += 1
                freed = True
                self.end(held, TIMED_OUT, outcomes.scheduled_late())
                continue
            held.run_id = run_id = u64()
            self._begin(held, session, now, now_us)
            running[run_id] = held
            count += 1
            total += size
            add(
                run_id=run_id,
                component=session.groups[held.group],
                input=held.input,
                execution_id=queued.execution_id,
                task=queued.task_id,
                item=queued.item,
                attempt=queued.attempt,
                iteration=queued.iteration,
                timeout_ms=queued.timeout_ms,
                heartbeat_timeout_ms=queued.heartbeat_timeout_ms,
                resume_token=self._seal(held) if held.group.contract.long_running else b"",
                traceparent=queued.traceparent,
                namespace=session.namespace,
            )
        if freed:
            self.more(session)
        return message

    def _begin(self, held: Held, session: Session, now: float, now_us: int) -> None:
        """Start the attempt's clocks."""
        held.state = RUNNING
        held.since = now
        held.started_us = now_us
        held.worker = session.instance_id
        queued = held.queued
        if queued.timeout_ms:
            held.deadline = now + queued.timeout_ms / 1000
            session.due(held.deadline)
        if queued.heartbeat_timeout_ms and held.group.contract.heartbeats:
            held.heartbeat_at = now + queued.heartbeat_timeout_ms / 1000
            session.due(held.heartbeat_at)

    def _seal(self, held: Held) -> bytes:
        queued, frame, group = held.queued, held.frame, held.group
        timeout_us = queued.timeout_ms * 1000
        facts = tokens.Resumption(
            tokens.VERSION,
            held.run_id,
            *held.key,
            queued.attempt,
            group.namespace,
            held.worker,
            group.component,
            group.version,
            group.id,
            frame.slot,
            frame.identity[1],
            frame.identity[2],
            frame.token,
            held.started_us,
            held.started_us + timeout_us if timeout_us else 0,
            queued.heartbeat_timeout_ms,
            held.started_us + (timeout_us or DAY_US) + DAY_US,
            queued.task_id,
            held.secret_names,
        )
        return tokens.seal(self._options.resume_key, facts)

    def answers(self, session: Session, batch: pb.TaskResultBatch) -> None:
        """Take results of a stream; each gives one credit back. Raises InvalidInput."""
        if len(batch.results) > RESULTS_BATCH_MAX:
            raise _violation("results", f"more than {RESULTS_BATCH_MAX} results in one message")
        now_us = self.clock.now_us()
        running = session.running
        held: Held | None = None
        for result in batch.results:
            held = running.pop(result.run_id, None)
            if held is None:
                # A late answer over a resumed stream, or a service that makes up run ids.
                self.warn("result_of_unknown_run", instance=session.instance_id)
                continue
            session.free += 1
            if held.state != ENDED:
                self.finish(outcomes.read(held, result, now_us))
        if held is not None:
            held.group.served((now_us - held.started_us) / 1_000_000)
        self.more(session)

    def more(self, session: Session) -> None:
        """Credit came back: hand over what waits, and pull more."""
        for group in session.groups:
            if group.queue:
                self.route(group)
            else:
                self.ask(group)

    def finish(self, outcome: Outcome) -> None:
        """Publish the end of a try; large outputs go to the blob store first."""
        held = outcome.held
        held.state = ENDED
        held.session = None
        if held.scrubber is not None:
            self.chunks.end(held)
        self.processed += 1
        if len(outcome.output) > limits.INLINE_BYTES_MAX:
            self.spawn(self._upload(outcome))
        else:
            self._lane(held.frame.slot).add(outcome, outcome.size())

    def end(self, held: Held, status: int, failure: failure_pb2.Failure) -> None:
        """End a try by the executor's own decision."""
        self.finish(Outcome(held, status, self.clock.now_us(), b"", failure))

    async def _upload(self, outcome: Outcome) -> None:
        held = outcome.held
        prefix = f"{held.group.namespace}/{held.key[0]}"
        async with self._uploads:
            try:
                key = await self._blobs.put(prefix, outcome.output)
            except DependencyDown as error:
                outcome.status = FAILED
                outcome.failure = outcomes.failure(
                    "DEPENDENCY_DOWN", f"the output could not be stored: {error}", retryable=True
                )
            else:
                outcome.blob = (key, len(outcome.output))
        outcome.output = b""
        self._lane(held.frame.slot).add(outcome, outcome.size())

    def _lane(self, slot: int) -> Lane:
        lane = self.results.get(slot)
        if lane is None:
            lane = self.results[slot] = Lane(
                self._queue,
                f"results.{slot}",
                partial(outcomes.frame_of, self._options.name),
                self._stored,
                in_flight_max=RESULTS_IN_FLIGHT,
                items_max=limits.FRAME_TASKS_MAX,
                bytes_max=limits.FRAME_BYTES_MAX,
            )
        return lane

    def _stored(self, items: Sequence[Outcome]) -> None:
        settle = self.ledger.settle
        for outcome in items:
            settle(outcome.held)
        if self._paused and len(self.ledger.held) < HELD_MAX // 2:
            paused, self._paused = self._paused, {}
            for group in paused:
                self.ask(group)

    def lost(self, held: Held) -> None:
        """The stream that ran a try is gone for good: run it elsewhere, or give it back."""
        if self.ledger.lose(held.key) > limits.LOSSES_MAX:
            self._worker_lost(held)
        elif held.adopted:
            # The queue has its input: let it be delivered anew.
            held.state = ENDED
            self.ledger.release(held)
        else:
            self.requeue(held)

    def requeue(self, held: Held) -> None:
        """Put a try back to the front; the caller routes its group afterwards."""
        held.session = None
        held.run_id = 0
        held.since = held.deadline = held.heartbeat_at = held.parked_until = NEVER
        held.told = False
        held.scrubber = None
        held.state = QUEUED
        held.group.queue.appendleft(held)

    def _worker_lost(self, held: Held) -> None:
        problem = outcomes.failure(
            "WORKER_LOST",
            f"the workers that ran it were lost more than {limits.LOSSES_MAX} times",
            retryable=True,
        )
        self.end(held, FAILED, problem)


def _violation(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, reason="PROTOCOL_VIOLATION", field=field)
