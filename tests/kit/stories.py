"""Executions, tasks and events for tests of the client's side."""

from typing import Any

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import execution_pb2

Status = execution_pb2.Execution.Status
TaskStatus = execution_pb2.TaskRun.Status
Kind = execution_pb2.WatchEvent


def execution(status: str = "COMPLETED", **fields: Any) -> execution_pb2.Execution:
    """Make an execution `flow-1` of `flow`; times are 2026-01-01T00:00:00Z and a second later."""
    one = execution_pb2.Execution(
        **({"execution_id": "flow-1", "workflow": "flow", "revision": 2, "run": 1} | fields),
        status=Status.Value(status),
    )
    one.start_time.FromJsonString("2026-01-01T00:00:00Z")
    if status in ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"):
        one.finish_time.FromJsonString("2026-01-01T00:00:01.250Z")
        one.duration_ms = 1250
    return one


def task(name: str, status: str = "COMPLETED", **fields: Any) -> execution_pb2.TaskRun:
    """Make a task."""
    given: dict[str, Any] = {"item": -1, "attempt": 1} | fields
    return execution_pb2.TaskRun(task=name, status=TaskStatus.Value(status), **given)


def event(cursor: str, kind: int, **fields: Any) -> pb.WatchExecutionResponse:
    """Make a watch event."""
    one = execution_pb2.WatchEvent(cursor=cursor, type=kind, **({"item": -1} | fields))  # type: ignore[arg-type]
    one.time.FromJsonString("2026-01-01T00:00:00.500Z")
    return pb.WatchExecutionResponse(event=one)


def whole_story() -> list[pb.WatchExecutionResponse]:
    """Return the events of an execution with a partial output and a log line."""
    return [
        event("1", Kind.EXECUTION, status="RUNNING"),
        event("2", Kind.TASK, task="a", status="RUNNING", attempt=1),
        event("3", Kind.PARTIAL, task="a", data=b'{"page":1}', run_id="7"),
        event("4", Kind.LOG, task="a", data=b'{"level":"info","message":"half way"}'),
        event("5", Kind.TASK, task="a", status="COMPLETED", attempt=2, data=b"1"),
        event("6", Kind.TASK, task="b", status="SKIPPED"),
        event("7", Kind.EXECUTION, status="COMPLETED", data=b'{"a":1}', terminal=True),
    ]
