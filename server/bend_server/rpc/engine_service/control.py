"""Control of running executions."""

from typing import Any, cast

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import execution_pb2
from bend_server.rpc.engine_service.call import call_of, header
from bend_server.rpc.rooms import Rooms


class ControlRpcs:
    """CancelExecution."""

    _rooms: Rooms

    async def CancelExecution(self, request: pb.CancelExecutionRequest, context: Any) -> Any:
        call = call_of(context)
        summary = await self._rooms.execution(call.namespace, request.execution_id)
        status = await self._rooms.engine.cancel(
            summary.id,
            reason=request.reason.replace("\0", ""),
            actor=call.peer.subject,
            request_id=header(context, "x-request-id")[:128],
        )
        return pb.CancelExecutionResponse(
            execution_id=summary.public_id,
            status=cast("execution_pb2.Execution.Status", int(status)),
        )
