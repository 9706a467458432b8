"""Results come in: frames from this engine's lane, into the next commit."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import structlog
from google.protobuf.message import DecodeError

from bend.internal.v1 import frames_pb2
from bend_server.core import limits, machine
from bend_server.core.errors import Conflict, DependencyDown, DomainError
from bend_server.core.ids import partition_of
from bend_server.core.model import Failure, Outcome, TaskStatus
from bend_server.engine.adoption import Adoption
from bend_server.engine.commits import Commits
from bend_server.engine.jobs import Jobs
from bend_server.engine.live import Live
from bend_server.engine.options import Counters, EngineOptions
from bend_server.engine.steps import Steps
from bend_server.ports.clock import Chance, Clock
from bend_server.ports.queue import RESULTS, Consumer, Delivery, Queue, QueueDown

log = structlog.get_logger()

STATUSES = (
    0,
    int(TaskStatus.COMPLETED),
    int(TaskStatus.FAILED),
    int(TaskStatus.TIMED_OUT),
    int(TaskStatus.CANCELLED),
)
_COMPLETED, _FAILED = STATUSES[1:3]
NOT_JSON = Failure("INVALID_OUTPUT", "the executor reported an output that is not JSON")
ID_MAX = (1 << 63) - 1
RECOVERING_NAK_S = 0.5
FOREIGN_NAK_S = 2.0
ROWS_BEFORE_PAUSE = 256

_new = tuple.__new__
_loads = orjson.loads

OwnerSlot = Callable[[int], Awaitable[int | None]]


def outcome_of(result: frames_pb2.QueuedResult) -> Outcome:
    """Return what a reported result says; what would poison SQL is made harmless here."""
    status = STATUSES[result.status] if 0 <= result.status < len(STATUSES) else 0
    output: bytes | None = None
    blob: str | None = None
    failure: Failure | None = None
    if status == _COMPLETED:
        output = result.output
        if not output:
            if result.HasField("blob"):
                output, blob = None, result.blob.key
            else:
                output = b"null"
        else:
            # Executors check it too; but an answer is spliced from outputs, so SQL holds JSON only.
            try:
                _loads(output)
            except orjson.JSONDecodeError:
                status, output, failure = _FAILED, None, NOT_JSON
    elif result.HasField("failure"):
        failure = _failure_of(result)
    worker = result.worker
    if "\0" in worker:
        worker = worker.replace("\0", "")
    outcome: Outcome = _new(
        Outcome,
        (
            result.task,
            result.item - 1,
            getattr(result, "try"),
            status,
            output,
            blob,
            failure,
            worker,
            result.run_id,
            result.chunk_count,
            result.started_us,
            result.finished_us,
        ),
    )
    return outcome


def _failure_of(result: frames_pb2.QueuedResult) -> Failure:
    failure = result.failure
    retry_after_us: int | None = None
    if failure.HasField("retry_after"):
        wait = failure.retry_after
        retry_after_us = wait.seconds * 1_000_000 + wait.nanos // 1000
        retry_after_us = min(max(retry_after_us, 0), limits.ATTEMPT_TIMEOUT_US_MAX)
    details = failure.details
    if details:
        try:
            orjson.loads(details)
        except orjson.JSONDecodeError:
            details = b""
    return Failure(
        failure.reason or "UNKNOWN",
        failure.message[: limits.MESSAGE_CHARS_MAX],
        failure.retryable,
        retry_after_us,
        details,
    )


class Results:
    """Applies result frames.

    Acks follow a fenced commit that began after the delivery, for duplicates, stale results and
    garbage, too. A result of an execution that is not in memory is looked up in SQL; one that
    belongs to another engine goes on to that engine's lane.
    """

    def __init__(
        self,
        queue: Queue,
        clock: Clock,
        chance: Chance,
        live: Live,
        commits: Commits,
        steps: Steps,
        adoption: Adoption,
        jobs: Jobs,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._chance = chance
        self._live = live
        self._commits = commits
        self._steps = steps
        self._adoption = adoption
        self._jobs = jobs
        self._options = options
        self._counters = counters
        self._garbage_told = False
        self.owner_slot: OwnerSlot

    async def run(self, slot: int) -> None:
        """Consume one lane until cancelled."""
        consumer = await self._open(slot)
        demand = self._options.intake_frames
        consumer.demand(demand)
        taken = 0
        try:
            while True:
                delivery = await consumer.next()
                taken += 1
                if taken * 2 >= demand:
                    consumer.demand(demand)
                    taken = 0
                rows = self._take_safely(delivery)
                if rows >= self._options.commit_rows_max:
                    await self._commits.room()
                elif rows >= ROWS_BEFORE_PAUSE:
                    await asyncio.sleep(0)
        finally:
            await consumer.close()

    async def _open(self, slot: int) -> Consumer:
        while True:
            try:
                return await self._queue.consume(
                    RESULTS, f"results.{slot}", f"r-{slot}", self._options.ack_wait_s, None
                )
            except QueueDown:
                await asyncio.sleep(self._options.retry_s * 4)

    def _take_safely(self, delivery: Delivery) -> int:
        """A frame that cannot be handled comes again later; it must not end the lane."""
        try:
            return self.take(delivery)
        except Exception:
            self._counters.add("result_frames_failed")
            log.exception("result_frame_failed", sequence=delivery.sequence)
            return 0

    def take(self, delivery: Delivery) -> int:
        """Apply one delivered frame; return how many rows wait for the next commit."""
        gathering = self._commits.gathering
        try:
            frame = frames_pb2.ResultFrame.FromString(delivery.data)
        except DecodeError:
            self._tell_garbage(delivery)
            gathering.acks.append(delivery.token)
            self._commits.wake()
            return gathering.rows()
        unknown = self.apply(frame)
        if unknown:
            # Engines name no executor: what one of them forwarded is not passed on at once, or
            # two that disagree about an owner would play ball with it.
            passed = not frame.executor and delivery.deliveries == 1
            self._jobs.spawn(self._resolve(delivery, unknown, passed=passed))
        else:
            gathering.acks.append(delivery.token)
        self._commits.wake()
        return gathering.rows()

    def apply(self, frame: frames_pb2.ResultFrame) -> list[frames_pb2.QueuedResult]:
        """Apply the results of executions in memory; return those of all others."""
        now_us = self._clock.now_us()
        states = self._live.states
        recent = self._live.recent
        closing = self._live.closing
        effects = self._commits.gathering.effects
        chance = self._chance
        apply = machine.apply
        unknown: list[frames_pb2.QueuedResult] = []
        stale = 0
        for result in frame.results:
            execution = result.execution
            state = states.get(execution)
            if closing and partition_of(execution) in closing:
                unknown.append(result)
                continue
            if state is None:
                if execution in recent:
                    stale += 1
                else:
                    unknown.append(result)
                continue
            try:
                if not apply(state, outcome_of(result), now_us, chance, effects):
                    stale += 1
            except Exception as error:  # noqa: BLE001 (only this execution pays)
                self._commits.broken(state, error)
                effects = self._commits.gathering.effects
        counters = self._counters
        counters.add("results", len(frame.results))
        if stale:
            counters.add("results_stale", stale)
        return unknown

    def _tell_garbage(self, delivery: Delivery) -> None:
        self._counters.add("results_garbage")
        if not self._garbage_told:
            self._garbage_told = True
            log.error(
                "result_frame_unreadable", sequence=delivery.sequence, bytes=len(delivery.data)
            )

    async def _resolve(
        self, delivery: Delivery, unknown: list[frames_pb2.QueuedResult], *, passed: bool
    ) -> None:
        """Find the executions of results in SQL, or their owners; then ack."""
        live = self._live
        foreign: dict[int, frames_pb2.ResultFrame] = {}
        try:
            for result in unknown:
                execution = result.execution
                if execution > ID_MAX:
                    continue
                if live.owns(execution):
                    await self._adopt(result)
                elif live.claims(execution):
                    self._queue.nak(delivery.token, RECOVERING_NAK_S)
                    return
                else:
                    slot = await self.owner_slot(execution)
                    if slot is None or slot == live.slot or passed or live.lease is None:
                        self._queue.nak(delivery.token, FOREIGN_NAK_S)
                        return
                    frame = foreign.setdefault(slot, frames_pb2.ResultFrame())
                    frame.results.append(result)
            for slot, frame in foreign.items():
                await self._queue.publish(f"results.{slot}", frame.SerializeToString())
                self._counters.add("results_forwarded", len(frame.results))
        except (Conflict, DependencyDown, QueueDown):
            self._queue.nak(delivery.token, FOREIGN_NAK_S)
            return
        self._commits.gathering.acks.append(delivery.token)
        self._commits.wake()

    async def _adopt(self, result: frames_pb2.QueuedResult) -> None:
        """Apply a result to an execution that was not in memory."""
        try:
            state = await self._adoption.load(result.execution)
        except (Conflict, DependencyDown):
            raise
        except DomainError as error:
            # Its history or plan is broken: recovery quarantines it, the result cannot count.
            log.warning("result_unusable", execution=result.execution, reason=error.reason)
            return
        applied = state is not None and self._steps.apply(
            state, outcome_of(result), self._clock.now_us()
        )
        if not applied:
            self._counters.add("results_stale")
