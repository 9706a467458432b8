"""Long-running tasks over a broken stream: parked for a while, then adopted or run again.

Any executor may adopt: the sealed token that came with the task carries what it needs, also the
ack of the frame. The others hear of it and let go without handing the frame back.
"""

import asyncio

import structlog
from google.protobuf.message import DecodeError

from bend.internal.v1 import control_pb2, frames_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.executor import holes, tokens
from bend_server.executor.dispatch import Dispatch
from bend_server.executor.groups import Group
from bend_server.executor.holdings import (
    ENDED,
    NEVER,
    OUTBOX,
    PARKED,
    QUEUED,
    RUNNING,
    Frame,
    Held,
    key_of,
    task_key,
)
from bend_server.executor.inquiry import closed_keys
from bend_server.executor.options import ExecutorOptions
from bend_server.executor.sessions import Session
from bend_server.ports.links import Secrets
from bend_server.ports.queue import Queue

ADOPTED = "executor.adopted"

_log = structlog.get_logger(__name__)


class Resumption:
    """Parks and adopts."""

    def __init__(
        self, dispatch: Dispatch, queue: Queue, secrets: Secrets, options: ExecutorOptions
    ) -> None:
        self._secrets = secrets
        self._dispatch = dispatch
        self._queue = queue
        self._options = options
        self._loop = asyncio.get_running_loop()

    def park(self, held: Held) -> None:
        """Keep a task for its service, for `resume_grace_s`."""
        held.state = PARKED
        held.session = None
        held.parked_until = self._loop.time() + self._options.resume_grace_s
        self._dispatch.parked[held.run_id] = held

    async def adopt(self, session: Session, hello: pb.Hello) -> list[int]:
        """Take over what a service says that it still runs; return the run ids it may keep."""
        kept: list[int] = []
        foreign: list[tokens.Resumption] = []
        groups = {group.id: group for group in session.groups}
        now_us = self._dispatch.clock.now_us()
        for claim in hello.held:
            facts = tokens.unseal(self._options.resume_key, claim.resume_token, now_us)
            if (
                facts is None
                or facts.run_id != claim.run_id
                or facts.namespace != session.namespace
                or facts.instance != session.instance_id
                or facts.group not in groups
            ):
                continue
            held = self._dispatch.parked.pop(claim.run_id, None)
            if held is not None:
                self._resume(held, groups[facts.group], session)
                kept.append(claim.run_id)
            else:
                foreign.append(facts)
        if foreign:
            kept += await self._take_over(session, groups, foreign)
        return kept

    def _resume(self, held: Held, group: Group, session: Session) -> None:
        held.group = group
        held.state = RUNNING
        held.session = session
        held.parked_until = NEVER
        session.running[held.run_id] = held
        session.free -= 1
        session.due(min(held.deadline, held.heartbeat_at, held.cancel_at))

    async def _take_over(
        self, session: Session, groups: dict[str, Group], foreign: list[tokens.Resumption]
    ) -> list[int]:
        """Adopt what other executors handed over, as far as the engine still wants it."""
        by_slot: dict[int, list[tokens.Resumption]] = {}
        for facts in foreign:
            by_slot.setdefault(facts.slot, []).append(facts)
        adopted: list[Held] = []
        for slot, wanted in by_slot.items():
            keys = [(f.execution, f.task, f.item, f.try_) for f in wanted]
            closed = await closed_keys(self._queue, slot, keys)
            for key, facts in zip(keys, wanted, strict=True):
                if key in closed:
                    continue
                # What a secret could leak through cannot be scrubbed without its value.
                found = await holes.traces_of(facts.secrets, facts.namespace, self._secrets)
                held = self._held_for(groups[facts.group], facts) if found is not None else None
                if held is not None and found is not None:
                    held.secrets, held.secret_names = found, facts.secrets
                    self._resume(held, groups[facts.group], session)
                    adopted.append(held)
        if adopted:
            notice = control_pb2.StartedNotice(
                keys=[task_key(held.key) for held in adopted],
                workers=[self._options.name] * len(adopted),
            )
            await self._queue.broadcast(ADOPTED, notice.SerializeToString())
        return [held.run_id for held in adopted]

    def _held_for(self, group: Group, facts: tokens.Resumption) -> Held | None:
        """Return the holding to resume; None when the try runs or ran here already."""
        key = (facts.execution, facts.task, facts.item, facts.try_)
        ledger = self._dispatch.ledger
        now = self._loop.time()
        held = ledger.held.get(key)
        if held is None:
            identity = (facts.group, facts.sequence, facts.published_us)
            wait = self._options.ack_wait_long_s
            frame = ledger.frames.get(identity) or Frame(
                identity, facts.ack_token, 1, facts.slot, wait, now - wait
            )
            frame.left += 1
            ledger.frames[identity] = frame
            queued = frames_pb2.QueuedTask(
                execution=facts.execution,
                task=facts.task,
                item=facts.item,
                attempt=facts.attempt,
                component=facts.component,
                task_id=facts.task_id,
                heartbeat_timeout_ms=facts.heartbeat_timeout_ms,
            )
            setattr(queued, "try", facts.try_)
            held = ledger.held[key] = Held(key, frame, group, queued)
            held.adopted = True
        elif held.state not in (QUEUED, OUTBOX):
            return None
        left_us = facts.deadline_us - self._dispatch.clock.now_us()
        held.deadline = now + left_us / 1_000_000 if facts.deadline_us else NEVER
        if facts.heartbeat_timeout_ms and group.contract.heartbeats:
            held.heartbeat_at = now + facts.heartbeat_timeout_ms / 1000
        held.run_id = facts.run_id
        held.started_us = facts.started_us
        held.since = now
        held.worker = facts.instance
        return held

    async def heard(self, data: bytes) -> None:
        """Another executor adopted tasks: let go of those that are parked here."""
        try:
            notice = control_pb2.StartedNotice.FromString(data)
        except DecodeError:
            self._dispatch.warn("adoption_notice_malformed")
            return
        if self._options.name in notice.workers:
            return
        for key in notice.keys:
            held = self._dispatch.ledger.held.get(key_of(key))
            if held is not None and held.state in (PARKED, QUEUED):
                self._dispatch.parked.pop(held.run_id, None)
                held.state = ENDED
                self._dispatch.ledger.forget(held)
