"""Time: attempts that take too long, silent streams, cancels that are not obeyed.

One periodic look at what can be due, instead of a timer for each task.
"""

import asyncio

from bend.internal.v1 import control_pb2
from bend_server.core.errors import DependencyDown
from bend_server.executor import outcomes
from bend_server.executor.dispatch import Dispatch
from bend_server.executor.groups import Group
from bend_server.executor.holdings import ENDED, NEVER, PARKED, QUEUED, RUNNING, Held
from bend_server.executor.holdings import task_key as to_proto
from bend_server.executor.options import STALL_S, STARTED_KEYS_MAX, STARTED_S, ExecutorOptions
from bend_server.executor.outcomes import CANCELLED, TIMED_OUT
from bend_server.executor.sessions import Session
from bend_server.ports.queue import Queue


class Deadlines:
    """Looks after times; `look` is called every 250 ms."""

    def __init__(self, dispatch: Dispatch, queue: Queue, options: ExecutorOptions) -> None:
        self._dispatch = dispatch
        self._queue = queue
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._second = 0.0

    async def look(self, sessions: list[Session], groups: list[Group]) -> None:
        """End what is over its time; tell engines what runs for long."""
        now = self._loop.time()
        for session in sessions:
            if session.heard_at + self._options.silence_s <= now:
                session.end(DependencyDown("the stream was silent for too long"))
            if session.next_due <= now:
                self._session(session, now)
        self._parked(now)
        if now >= self._second:
            self._second = now + 1.0
            self._dispatch.ledger.progress(now)
            self._dispatch.ledger.expire(now)
            for group in groups:
                self._queued(group)
                if group.queue and group.progress_at + STALL_S <= now and group.best() is None:
                    self._dispatch.give_back(group)
            await self._tell(sessions, now)

    def _session(self, session: Session, now: float) -> None:
        due = NEVER
        for held in list(session.running.values()):
            if held.state == ENDED:
                continue
            if held.cancel_at <= now:
                self._dispatch.end(held, CANCELLED, outcomes.stopped())
            elif self.over(held, now):
                session.cancel(held.run_id)
            else:
                due = min(due, held.deadline, held.heartbeat_at, held.cancel_at)
        session.next_due = due

    def over(self, held: Held, now: float) -> bool:
        """End a try whose attempt or heartbeat is over its time; tell whether it was."""
        if held.deadline <= now:
            seconds = held.queued.timeout_ms / 1000
            text = f"the attempt took longer than {seconds:g} s" if seconds else "time is over"
            failure = outcomes.failure("TIMEOUT", text, retryable=True)
        elif held.heartbeat_at <= now:
            seconds = held.queued.heartbeat_timeout_ms / 1000
            text = f"no heartbeat for {seconds:g} s"
            failure = outcomes.failure("HEARTBEAT_TIMEOUT", text, retryable=True)
        else:
            return False
        self._dispatch.end(held, TIMED_OUT, failure)
        return True

    def _parked(self, now: float) -> None:
        parked = self._dispatch.parked
        touched: dict[Group, None] = {}
        for run_id, held in list(parked.items()):
            if self.over(held, now):
                del parked[run_id]
            elif held.parked_until <= now:
                del parked[run_id]
                self._dispatch.lost(held)
                touched[held.group] = None
        for group in touched:
            self._dispatch.route(group)

    def _queued(self, group: Group) -> None:
        if not group.queue:
            return
        now_us = self._dispatch.clock.now_us()
        for held in list(group.queue):
            deadline = held.queued.schedule_deadline_us
            if held.state == QUEUED and deadline and deadline < now_us:
                self._dispatch.end(held, TIMED_OUT, outcomes.scheduled_late())
        # Those that ended while they waited take no place.
        waiting = [held for held in group.queue if held.state == QUEUED]
        group.queue.clear()
        group.queue.extend(waiting)

    async def _tell(self, sessions: list[Session], now: float) -> None:
        """Broadcast which tries have been running for over a second."""
        by_slot: dict[int, list[Held]] = {}
        for session in sessions:
            for held in session.running.values():
                if held.since > now - STARTED_S:
                    break
                if held.state == RUNNING and not held.told:
                    held.told = True
                    by_slot.setdefault(held.frame.slot, []).append(held)
        for slot, told in by_slot.items():
            for start in range(0, len(told), STARTED_KEYS_MAX):
                part = told[start : start + STARTED_KEYS_MAX]
                notice = control_pb2.StartedNotice(
                    keys=[to_proto(held.key) for held in part],
                    workers=[held.worker for held in part],
                )
                await self._queue.broadcast(f"engine.started.{slot}", notice.SerializeToString())

    def cancel(self, held: Held) -> None:
        """Stop a try: at once when nobody runs it, else within the grace."""
        if held.state == RUNNING:
            if held.cancel_at == NEVER:
                held.cancel_at = self._loop.time() + self._options.cancel_grace_s
                held.session.due(held.cancel_at)
                held.session.cancel(held.run_id)
        elif held.state != ENDED:
            if held.state == PARKED:
                self._dispatch.parked.pop(held.run_id, None)
            self._dispatch.end(held, CANCELLED, outcomes.stopped())
