"""Control of executions: cancel, pause, resume, retry, reset, rerun, signals."""

from typing import Any, cast

import orjson

from bend.v1 import engine_service_pb2 as engine_pb
from bend.v1 import execution_control_pb2 as pb
from bend.v1 import execution_pb2
from bend_server.ports.engine import RunOpened
from bend_server.ports.store import ExecutionSummary
from bend_server.rpc import control_requests, rest_json
from bend_server.rpc.engine_service.call import Call, call_of, header
from bend_server.rpc.engine_service.starts import Starter
from bend_server.rpc.parameters import checked_object
from bend_server.rpc.rooms import Rooms

Status = execution_pb2.Execution.Status


def request_id_of(request: Any, context: Any) -> str:
    """Return the call's request id: the message's, else the header x-request-id's."""
    return str(getattr(request, "request_id", "")) or header(context, "x-request-id")[:128]


def plain(text: str) -> str:
    """Return text that every database stores."""
    return text.replace("\0", "")


class ControlRpcs:
    """CancelExecution, Pause…, Resume…, Retry…, Reset…, Rerun…, SignalExecution."""

    _rooms: Rooms
    _starter: Starter

    async def CancelExecution(self, request: engine_pb.CancelExecutionRequest, context: Any) -> Any:
        call, summary = await self._asked(request, context)
        status = await self._rooms.engine.cancel(
            summary.id,
            reason=plain(request.reason),
            actor=call.peer.subject,
            request_id=request_id_of(request, context),
        )
        return engine_pb.CancelExecutionResponse(
            execution_id=summary.public_id, status=cast("Status", int(status))
        )

    async def PauseExecution(self, request: pb.PauseExecutionRequest, context: Any) -> Any:
        call, summary = await self._asked(request, context)
        status = await self._rooms.engine.pause(
            summary.id,
            reason=plain(request.reason),
            actor=call.peer.subject,
            request_id=request_id_of(request, context),
        )
        return pb.PauseExecutionResponse(
            execution_id=summary.public_id, status=cast("Status", int(status))
        )

    async def ResumeExecution(self, request: pb.ResumeExecutionRequest, context: Any) -> Any:
        call, summary = await self._asked(request, context)
        status = await self._rooms.engine.resume(
            summary.id, actor=call.peer.subject, request_id=request_id_of(request, context)
        )
        return pb.ResumeExecutionResponse(
            execution_id=summary.public_id, status=cast("Status", int(status))
        )

    async def RetryExecution(self, request: pb.RetryExecutionRequest, context: Any) -> Any:
        call, summary = await self._asked(request, context)
        opened = await self._rooms.engine.retry(
            summary.id,
            reason=plain(request.reason),
            actor=call.peer.subject,
            request_id=request.request_id,
        )
        return _opened(pb.RetryExecutionResponse, summary, opened)

    async def ResetExecution(self, request: pb.ResetExecutionRequest, context: Any) -> Any:
        call, summary = await self._asked(request, context)
        opened = await self._rooms.engine.reset(
            summary.id,
            task=request.task,
            reason=plain(request.reason),
            actor=call.peer.subject,
            request_id=request.request_id,
        )
        return _opened(pb.ResetExecutionResponse, summary, opened)

    async def RerunExecution(self, request: pb.RerunExecutionRequest, context: Any) -> Any:
        if request.HasField("body"):
            request = control_requests.rerun_from_body(request.execution_id, request.body)
        call, summary = await self._asked(request, context)
        start = engine_pb.StartRequest(
            workflow=summary.workflow,
            revision=request.revision or summary.revision,
            parameters=_parameters(request, summary),
            request_id=request.request_id,
            labels=orjson.loads(summary.labels or b"{}"),
        )
        _, outcome = (await self._starter.start(call, [start], rerun_of=summary.id))[0]
        if outcome.error is not None:
            raise outcome.error
        if call.rest:
            shown = {
                "execution_id": outcome.public_id,
                "created": outcome.created,
                "rerun_of": summary.public_id,
            }
            return pb.RerunExecutionResponse(body=rest_json.body(shown))
        return pb.RerunExecutionResponse(execution_id=outcome.public_id, created=outcome.created)

    async def SignalExecution(self, request: pb.SignalExecutionRequest, context: Any) -> Any:
        if request.HasField("body"):
            request = control_requests.signal_from_body(request.execution_id, request.body)
        name = control_requests.check_name(request.name)
        payload = control_requests.checked_payload(request.payload, "payload")
        call, summary = await self._asked(request, context)
        delivered = await self._rooms.engine.signal(
            summary.id,
            name=name,
            payload=payload,
            actor=call.peer.subject,
            request_id=request.request_id,
        )
        return pb.SignalExecutionResponse(execution_id=summary.public_id, delivered=delivered)

    async def _asked(self, request: Any, context: Any) -> tuple[Call, ExecutionSummary]:
        """Return the call and the execution that it is about. Raises NotFound."""
        call = call_of(context)
        return call, await self._rooms.execution(call.namespace, request.execution_id)


def _parameters(request: pb.RerunExecutionRequest, summary: ExecutionSummary) -> bytes:
    """Return a rerun's parameters: the old ones, the new ones, or these over those."""
    old = summary.input or b"{}"
    if not request.parameters:
        return old
    checked_object(request.parameters)
    if not request.merge:
        return request.parameters
    return control_requests.merged_object(old, request.parameters)


def _opened(kind: Any, summary: ExecutionSummary, opened: RunOpened) -> Any:
    return kind(
        execution_id=summary.public_id,
        status=cast("Status", int(opened.status)),
        run=opened.run,
    )
