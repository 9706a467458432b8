"""Domain rows as the public messages of bend.v1."""

from collections.abc import Sequence
from typing import cast

import orjson

from bend.v1 import execution_pb2, failure_pb2, workflow_pb2
from bend_server.core.errors import Finding
from bend_server.core.model import Failure
from bend_server.ports.store import (
    ExecutionSummary,
    StoredRevision,
    WorkflowSummary,
)
from bend_server.rpc import views
from bend_server.rpc.times import stamp

FINDINGS_MAX = 100


def failure_message(data: bytes) -> failure_pb2.Failure:
    """Return a stored failure as a message."""
    failure = Failure.from_json(data)
    message = failure_pb2.Failure(
        reason=failure.reason,
        message=failure.message,
        retryable=failure.retryable,
        details=failure.details,
        task=failure.task,
    )
    if failure.retry_after_us is not None:
        message.retry_after.FromMicroseconds(failure.retry_after_us)
    return message


def execution_message(
    summary: ExecutionSummary,
    now_us: int,
    *,
    parent: str = "",
    rerun_of: str = "",
    waiting: Sequence[str] = (),
) -> execution_pb2.Execution:
    """Return an execution as a message.

    Args:
        summary: its row; an output of a blob is put into it by the caller.
        parent: public id of the execution that started it as a child.
        rerun_of: public id of the execution that it repeats.
        waiting: why it waits.
    """
    message = execution_pb2.Execution(
        execution_id=summary.public_id,
        namespace=summary.namespace,
        workflow=summary.workflow,
        revision=summary.revision,
        run=summary.run,
        status=cast("execution_pb2.Execution.Status", summary.status),
        input=summary.input or b"",
        output=summary.output or b"",
        duration_ms=views.duration_ms(summary, now_us),
        waiting=waiting,
        parent_execution_id=parent,
        pause_reason=summary.pause_reason or "",
        rerun_of=rerun_of,
        concurrency_key=summary.concurrency_key or "",
    )
    if summary.labels != b"{}":
        message.labels.update(orjson.loads(summary.labels))
    if summary.error:
        message.error.CopyFrom(failure_message(summary.error))
    stamp(message.start_time, summary.started_us)
    stamp(message.finish_time, summary.finished_us)
    return message


def task_message(view: views.TaskView) -> execution_pb2.TaskRun:
    """Return a task as a message."""
    # Fields that mostly have their default are set apart: an answer may hold 20,000 tasks.
    message = execution_pb2.TaskRun(
        task=view.task,
        item=view.item,
        status=cast("execution_pb2.TaskRun.Status", view.status),
        attempt=view.attempt,
    )
    # The field's name is a Python keyword.
    setattr(message, "try", view.try_)
    if view.output:
        message.output = view.output
    if view.run_id:
        message.run_id = run_id_text(view.run_id)
    if view.worker:
        message.worker = view.worker
    if view.iteration:
        message.iteration = view.iteration
    if view.chunks:
        message.chunk_count = view.chunks
    if view.waiting:
        message.waiting = view.waiting
    if view.child_name:
        message.child_execution_id = view.child_name
    if view.items:
        message.item_count = view.items
    if view.phase:
        message.phase = view.phase
    if view.error:
        message.error.CopyFrom(failure_message(view.error))
    stamp(message.start_time, view.started_us)
    stamp(message.finish_time, view.finished_us)
    return message


def run_id_text(run_id: int) -> str:
    """Return a hand-over's id as text: 16 hex digits; empty for none."""
    return f"{run_id & 0xFFFFFFFFFFFFFFFF:016x}" if run_id else ""


def workflow_message(summary: WorkflowSummary) -> workflow_pb2.Workflow:
    """Return a workflow as a message."""
    message = workflow_pb2.Workflow(
        name=summary.name,
        namespace=summary.namespace,
        revision=summary.revision,
        description=summary.description,
        labels=orjson.loads(summary.labels or b"{}"),
        archived=summary.archived,
        task_count=summary.task_count,
    )
    stamp(message.create_time, summary.created_us)
    stamp(message.update_time, summary.updated_us)
    return message


def revision_message(stored: StoredRevision) -> workflow_pb2.WorkflowRevision:
    """Return a revision as a message; lists have left the document out."""
    message = workflow_pb2.WorkflowRevision(
        workflow=stored.workflow,
        revision=stored.revision,
        document=stored.document,
        digest=stored.digest,
    )
    stamp(message.create_time, stored.created_us)
    return message


def finding_messages(findings: Sequence[Finding]) -> list[workflow_pb2.Finding]:
    """Return at most 100 findings as messages."""
    return [
        workflow_pb2.Finding(
            reason=finding.reason,
            message=finding.message,
            path=finding.path,
            line=finding.line,
            column=finding.column,
        )
        for finding in findings[:FINDINGS_MAX]
    ]
