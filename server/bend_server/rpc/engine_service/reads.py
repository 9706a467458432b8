"""Reads: committed rows from SQL at any replica, with the owner's overlay where it is here."""

import asyncio
from collections.abc import Sequence
from typing import Any

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import execution_pb2
from bend_server.core.errors import InvalidInput, NotFound
from bend_server.core.model import EXECUTION_TERMINAL, EventKind, ExecutionStatus
from bend_server.ports.engine import TaskOverlay
from bend_server.ports.store import ExecutionSummary
from bend_server.rpc import messages, paging, rest_json, views
from bend_server.rpc.engine_service.call import Call, call_of, wait_seconds
from bend_server.rpc.engine_service.outputs import page_with_outputs, with_outputs
from bend_server.rpc.folded_views import NEW_RUNS, FoldedViews
from bend_server.rpc.rooms import OUTPUT_BYTES_MAX, Rooms

TASKS_SHOWN_MAX = 1000
SLICE = 1000
# What rows of results alone do not tell.
FOLDED = NEW_RUNS | {int(EventKind.PAUSED)}
ACTIVE = tuple(int(status) for status in ExecutionStatus if status not in EXECUTION_TERMINAL)


async def execution_tasks(
    rooms: Rooms, summary: ExecutionSummary, overlay: list[TaskOverlay] | None = None
) -> list[views.TaskView]:
    """Return an execution's tasks in the document's order, without outputs of blobs."""
    plan = await rooms.plans.plan(summary.namespace, summary.workflow, summary.revision)
    live = not views.is_terminal(summary.status) and summary.status != ExecutionStatus.PENDING
    if overlay is None:
        overlay = rooms.engine.waiting(summary.id) if live else []
    rows, events = await rooms.reads.history(summary.id)
    if plan.plain and not any(event.kind in FOLDED for event in events):
        return views.task_views(plan, rows, overlay, live=live)
    made = FoldedViews(plan, summary, rows, events, overlay).views()
    return await _with_children(rooms, summary.namespace, made)


async def _with_children(
    rooms: Rooms, namespace: str, tasks: list[views.TaskView]
) -> list[views.TaskView]:
    """Return tasks with the public ids of the executions that they started."""
    wanted = sorted({task.child for task in tasks if task.child})
    names: dict[int, str] = {}
    for first in range(0, len(wanted), SLICE):
        found = await rooms.reads.executions_by_id(
            namespace, wanted[first : first + SLICE], payloads=False
        )
        names |= {one.id: one.public_id for one in found}
    if not names:
        return tasks
    return [
        task._replace(child_name=names.get(task.child, "")) if task.child else task
        for task in tasks
    ]


async def task_messages(tasks: list[views.TaskView]) -> list[execution_pb2.TaskRun]:
    """Return tasks as messages, in slices: the loop also serves others."""
    made: list[execution_pb2.TaskRun] = []
    for first in range(0, len(tasks), SLICE):
        if first:
            await asyncio.sleep(0)
        made += [messages.task_message(task) for task in tasks[first : first + SLICE]]
    return made


def label_of(text: str) -> tuple[str, str] | None:
    """Return the label that a filter names as `key=value`; None for an empty one.

    Raises:
        InvalidInput: not of that form.
    """
    if not text:
        return None
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidInput("label must be `key=value`", field="label")
    return key, value


class ReadRpcs:
    """GetExecution, ListExecutions, ListActiveExecutions, WaitExecution, ListTaskRuns."""

    _rooms: Rooms

    async def GetExecution(self, request: pb.GetExecutionRequest, context: Any) -> Any:
        call = call_of(context)
        rooms = self._rooms
        summary = await rooms.execution(call.namespace, request.execution_id)
        summary = await rooms.with_output(summary)
        overlay = [] if views.is_terminal(summary.status) else rooms.engine.waiting(summary.id)
        tasks: list[views.TaskView] | None = None
        every: list[views.TaskView] = []
        if request.include_tasks or call.rest:
            every = await execution_tasks(rooms, summary, overlay)
            left = OUTPUT_BYTES_MAX - len(summary.output or b"") - len(summary.input or b"")
            tasks = await with_outputs(rooms, every[:TASKS_SHOWN_MAX], every, left)
        waiting = views.queue_sentences(summary)
        if not waiting and any(entry.waiting for entry in overlay):
            plan = await rooms.plans.plan(summary.namespace, summary.workflow, summary.revision)
            waiting = views.waiting_sentences(plan, overlay)
        if not waiting and tasks:
            waiting = views.task_sentences(every)  # parked, or elsewhere: rows tell
        parent, rerun_of = await self._relatives(summary)
        now_us = rooms.clock.now_us()
        if call.rest:
            shown = rest_json.execution(
                summary, now_us, tasks=tasks, waiting=waiting, parent=parent, rerun_of=rerun_of
            )
            return pb.GetExecutionResponse(body=rest_json.body(shown))
        return pb.GetExecutionResponse(
            execution=messages.execution_message(
                summary, now_us, parent=parent, rerun_of=rerun_of, waiting=waiting
            ),
            tasks=await task_messages(tasks or []),
        )

    async def _relatives(self, summary: ExecutionSummary) -> tuple[str, str]:
        """Return the public ids of the parent and of the execution that this one repeats."""
        wanted = [other for other in (summary.parent, summary.rerun_of) if other is not None]
        if not wanted:
            return "", ""
        found = await self._rooms.reads.executions_by_id(summary.namespace, wanted, payloads=False)
        names = {other.id: other.public_id for other in found}
        return names.get(summary.parent or 0, ""), names.get(summary.rerun_of or 0, "")

    async def WaitExecution(self, request: pb.WaitExecutionRequest, context: Any) -> Any:
        call = call_of(context)
        wait_s = wait_seconds(request.wait_timeout, context)
        rooms = self._rooms
        summary = await rooms.execution(call.namespace, request.execution_id)
        if not views.is_terminal(summary.status):
            await rooms.engine.wait(summary.id, wait_s)
            summary = await rooms.execution(call.namespace, request.execution_id)
        summary = await rooms.with_output(summary)
        now_us = rooms.clock.now_us()
        if call.rest:
            return pb.WaitExecutionResponse(
                body=rest_json.body(rest_json.execution(summary, now_us))
            )
        return pb.WaitExecutionResponse(execution=messages.execution_message(summary, now_us))

    async def ListExecutions(self, request: pb.ListExecutionsRequest, context: Any) -> Any:
        call = call_of(context)
        label = label_of(request.label)
        scope = ("executions", call.namespace, request.workflow, *request.statuses, label)
        found, token = await self._page(
            call,
            scope,
            request,
            workflow=request.workflow or None,
            statuses=list(request.statuses),
            label=label,
        )
        return self._listed(pb.ListExecutionsResponse, call, found, token)

    async def ListActiveExecutions(
        self, request: pb.ListActiveExecutionsRequest, context: Any
    ) -> Any:
        call = call_of(context)
        found, token = await self._page(
            call,
            ("active", call.namespace),
            request,
            workflow=None,
            statuses=list(ACTIVE),
            label=None,
        )
        return self._listed(pb.ListActiveExecutionsResponse, call, found, token)

    async def _page(
        self,
        call: Call,
        scope: tuple[object, ...],
        request: Any,
        *,
        workflow: str | None,
        statuses: list[int],
        label: tuple[str, str] | None,
    ) -> tuple[list[ExecutionSummary], str]:
        size = paging.page_size(request.page_size)
        before: tuple[int, int] | None = None
        if request.page_token:
            started_us, last = paging.read_token(scope, request.page_token, int, 2)
            before = (int(str(started_us)), int(str(last)))
        found = await self._rooms.reads.executions(
            call.namespace,
            workflow=workflow,
            statuses=statuses,
            label=label,
            before=before,
            limit=size + 1,
        )
        if len(found) <= size:
            return found, ""
        found = found[:size]
        return found, paging.make_token(scope, [found[-1].started_us, found[-1].id])

    def _listed(self, kind: Any, call: Call, found: list[ExecutionSummary], token: str) -> Any:
        now_us = self._rooms.clock.now_us()
        if call.rest:
            shown = [rest_json.execution(entry, now_us, payloads=False) for entry in found]
            return kind(body=rest_json.body({"executions": shown, "next_page_token": token}))
        return kind(
            executions=[messages.execution_message(entry, now_us) for entry in found],
            next_page_token=token,
        )

    async def ListTaskRuns(self, request: pb.ListTaskRunsRequest, context: Any) -> Any:
        call = call_of(context)
        rooms = self._rooms
        summary = await rooms.reads.execution(call.namespace, request.execution_id)
        if summary is None:
            raise NotFound(f"no execution {request.execution_id!r}", execution=request.execution_id)
        scope = ("tasks", call.namespace, request.execution_id)
        first = listing = 0
        every: Sequence[views.TaskView] | None = None
        if request.page_token:
            position = paging.read_token(scope, request.page_token, int, 2)
            first, listing = max(0, int(str(position[0]))), int(str(position[1]))
            every = rooms.listings.find(summary.id, listing)
        kept = every is not None
        if every is None:
            every = await execution_tasks(rooms, summary)
        page = every[first : first + paging.page_size(request.page_size)]
        tasks = await page_with_outputs(rooms, page, every)
        after = first + len(tasks)
        token = ""
        if after < len(every):
            listing = listing if kept else rooms.listings.keep(summary.id, every)
            token = paging.make_token(scope, [after, listing])
        if call.rest:
            shown = [rest_json.task(task) for task in tasks]
            return pb.ListTaskRunsResponse(
                body=rest_json.body({"tasks": shown, "next_page_token": token})
            )
        return pb.ListTaskRunsResponse(tasks=await task_messages(tasks), next_page_token=token)
