"""Watches: one execution in full, or the completions of many."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import execution_pb2
from bend_server.core.ids import parse_public_id
from bend_server.ports.engine import Ended
from bend_server.ports.store import ExecutionSummary
from bend_server.rpc import messages
from bend_server.rpc.engine_service.call import Call, call_of, header
from bend_server.rpc.engine_service.starts import Recent, Starter
from bend_server.rpc.execution_watch import ExecutionWatch
from bend_server.rpc.rooms import Rooms, unknown_execution
from bend_server.rpc.watch_events import KEEPALIVE, Event, Framing, read_cursor, to_message

BATCH_MAX = 1000
# Below the 4 MiB that a client takes by default.
BATCH_BYTES_MAX = 2 * 1024 * 1024


class WatchRpcs:
    """WatchExecution, WatchExecutions."""

    _rooms: Rooms
    _starter: Starter

    async def WatchExecution(
        self, request: pb.WatchExecutionRequest, context: Any
    ) -> AsyncIterator[pb.WatchExecutionResponse]:
        call = call_of(context)
        rooms = self._rooms
        summary = await rooms.execution(call.namespace, request.execution_id)
        cursor = request.cursor or (header(context, "last-event-id") if call.rest else "")
        after = read_cursor(cursor, summary.id) if cursor else None
        plan = await rooms.plans.plan(summary.namespace, summary.workflow, summary.revision)
        watch = ExecutionWatch(rooms, summary, plan, after=after, states_only=request.states_only)
        form = Framing(header(context, "accept")).frame if call.rest else to_message
        if call.rest and after is not None:
            # The gateway sends the response's headers with the first message only.
            yield form(Event(cursor, rooms.clock.now_us(), KEEPALIVE))
        async with contextlib.aclosing(watch.events()) as events:  # type: ignore[type-var]
            async for event in events:
                yield form(event)

    async def WatchExecutions(
        self, request: pb.WatchExecutionsRequest, context: Any
    ) -> AsyncIterator[pb.WatchExecutionsResponse]:
        call = call_of(context)
        wanted = await self._found(call, list(dict.fromkeys(request.execution_ids)))
        batches = self._rooms.engine.ended(list(wanted))
        async with contextlib.aclosing(batches) as ended:  # type: ignore[type-var]
            async for batch in ended:
                async for answer in self._answers(call, wanted, batch, request.include_payloads):
                    yield answer

    async def _found(self, call: Call, public_ids: list[str]) -> dict[int, tuple[str, Recent]]:
        """Return internal id → (public id, facts). Raises NotFound for the first unknown one."""
        found: dict[str, Recent] = {}
        asked: dict[int, str] = {}
        for public_id in public_ids:
            recent = self._starter.recent(call.namespace, public_id)
            if recent is not None:
                found[public_id] = recent
            elif (internal := parse_public_id(public_id)) is not None:
                asked[internal] = public_id
        reads, ids = self._rooms.reads, list(asked)
        for first in range(0, len(ids), BATCH_MAX):
            page = ids[first : first + BATCH_MAX]
            for row in await reads.executions_by_id(call.namespace, page, payloads=False):
                if row.public_id == asked[row.id]:
                    found[row.public_id] = _recent(row)
        for public_id in public_ids:
            if public_id not in found:
                summary = await reads.execution(call.namespace, public_id)
                if summary is None:
                    raise unknown_execution(public_id)
                found[public_id] = _recent(summary)
        return {
            found[public_id].execution: (public_id, found[public_id]) for public_id in public_ids
        }

    async def _answers(
        self,
        call: Call,
        wanted: dict[int, tuple[str, Recent]],
        batch: Sequence[Ended],
        payloads: bool,
    ) -> AsyncIterator[pb.WatchExecutionsResponse]:
        elsewhere = [entry.execution for entry in batch if entry.finish is None]
        rows: dict[int, ExecutionSummary] = {}
        for first in range(0, len(elsewhere), BATCH_MAX):
            page = elsewhere[first : first + BATCH_MAX]
            for row in await self._rooms.reads.executions_by_id(
                call.namespace, page, payloads=payloads
            ):
                rows[row.id] = row
        answer, size = pb.WatchExecutionsResponse(), 0
        for entry in batch:
            message = await self._message(call, wanted, entry, rows, payloads)
            if message is None:
                continue
            answer.executions.append(message)
            size += message.ByteSize()
            if size >= BATCH_BYTES_MAX or len(answer.executions) >= BATCH_MAX:
                yield answer
                answer, size = pb.WatchExecutionsResponse(), 0
        if answer.executions:
            yield answer

    async def _message(
        self,
        call: Call,
        wanted: dict[int, tuple[str, Recent]],
        entry: Ended,
        rows: dict[int, ExecutionSummary],
        payloads: bool,
    ) -> execution_pb2.Execution | None:
        public_id, recent = wanted[entry.execution]
        finish = entry.finish
        if finish is None:
            row = rows.get(entry.execution)
            if row is None:
                return None
            summary = row
        else:
            summary = ExecutionSummary(
                id=entry.execution,
                public_id=public_id,
                namespace=call.namespace,
                workflow=recent.workflow,
                revision=recent.revision,
                run=finish.run,
                status=finish.status,
                pause_reason=None,
                labels=b"{}",
                input=None,
                output=finish.output if payloads else None,
                blob=finish.blob,
                error=finish.error if payloads else None,
                parent=None,
                started_us=recent.started_us,
                finished_us=finish.finished_us,
            )
        if payloads:
            summary = await self._rooms.with_output(summary)
        return messages.execution_message(summary, summary.finished_us or 0)


def _recent(row: ExecutionSummary) -> Recent:
    return Recent(row.id, row.workflow, row.revision, row.started_us)
