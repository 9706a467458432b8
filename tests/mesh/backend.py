"""A small real gRPC backend behind the gateway: it answers with what it saw."""

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from bend.v1 import (
    engine_service_pb2 as engine,
)
from bend.v1 import (
    engine_service_pb2_grpc,
    executor_service_pb2,
    executor_service_pb2_grpc,
    operations_service_pb2,
    operations_service_pb2_grpc,
)
from tests.kit.certificates import TestAuthority


def seen(context: Any) -> dict[str, str]:
    """Return the request's metadata."""
    return {key: str(value) for key, value in context.invocation_metadata()}


class Engine(engine_service_pb2_grpc.EngineServiceServicer):  # type: ignore[misc]
    """Echoes requests; fails on request; streams until told to stop."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.proceed = threading.Event()

    def CreateWorkflow(self, request: Any, context: Any) -> Any:
        document = request.document
        response = engine.CreateWorkflowResponse(created=True)
        response.workflow.name = document.content_type
        response.workflow.description = document.data.decode() if len(document.data) < 999 else ""
        response.workflow.revision = len(document.data)
        return response

    def UpdateWorkflow(self, request: Any, context: Any) -> Any:
        response = engine.UpdateWorkflowResponse()
        response.workflow.name = request.name
        response.workflow.description = request.document.data.decode()
        return response

    def ListWorkflows(self, request: Any, context: Any) -> Any:
        return engine.ListWorkflowsResponse(workflows=[{"name": f"size {request.page_size}"}])

    def GetWorkflow(self, request: Any, context: Any) -> Any:
        return engine.GetWorkflowResponse(
            body=HttpBody(content_type="application/json", data=json.dumps(seen(context)).encode())
        )

    def RunWorkflow(self, request: Any, context: Any) -> Any:
        if request.HasField("body"):
            return engine.RunWorkflowResponse(
                body=HttpBody(content_type="application/json", data=request.body.data)
            )
        return engine.RunWorkflowResponse(execution={"execution_id": request.start.workflow})

    def GetExecution(self, request: Any, context: Any) -> Any:
        info = error_details_pb2.ErrorInfo(
            reason="EXECUTION_NOT_FOUND",
            domain="bend.v1",
            metadata={"execution_id": request.execution_id},
        )
        status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="no such execution")
        status.details.add().Pack(info)
        context.abort_with_status(rpc_status.to_status(status))

    def WatchExecution(self, request: Any, context: Any) -> Iterator[Any]:
        sse = "text/event-stream" in seen(context).get("accept", "")
        kind = "text/event-stream" if sse else "application/x-ndjson"
        context.add_callback(self.cancelled.set)

        def event(number: int) -> bytes:
            line = json.dumps({"cursor": str(number), "from": request.cursor})
            return (f"id: {number}\ndata: {line}\n\n" if sse else f"{line}\n").encode()

        yield engine.WatchExecutionResponse(body=HttpBody(content_type=kind, data=event(1)))
        self.proceed.wait(60)
        yield engine.WatchExecutionResponse(body=HttpBody(content_type=kind, data=event(2)))

    def CancelExecution(self, request: Any, context: Any) -> Any:
        return engine.CancelExecutionResponse(
            execution_id=request.execution_id + request.reason, status="CANCELLED"
        )


class Operations(operations_service_pb2_grpc.OperationsServiceServicer):  # type: ignore[misc]
    """Always ready."""

    def GetReadiness(self, request: Any, context: Any) -> Any:
        return operations_service_pb2.GetReadinessResponse(
            body=HttpBody(content_type="application/json", data=b'{"ready":true}')
        )


class Executor(executor_service_pb2_grpc.ExecutorServiceServicer):  # type: ignore[misc]
    """Answers each message of the stream with the peer that the gateway named."""

    def Connect(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        for _ in requests:
            yield executor_service_pb2.ConnectResponse(
                welcome={"executor": seen(context).get("x-bend-peer", "")}
            )


class Backend:
    """The running backend."""

    def __init__(self, server: grpc.Server, port: int, servicer: health.HealthServicer) -> None:
        self.engine = Engine()
        self.port = port
        self._server = server
        self._health = servicer

    def set_serving(self, serving: bool) -> None:
        """Set what the health service says."""
        kind = health_pb2.HealthCheckResponse
        self._health.set("", kind.SERVING if serving else kind.NOT_SERVING)


@contextlib.contextmanager
def backend(authority: TestAuthority, stem: str) -> Iterator[Backend]:
    """Serve all services with one certificate (file name without suffix) while the block lasts."""
    server = grpc.server(
        futures.ThreadPoolExecutor(16),
        options=[("grpc.max_receive_message_length", 64 << 20)],
    )
    credentials = grpc.ssl_server_credentials(
        [
            (
                (authority.folder / f"{stem}.key").read_bytes(),
                (authority.folder / f"{stem}.pem").read_bytes(),
            )
        ],
        root_certificates=authority.ca.read_bytes(),
        require_client_auth=True,
    )
    servicer = health.HealthServicer()
    made = Backend(server, server.add_secure_port("127.0.0.1:0", credentials), servicer)
    engine_service_pb2_grpc.add_EngineServiceServicer_to_server(made.engine, server)
    operations_service_pb2_grpc.add_OperationsServiceServicer_to_server(Operations(), server)
    executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server(Executor(), server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    made.set_serving(True)
    server.start()
    try:
        yield made
    finally:
        made.engine.proceed.set()
        server.stop(0.1).wait(30)
