"""One watch of one execution: durable events from SQL in order, then what happens live.

The engine only says that something was committed; rows are read after the last seq shown, so an
event is shown once its transaction has committed, and never twice in one watch. Partial outputs
come from the queue and are provisional: where some are missing, a GAP says so.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import orjson

from bend.internal.v1 import frames_pb2
from bend_server.core.ids import partition_of
from bend_server.core.model import EventKind, EventRow, ResultRow, TaskStatus
from bend_server.core.plan import Plan
from bend_server.ports.engine import TaskOverlay
from bend_server.ports.store import ExecutionSummary
from bend_server.rpc import views, watch_events
from bend_server.rpc.chunk_tails import Backlog, Chunk
from bend_server.rpc.rooms import Rooms, unknown_execution
from bend_server.rpc.transient_states import TransientStates
from bend_server.rpc.watch_events import Event, Position

KEEPALIVE_S = 15.0
LAST_CHUNKS_S = 1.0
RECENT_US = 5_000_000
SHOWN_EVENTS = {
    EventKind.CANCEL_REQUESTED: "RUNNING",
    EventKind.FAILING: "RUNNING",
    EventKind.EXECUTION_TIMED_OUT: "RUNNING",
    EventKind.RESUMED: "RUNNING",
    EventKind.PAUSED: "PAUSED",
    EventKind.QUARANTINED: "PAUSED",
    EventKind.RETRIED: "RUNNING",
    EventKind.RESET: "RUNNING",
    EventKind.SIGNALLED: "RUNNING",
    EventKind.DECIDED: "RUNNING",
    EventKind.HANDLING_FAILURE: "RUNNING",
    EventKind.COMPENSATING: "RUNNING",
}
# Events that are a task's own: what it does from then on.
TASK_EVENTS = {
    EventKind.WAITING: TaskStatus.WAITING,
    EventKind.CHILD_STARTED: TaskStatus.RUNNING,
    EventKind.ITEMS_COUNTED: TaskStatus.RUNNING,
}
NEW_RUNS = (EventKind.RETRIED, EventKind.RESET)
# What recovery needs and nobody watches: parts of some bodies that may be large.
UNSHOWN = {EventKind.ITEMS_COUNTED: "items", EventKind.PAUSED: "open"}
_CHUNK_KINDS = {1: watch_events.PARTIAL, 2: watch_events.LOG}


class ExecutionWatch:
    """Makes the events of one watch.

    Args:
        rooms: the servicer's dependencies.
        summary: the execution as it stood when the watch began.
        plan: its plan.
        after: where to go on; None: from the beginning.
        states_only: leave partial outputs and logs out.
    """

    def __init__(
        self,
        rooms: Rooms,
        summary: ExecutionSummary,
        plan: Plan,
        *,
        after: Position | None,
        states_only: bool,
        keepalive_s: float = KEEPALIVE_S,
    ) -> None:
        self._rooms = rooms
        self._summary = summary
        self._plan = plan
        self._fresh = after is None
        self._at = after or Position(-1, 0, 0)
        self._chunks_wanted = not states_only
        self._keepalive_s = keepalive_s
        self._wake = asyncio.Event()
        self._states = TransientStates(len(plan.tasks))
        self._next_index: dict[int, int] = {}
        self._counted: dict[int, int] = {}

    async def events(self) -> AsyncIterator[Event]:
        """Yield events until the one that is terminal."""
        if self._fresh:
            yield self._event(watch_events.EXECUTION, self._summary.started_us, status="RUNNING")
        async with contextlib.AsyncExitStack() as stack:
            backlog: Backlog | None = None
            if self._chunks_wanted:
                backlog = await stack.enter_async_context(
                    self._rooms.chunks.follow(
                        partition_of(self._summary.id), self._summary.id, self._wake
                    )
                )
            pump = asyncio.create_task(self._pump(), name=f"watch-{self._summary.id}")
            stack.push_async_callback(_cancelled, pump)
            summary = await self._status()
            for event in await self._durable():
                yield event
            if backlog is not None:
                for event in await self._kept():
                    yield event
            while not views.is_terminal(summary.status):
                if not await self._woken(pump):
                    yield self._event(watch_events.KEEPALIVE, self._rooms.clock.now_us())
                for event in self._arrived(backlog):
                    yield event
                # The status first, then the rows: an end that is seen here has all its rows there.
                summary = await self._status()
                for event in await self._durable(live=not views.is_terminal(summary.status)):
                    yield event
            if backlog is not None:
                for event in await self._last_chunks(backlog, summary):
                    yield event
        yield await self._terminal(summary)

    async def _pump(self) -> None:
        """Turn the engine's word into a wake-up; states are merged until they are taken."""
        if views.is_terminal(self._summary.status):
            return
        updates = self._rooms.engine.watch(self._summary.id)
        async for changed in updates:
            self._states.add(changed)
            self._wake.set()

    async def _woken(self, pump: "asyncio.Task[None]") -> bool:
        """Wait until something may have happened; False: nothing did for a while."""
        woken = True
        try:
            async with asyncio.timeout(self._keepalive_s):
                await self._wake.wait()
        except TimeoutError:
            woken = self._wake.is_set()  # in that very moment
        self._wake.clear()
        if pump.done():
            pump.result()
        return woken

    async def _status(self) -> ExecutionSummary:
        found = await self._rooms.reads.executions_by_id(
            self._summary.namespace, [self._summary.id], payloads=False
        )
        if not found:
            raise unknown_execution(self._summary.public_id)
        return found[0]

    async def _durable(self, *, live: bool = False) -> list[Event]:
        """Return the events of all rows after the last seq, in order; `live`: then open tries."""
        # One moment: a row between two reads would hide one that the first did not see.
        history = await self._rooms.reads.history(self._summary.id, self._at.seq)
        rows: list[ResultRow | EventRow] = [*history.results, *history.events]
        rows.sort(key=lambda row: row.seq)
        shown = []
        for row in rows:
            if isinstance(row, ResultRow):
                shown += [self._of_state(entry) for entry in self._states.closed(row)]
                self._at = self._at._replace(seq=row.seq)
                shown.append(self._of_result(row))
                continue
            self._at = self._at._replace(seq=row.seq)
            if row.kind in SHOWN_EVENTS or row.kind in TASK_EVENTS:
                shown.append(self._of_event(row))
        if live:
            shown += [self._of_state(entry) for entry in self._states.due(max(self._at.seq, 0))]
        return shown

    def _of_result(self, row: ResultRow) -> Event:
        ended = row.retry_at_us is None
        if row.chunks:
            self._counted[row.run_id] = row.chunks
        return self._event(
            watch_events.TASK,
            row.finished_us,
            task=self._plan.tasks[row.task].id,
            item=row.item,
            attempt=row.attempt,
            run_id=row.run_id,
            status=views.task_word(row.status if ended else TaskStatus.WAITING),
            data=row.output or row.error or b"",
        )

    def _of_event(self, row: EventRow) -> Event:
        kind = EventKind(row.kind)
        if kind in NEW_RUNS:
            self._states.new_run()
        said: dict[str, object] = {"event": kind.name, "actor": row.actor}
        if row.body:
            said["body"] = _shown_body(kind, row.body)
        if kind in TASK_EVENTS:
            return self._event(
                watch_events.TASK,
                row.at_us,
                task=self._plan.tasks[row.task].id,
                item=row.item,
                status=views.task_word(TASK_EVENTS[kind]),
                data=orjson.dumps(said),
            )
        return self._event(
            watch_events.EXECUTION,
            row.at_us,
            status=SHOWN_EVENTS[kind],
            data=orjson.dumps(said),
        )

    def _of_state(self, entry: TaskOverlay) -> Event:
        return self._event(
            watch_events.TASK,
            entry.since_us or self._rooms.clock.now_us(),
            task=self._plan.tasks[entry.task].id,
            item=entry.item,
            attempt=entry.attempt,
            status=views.task_word(entry.status),
            data=orjson.dumps({"waiting": entry.waiting}) if entry.waiting else b"",
        )

    async def _kept(self) -> list[Event]:
        """Return the chunks that the queue still holds from before this watch."""
        stream = await self._rooms.chunks.incarnation()
        resumed = self._at.sequence if stream and stream == self._at.stream else 0
        lost = self._at.stream not in (0, stream)
        partition = partition_of(self._summary.id)
        cut, last, found = await self._rooms.chunks.kept(partition, self._summary.id, resumed)
        self._at = self._at._replace(stream=stream, sequence=resumed)
        events = [self._gap()] if lost or cut else []
        events += self._of_chunks(found)
        self._at = self._at._replace(sequence=max(last, resumed))
        return events

    def _arrived(self, backlog: Backlog | None) -> list[Event]:
        if backlog is None:
            return []
        gap, found = backlog.take()
        events = [self._gap()] if gap else []
        return events + self._of_chunks(
            [entry for entry in found if entry.sequence > self._at.sequence]
        )

    async def _last_chunks(self, backlog: Backlog, summary: ExecutionSummary) -> list[Event]:
        """Return chunks that are still on their way: results may overtake them."""
        events = self._arrived(backlog)
        if (summary.finished_us or 0) < self._rooms.clock.now_us() - RECENT_US:
            return events
        try:
            async with asyncio.timeout(LAST_CHUNKS_S):
                while self._missing():
                    self._wake.clear()
                    events += self._arrived(backlog)
                    if self._missing():
                        await self._wake.wait()
                        events += self._arrived(backlog)
        except TimeoutError:
            events.append(self._gap())
        return events

    def _missing(self) -> bool:
        return any(
            self._next_index.get(run_id, 0) < count
            for run_id, count in self._counted.items()
            if self._fresh or run_id in self._next_index
        )

    def _of_chunks(self, found: list[Chunk]) -> list[Event]:
        """Return events; a frame's sequence is the cursor's only after its last chunk."""
        events = []
        for place, (sequence, chunk) in enumerate(found):
            expected = self._next_index.get(chunk.run_id, 0 if self._fresh else chunk.index)
            if chunk.index >= expected:
                if chunk.index > expected:
                    events.append(self._gap())
                self._next_index[chunk.run_id] = chunk.index + 1
                if place + 1 == len(found) or found[place + 1].sequence != sequence:
                    self._at = self._at._replace(sequence=sequence)
                events.append(self._of_chunk(chunk))
        return events

    def _of_chunk(self, chunk: frames_pb2.StoredChunk) -> Event:
        tasks = self._plan.tasks
        return self._event(
            _CHUNK_KINDS.get(chunk.kind, watch_events.PARTIAL),
            chunk.time_us,
            task=tasks[chunk.task].id if chunk.task < len(tasks) else "",
            item=chunk.item - 1,
            attempt=chunk.attempt,
            run_id=chunk.run_id,
            data=chunk.data,
        )

    def _gap(self) -> Event:
        return self._event(watch_events.GAP, self._rooms.clock.now_us())

    async def _terminal(self, summary: ExecutionSummary) -> Event:
        whole = await self._rooms.execution(summary.namespace, summary.public_id)
        whole = await self._rooms.with_output(whole)
        return self._event(
            watch_events.EXECUTION,
            whole.finished_us or whole.started_us,
            status=views.execution_word(whole.status),
            data=(whole.output if whole.error is None else whole.error) or b"",
            terminal=True,
        )

    def _event(
        self,
        kind: int,
        time_us: int,
        *,
        task: str = "",
        item: int = -1,
        attempt: int = 0,
        run_id: int = 0,
        status: str = "",
        data: bytes = b"",
        terminal: bool = False,
    ) -> Event:
        return Event(
            self._at.cursor(self._summary.id),
            time_us,
            kind,
            task,
            item,
            attempt,
            run_id,
            status,
            data,
            terminal,
        )


def _shown_body(kind: EventKind, body: bytes) -> object:
    left_out = UNSHOWN.get(kind)
    if left_out is None:
        return orjson.Fragment(body)
    members = orjson.loads(body)
    members.pop(left_out, None)
    return members


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task], timeout=LAST_CHUNKS_S)
    if not task.cancelled() and task.done():
        task.exception()
