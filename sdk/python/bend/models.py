"""What the client answers: executions, tasks, events, workflows, components.

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
from bend.v1 import component_pb2, execution_pb2, failure_pb2, workflow_pb2

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
        if self.waiting:
            document["waiting"] = self.waiting
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
        if self.pause_reason:
            document["pause_reason"] = self.pause_reason
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


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """A stored workflow; `document_json` is set when it was asked for."""

    name: str
    revision: int
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    archived: bool = False
    task_count: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    created: bool = False
    document_json: bytes = b""
    digest: str = ""

    @classmethod
    def of(
        cls,
        one: workflow_pb2.Workflow,
        revision: workflow_pb2.WorkflowRevision | None = None,
        *,
        created: bool = False,
    ) -> "WorkflowInfo":
        """Read one, with the document of a revision."""
        return cls(
            name=one.name,
            revision=revision.revision if revision else one.revision,
            description=one.description,
            labels=dict(one.labels),
            archived=one.archived,
            task_count=one.task_count,
            created_at=moment(one.create_time),
            updated_at=moment(revision.create_time if revision else one.update_time),
            created=created,
            document_json=revision.document if revision else b"",
            digest=revision.digest if revision else "",
        )

    @property
    def document(self) -> Any:
        """The document, parsed."""
        return parsed(self.document_json)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of `bend workflows`."""
        document: dict[str, Any] = {
            "name": self.name,
            "revision": self.revision,
            "description": self.description,
            "labels": self.labels,
            "archived": self.archived,
            "task_count": self.task_count,
            "created_at": iso(self.created_at),
            "updated_at": iso(self.updated_at),
        }
        if self.document_json:
            document["digest"] = self.digest
            document["document"] = fragment(self.document_json)
        return document


@dataclass(frozen=True, slots=True)
class RevisionInfo:
    """One immutable revision of a workflow."""

    workflow: str
    revision: int
    digest: str
    created_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of `bend workflows revisions`."""
        return {
            "workflow": self.workflow,
            "revision": self.revision,
            "digest": self.digest,
            "created_at": iso(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class ComponentInfo:
    """A registered component; the contract's fields are set when one was asked for."""

    name: str
    version: str
    description: str = ""
    version_count: int = 1
    instance_count: int = 0
    updated_at: datetime | None = None
    long_running: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    input_schema_json: bytes = b""
    output_schema_json: bytes = b""

    @classmethod
    def of(
        cls,
        one: component_pb2.Component,
        version: component_pb2.ComponentVersion | None = None,
    ) -> "ComponentInfo":
        """Read one, with the contract of a version."""
        contract = version.contract if version else component_pb2.ComponentContract()
        return cls(
            name=one.name,
            version=contract.version or one.latest_version,
            description=contract.description or one.description,
            version_count=one.version_count,
            instance_count=one.instance_count,
            updated_at=moment(one.update_time),
            long_running=contract.long_running,
            labels=dict(contract.labels),
            input_schema_json=contract.input_schema,
            output_schema_json=contract.output_schema,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of `bend components`."""
        document: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "version_count": self.version_count,
            "instance_count": self.instance_count,
            "updated_at": iso(self.updated_at),
        }
        if self.input_schema_json or self.output_schema_json:
            document |= {
                "long_running": self.long_running,
                "labels": self.labels,
                "input_schema": fragment(self.input_schema_json),
                "output_schema": fragment(self.output_schema_json),
            }
        return document


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """One live connection that serves a component."""

    instance_id: str
    component: str
    version: str
    executor: str
    credit: int
    in_flight: int
    draining: bool
    labels: dict[str, str]
    connected_at: datetime | None

    @classmethod
    def of(cls, one: component_pb2.Instance) -> "InstanceInfo":
        """Read one."""
        return cls(
            instance_id=one.instance_id,
            component=one.component,
            version=one.version,
            executor=one.executor,
            credit=one.credit,
            in_flight=one.in_flight,
            draining=one.draining,
            labels=dict(one.labels),
            connected_at=moment(one.connect_time),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of `bend components instances`."""
        return {
            "instance_id": self.instance_id,
            "component": self.component,
            "version": self.version,
            "executor": self.executor,
            "credit": self.credit,
            "in_flight": self.in_flight,
            "draining": self.draining,
            "labels": self.labels,
            "connected_at": iso(self.connected_at),
        }
