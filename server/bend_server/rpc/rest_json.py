"""JSON that REST shows where payloads are embedded: they are put in as they are, byte for byte."""

from collections.abc import Sequence

import orjson
from google.api.httpbody_pb2 import HttpBody

from bend_server.core.model import Failure
from bend_server.core.times import rfc3339
from bend_server.ports.store import ExecutionSummary, StoredRevision, WorkflowSummary
from bend_server.rpc import views
from bend_server.rpc.messages import run_id_text

JSON = "application/json"


def body(content: object) -> HttpBody:
    """Return an answer's body."""
    return HttpBody(content_type=JSON, data=orjson.dumps(content))


def embedded(data: bytes | None) -> object:
    """Return stored JSON for embedding; None (null) when there is none."""
    return orjson.Fragment(data) if data else None


def failure(data: bytes | None) -> dict[str, object] | None:
    """Return a stored failure: reason, message, and task or details when it has them."""
    if not data:
        return None
    stored = Failure.from_json(data)
    shown: dict[str, object] = {"reason": stored.reason, "message": stored.message}
    if stored.retryable:
        shown["retryable"] = True
    if stored.task:
        shown["task"] = stored.task
    if stored.details:
        shown["details"] = orjson.Fragment(stored.details)
    return shown


def execution(
    summary: ExecutionSummary,
    now_us: int,
    *,
    tasks: Sequence[views.TaskView] | None = None,
    waiting: Sequence[str] = (),
    parent: str = "",
    rerun_of: str = "",
    payloads: bool = True,
) -> dict[str, object]:
    """Return an execution; lists leave input and output out (`payloads` False)."""
    shown: dict[str, object] = {
        "execution_id": summary.public_id,
        "namespace": summary.namespace,
        "workflow": summary.workflow,
        "revision": summary.revision,
        "run": summary.run,
        "status": views.execution_word(summary.status),
        "labels": orjson.Fragment(summary.labels or b"{}"),
    }
    if payloads:
        shown["input"] = embedded(summary.input)
        shown["output"] = embedded(summary.output)
        if summary.blob is not None and summary.output is None:
            shown["output_left_out"] = True
    shown["error"] = failure(summary.error)
    shown["started_at"] = rfc3339(summary.started_us)
    shown["finished_at"] = None if summary.finished_us is None else rfc3339(summary.finished_us)
    shown["duration_ms"] = views.duration_ms(summary, now_us)
    if waiting:
        shown["waiting"] = list(waiting)
    more = {
        "parent_execution_id": parent,
        "rerun_of": rerun_of,
        "concurrency_key": summary.concurrency_key,
        "pause_reason": summary.pause_reason,
    }
    shown |= {name: text for name, text in more.items() if text}
    if tasks is not None:
        shown["tasks"] = task_map(tasks, lower=False)
    return shown


def task_map(tasks: Sequence[views.TaskView], *, lower: bool) -> dict[str, dict[str, object]]:
    """Return tasks by id; a task with items holds them in order under `items`."""
    shown: dict[str, dict[str, object]] = {}
    items: dict[str, list[object]] = {}
    for view in tasks:
        word = views.task_word(view.status)
        entry: dict[str, object] = {"status": word.lower() if lower else word}
        if not lower:
            entry["attempt"] = view.attempt
        entry["output"] = embedded(view.output)
        entry["error"] = failure(view.error)
        entry |= _more(view)
        if view.item < 0:
            shown[view.task] = entry
        else:
            items.setdefault(view.task, []).append(entry)
    for name, entries in items.items():
        shown[name]["items"] = entries
    return shown


def task(view: views.TaskView) -> dict[str, object]:
    """Return one task as ListTaskRuns shows it, with the proto's names."""
    return {
        "task": view.task,
        "item": view.item,
        "status": views.task_word(view.status),
        "attempt": view.attempt,
        "try": view.try_,
        "iteration": view.iteration,
        "output": embedded(view.output),
        "error": failure(view.error),
        "worker": view.worker,
        "started_at": rfc3339(view.started_us) if view.started_us else None,
        "finished_at": rfc3339(view.finished_us) if view.finished_us else None,
        "run_id": run_id_text(view.run_id),
        "chunk_count": view.chunks,
        "waiting": view.waiting,
    } | _more(view)


def _more(view: views.TaskView) -> dict[str, object]:
    """Return what only some tasks have."""
    found = {
        "waiting": view.waiting,
        "child_execution_id": view.child_name,
        "item_count": view.items,
        "phase": view.phase,
        "output_left_out": view.blob is not None and view.output is None,
    }
    return {name: value for name, value in found.items() if value}


def run(
    summary: ExecutionSummary, tasks: Sequence[views.TaskView], now_us: int
) -> dict[str, object]:
    """Return the answer of /v1/run: the customer's shape, statuses in lower case."""
    return {
        "status": views.execution_word(summary.status).lower(),
        "workflow_id": summary.public_id,
        "duration_ms": views.duration_ms(summary, now_us),
        "task_results": task_map(tasks, lower=True),
        "output": embedded(summary.output),
        "error": failure(summary.error),
    }


def workflow(summary: WorkflowSummary) -> dict[str, object]:
    """Return a workflow with the proto's names."""
    return {
        "name": summary.name,
        "namespace": summary.namespace,
        "revision": summary.revision,
        "description": summary.description,
        "labels": orjson.Fragment(summary.labels or b"{}"),
        "archived": summary.archived,
        "create_time": rfc3339(summary.created_us),
        "update_time": rfc3339(summary.updated_us),
        "task_count": summary.task_count,
    }


def revision(stored: StoredRevision) -> dict[str, object]:
    """Return a revision with its document as JSON."""
    return {
        "workflow": stored.workflow,
        "revision": stored.revision,
        "document": embedded(stored.document),
        "digest": stored.digest,
        "create_time": rfc3339(stored.created_us),
    }
