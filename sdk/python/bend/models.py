"""What the client answers about executions: executions, tasks, events.

Payloads stay JSON bytes until they are asked for. `as_json()` gives the documented JSON form, in
which payloads keep every digit.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from bend import payloads
from bend.errors import ExecutionFailed
from bend.v1 import execution_pb2, failure_pb2

TERMINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parsed(data: bytes) -> Any:
    """Parse a JSON payload; empty is None."""
    return payloads.loads(data) if data else None


def fragment(data: bytes) -> Any:
    """Return a payload for embedding into a JSON document as it is; empty is null.

    Payloads are kept as they came: line breaks between tokens would break a document per line.
    """
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r", b" ").replace(b"\n", b" ")
    return orjson.Fragment(data) if data else None


def moment(stamp: Timestamp) -> datetime | None:
    """Return an aware time, or None when unset."""
    if not stamp.seconds and not stamp.nanos:
        return None
    return EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def iso(when: datetime | None) -> str | None:
    """Return RFC 3339 with milliseconds and Z."""
    if when is None:
        return None
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task or an execution did not complete; `reason` is for programs."""

    reason: str
    message: str
    retryable: bool = False
    task: str = ""
    details_json: bytes = b""

    @classmethod
    def of(cls, failure: failure_pb2.Failure) -> "Failure | None":
        """Read one; None when nothing is set."""
        if not failure.reason and not failure.message:
            return None
        return cls(
            failure.reason, failure.message, failure.retryable, failure.task, failure.details
        )

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON form."""
        document: dict[str, Any] = {"reason": self.reason, "message": self.message}
        if self.task:
            document["task"] = self.task
        if self.details_json:
            document["details"] = fragment(self.details_json)
        return document

    def __str__(self) -> str:
        where = f"{self.task}: " if self.task else ""
        return f"{where}{self.reason}: {self.message}"


@dataclass(frozen=True, slots=True)
class TaskRun:
    """The present state of one task, or of one item of it (`item` >= 0)."""

    task: str
    status: str
    item: int = -1
    attempt: int = 0
    iteration: int = 0
    output_json: bytes = b""
    error: Failure | None = None
    worker: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    chunk_count: int = 0
    waiting: str = ""
    child_execution_id: str = ""
    item_count: int = 0
    phase: str = ""

    @classmethod
    def of(cls, run: execution_pb2.TaskRun) -> "TaskRun":
        """Read one."""
        return cls(
            task=run.task,
            status=execution_pb2.TaskRun.Status.Name(run.status),
            item=run.item,
            attempt=run.attempt,
            iteration=run.iteration,
            output_json=run.output,
            error=Failure.of(run.error),
            worker=run.worker,
            started_at=moment(run.start_time),
            finished_at=moment(run.finish_time),
            chunk_count=run.chunk_count,
            waiting=run.waiting,
            child_execution_id=run.child_execution_id,
            item_count=run.item_count,
            phase=run.phase,
        )

    @property
    def output(self) -> Any:
        """The output, parsed; None unless COMPLETED."""
        return parsed(self.output_json)

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON form."""
        document: dict[str, Any] = {
            "status": self.status,
            "attempt": self.attempt,
            "output": fragment(self.output_json),
            "error": self.error.as_json() if self.error else None,
        }
        for name in ("iteration", "waiting", "child_execution_id", "item_count", "phase"):
            value = getattr(self, name)
            if value:
                document[name] = value
        return document


@dataclass(frozen=True, slots=True)
class Execution:
    """One durable run of a workflow, as last committed.

    `tasks` is empty unless they were asked for.
    """

    execution_id: str
    workflow: str = ""
    revision: int = 0
    run: int = 1
    status: str = "PENDING"
    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    input_json: bytes = b""
    output_json: bytes = b""
    error: Failure | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: int = 0
    waiting: tuple[str, ...] = ()
    pause_reason: str = ""
    parent_execution_id: str = ""
    rerun_of: str = ""
    concurrency_key: str = ""
    tasks: tuple[TaskRun, ...] = ()

    @classmethod
    def of(cls, one: execution_pb2.Execution, tasks: Any = ()) -> "Execution":
        """Read one, with its tasks."""
        return cls(
            execution_id=one.execution_id,
            workflow=one.workflow,
            revision=one.revision,
            run=one.run,
            status=execution_pb2.Execution.Status.Name(one.status),
            namespace=one.namespace,
            labels=dict(one.labels),
            input_json=one.input,
            output_json=one.output,
            error=Failure.of(one.error),
            started_at=moment(one.start_time),
            finished_at=moment(one.finish_time),
            duration_ms=one.duration_ms,
            waiting=tuple(one.waiting),
            pause_reason=one.pause_reason,
            parent_execution_id=one.parent_execution_id,
            rerun_of=one.rerun_of,
            concurrency_key=one.concurrency_key,
            tasks=tuple(TaskRun.of(task) for task in tasks),
        )

    @property
    def input(self) -> Any:
        """The parameters, parsed."""
        return parsed(self.input_json)

    @property
    def output(self) -> Any:
        """The result, parsed; None until COMPLETED."""
        return parsed(self.output_json)

    @property
    def terminal(self) -> bool:
        """Whether it has ended."""
        return self.status in TERMINAL

    def result(self) -> Any:
        """Return the output of a COMPLETED execution.

        Raises ExecutionFailed, with the failure's reason, when it ended otherwise or still runs.
        """
        if self.status == "COMPLETED":
            return self.output
        failure = self.error
        text = str(failure) if failure else f"{self.execution_id} is {self.status}"
        raise ExecutionFailed(
            text,
            reason=failure.reason if failure else self.status,
            status=self.status,
            execution_id=self.execution_id,
            task=failure.task if failure else "",
        )

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON form; items of one task gather under `items`."""
        tasks: dict[str, Any] = {}
        for task in self.tasks:
            if task.item < 0:
                tasks[task.task] = task.as_json() | tasks.get(task.task, {})
            else:
                entry = tasks.setdefault(task.task, {})
                entry.setdefault("items", []).append({"item": task.item} | task.as_json())
        document: dict[str, Any] = {
            "execution_id": self.execution_id,
            "workflow": self.workflow,
            "revision": self.revision,
            "run": self.run,
            "status": self.status,
            "output": fragment(self.output_json),
            "error": self.error.as_json() if self.error else None,
            "started_at": iso(self.started_at),
            "finished_at": iso(self.finished_at),
            "duration_ms": self.duration_ms,
            "tasks": tasks,
        }
        if self.waiting:
            document["waiting"] = list(self.waiting)
        for name in ("pause_reason", "parent_execution_id", "rerun_of", "concurrency_key"):
            value = getattr(self, name)
            if value:
                document[name] = value
        return document


@dataclass(frozen=True, slots=True)
class StartOutcome:
    """What came of one start of a batch; `error` names the reason when it was refused."""

    execution_id: str
    created: bool
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One thing that happened in an execution; `cursor` resumes a watch after it.

    `type` is execution, task, partial, log, gap or keepalive.
    """

    cursor: str
    time: datetime | None
    type: str
    task: str = ""
    item: int = -1
    attempt: int = 0
    run_id: str = ""
    status: str = ""
    data_json: bytes = b""
    terminal: bool = False

    @classmethod
    def of(cls, event: execution_pb2.WatchEvent) -> "WatchEvent":
        """Read one."""
        return cls(
            cursor=event.cursor,
            time=moment(event.time),
            type=execution_pb2.WatchEvent.Type.Name(event.type).lower(),
            task=event.task,
            item=event.item,
            attempt=event.attempt,
            run_id=event.run_id,
            status=event.status,
            data_json=event.data,
            terminal=event.terminal,
        )

    @property
    def data(self) -> Any:
        """The output, the failure, the partial output or the log line, parsed."""
        return parsed(self.data_json)

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON form."""
        return {
            "cursor": self.cursor,
            "time": iso(self.time),
            "type": self.type,
            "task": self.task,
            "item": self.item,
            "attempt": self.attempt,
            "run_id": self.run_id,
            "status": self.status,
            "data": fragment(self.data_json),
            "terminal": self.terminal,
        }
