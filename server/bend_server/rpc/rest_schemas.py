"""JSON Schemas of the REST bodies that the server renders or parses itself.

Keys: `Message.field` of a request whose body is raw, or the response message's name.
"""

from typing import Any

Schema = dict[str, Any]


def _object(properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return schema


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(name: str, item: Schema) -> Schema:
    return _object({name: {"type": "array", "items": item}, "next_page_token": TEXT}, (name,))


TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "format": "int32"}
TIME: Schema = {"type": "string", "format": "date-time"}
TIME_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
ANY: Schema = {"description": "Any JSON value."}
LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION: Schema = {
    "description": "A duration such as `30s`, `5m`, `1h30m`, or a number of seconds.",
    "type": ["string", "number"],
}
EXECUTION_WORDS = ["PENDING", "RUNNING", "PAUSED", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]
TASK_WORDS = [
    "PENDING",
    "SCHEDULED",
    "RUNNING",
    "WAITING",
    "COMPLETED",
    "FAILED",
    "SKIPPED",
    "CANCELLED",
    "TIMED_OUT",
]
ERROR_OR_NULL: Schema = {"oneOf": [_ref("rest.Failure"), {"type": "null"}]}

_START: dict[str, Schema] = {
    "workflow": {**TEXT, "description": "The workflow's name."},
    "parameters": {"type": "object", "description": "Checked by the workflow's input schema."},
    "revision": {**COUNT, "description": "0 or absent: the newest."},
    "request_id": {**TEXT, "maxLength": 128, "description": "Makes the start idempotent."},
    "execution_id": {**TEXT, "maxLength": 192, "description": "Chosen by the caller."},
    "labels": LABELS,
}
_EXECUTION: dict[str, Schema] = {
    "execution_id": TEXT,
    "namespace": TEXT,
    "workflow": TEXT,
    "revision": COUNT,
    "run": COUNT,
    "status": {"type": "string", "enum": EXECUTION_WORDS},
    "labels": LABELS,
    "input": ANY,
    "output": ANY,
    "output_left_out": {
        "type": "boolean",
        "description": "The blob store has lost the output.",
    },
    "error": ERROR_OR_NULL,
    "started_at": TIME,
    "finished_at": TIME_OR_NULL,
    "duration_ms": COUNT,
    "waiting": {"type": "array", "items": TEXT},
    "parent_execution_id": TEXT,
    "pause_reason": TEXT,
    "rerun_of": TEXT,
    "concurrency_key": TEXT,
}
_TASK: dict[str, Schema] = {
    "status": {"type": "string", "enum": TASK_WORDS},
    "attempt": COUNT,
    "output": ANY,
    "error": ERROR_OR_NULL,
    "output_left_out": {
        "type": "boolean",
        "description": "The answer was full (ListTaskRuns has it), or the blob is lost.",
    },
    "waiting": TEXT,
    "iteration": COUNT,
    "child_execution_id": TEXT,
    "item_count": COUNT,
    "phase": {"type": "string", "enum": ["on_failure", "compensate"]},
}
_APPROVAL: dict[str, Schema] = {
    "approval_id": TEXT,
    "execution_id": TEXT,
    "workflow": TEXT,
    "task": TEXT,
    "item": COUNT,
    "title": TEXT,
    "assignees": {"type": "array", "items": TEXT},
    "form": {"description": "JSON Schema of a decision's data; null: any."},
    "status": {"type": "string", "enum": ["PENDING", "APPROVED", "REJECTED", "CLOSED"]},
    "created_at": TIME,
    "expires_at": TIME_OR_NULL,
    "decided_by": TEXT,
    "decided_at": TIME_OR_NULL,
    "comment": TEXT,
}

COMPONENTS: dict[str, Schema] = {
    "rest.Failure": _object(
        {
            "reason": {**TEXT, "description": "UPPER_SNAKE_CASE, for example HTTP_503."},
            "message": TEXT,
            "retryable": {"type": "boolean"},
            "task": TEXT,
            "details": ANY,
        },
        ("reason", "message"),
    ),
    "rest.Document": {
        "type": "object",
        "description": "A workflow document; YAML is taken as application/yaml.",
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_.-]{0,127}$"},
            "description": TEXT,
            "tasks": {"type": "array", "items": {"type": "object"}, "minItems": 1},
        },
        "required": ["name", "tasks"],
    },
    "rest.Start": {**_object(_START, ("workflow",)), "additionalProperties": False},
    "rest.Run": {
        **_object({**_START, "wait_timeout": DURATION}, ("workflow",)),
        "additionalProperties": False,
    },
    "rest.Execution": _object(
        {
            **_EXECUTION,
            "tasks": {"type": "object", "additionalProperties": _object(_TASK, ("status",))},
        },
        ("execution_id", "workflow", "status", "started_at", "duration_ms"),
    ),
    "rest.Started": _object(
        {**_EXECUTION, "created": {"type": "boolean"}}, ("execution_id", "status", "created")
    ),
    "rest.RunAnswer": _object(
        {
            "status": {"type": "string", "enum": [word.lower() for word in EXECUTION_WORDS]},
            "workflow_id": {**TEXT, "description": "The execution's id."},
            "duration_ms": COUNT,
            "task_results": {
                "type": "object",
                "additionalProperties": _object(
                    {
                        "status": {"type": "string", "enum": [word.lower() for word in TASK_WORDS]},
                        "output": ANY,
                        "error": ERROR_OR_NULL,
                        "output_left_out": _TASK["output_left_out"],
                        "waiting": TEXT,
                    },
                    ("status",),
                ),
            },
            "output": ANY,
            "error": ERROR_OR_NULL,
        },
        ("status", "workflow_id", "duration_ms", "task_results"),
    ),
    "rest.TaskRun": _object(
        {
            "task": TEXT,
            "item": COUNT,
            **_TASK,
            "try": COUNT,
            "iteration": COUNT,
            "worker": TEXT,
            "started_at": TIME_OR_NULL,
            "finished_at": TIME_OR_NULL,
            "run_id": TEXT,
            "chunk_count": COUNT,
        },
        ("task", "status"),
    ),
    "rest.Approval": _object(_APPROVAL, ("approval_id", "execution_id", "task", "status")),
    "rest.Rerun": {
        **_object(
            {
                "parameters": {"type": "object", "description": "Absent: the old ones."},
                "merge": {"type": "boolean", "description": "Key by key over the old ones."},
                "revision": {**COUNT, "description": "0 or absent: that of the old execution."},
                "request_id": {**TEXT, "maxLength": 128},
            }
        ),
        "additionalProperties": False,
    },
    "rest.Signal": {
        **_object(
            {
                "name": {**TEXT, "maxLength": 128},
                "payload": {"description": "Any JSON value of at most 64 KiB."},
                "request_id": {**TEXT, "maxLength": 128},
            },
            ("name",),
        ),
        "additionalProperties": False,
    },
    "rest.Decision": {
        **_object(
            {
                "approved": {"type": "boolean"},
                "comment": {**TEXT, "maxLength": 4096},
                "data": {"description": "What the approval's form asks for."},
            },
            ("approved",),
        ),
        "additionalProperties": False,
    },
    "rest.WatchEvent": _object(
        {
            "cursor": {**TEXT, "description": "Give it back as `cursor` or Last-Event-ID."},
            "time": TIME,
            "type": {
                "type": "string",
                "enum": ["execution", "task", "partial", "log", "gap", "keepalive"],
            },
            "task": TEXT,
            "item": COUNT,
            "attempt": COUNT,
            "run_id": TEXT,
            "status": TEXT,
            "data": ANY,
            "terminal": {"type": "boolean"},
        },
        ("cursor", "time", "type", "terminal"),
    ),
    "rest.Workflow": _object(
        {
            "workflow": _ref("bend.v1.Workflow"),
            "revision": _object(
                {
                    "workflow": TEXT,
                    "revision": COUNT,
                    "document": _ref("rest.Document"),
                    "digest": TEXT,
                    "create_time": TIME,
                }
            ),
        },
        ("workflow", "revision"),
    ),
}

_DOCUMENT: Schema = {
    "application/json": {"schema": _ref("rest.Document")},
    "application/yaml": {"schema": TEXT},
}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


REQUESTS: dict[str, Schema] = {
    "bend.v1.CreateWorkflowRequest.document": _DOCUMENT,
    "bend.v1.UpdateWorkflowRequest.document": _DOCUMENT,
    "bend.v1.ValidateWorkflowRequest.document": _DOCUMENT,
    "bend.v1.RunWorkflowRequest.body": _json(_ref("rest.Run")),
    "bend.v1.StartExecutionRequest.body": _json(_ref("rest.Start")),
    "bend.v1.RerunExecutionRequest.body": _json(_ref("rest.Rerun")),
    "bend.v1.SignalExecutionRequest.body": _json(_ref("rest.Signal")),
    "bend.v1.DecideApprovalRequest.body": _json(_ref("rest.Decision")),
}
RESPONSES: dict[str, Schema] = {
    "bend.v1.GetWorkflowResponse": _json(_ref("rest.Workflow")),
    "bend.v1.RunWorkflowResponse": _json(_ref("rest.RunAnswer")),
    "bend.v1.StartExecutionResponse": _json(_ref("rest.Started")),
    "bend.v1.GetExecutionResponse": _json(_ref("rest.Execution")),
    "bend.v1.WaitExecutionResponse": _json(_ref("rest.Execution")),
    "bend.v1.ListExecutionsResponse": _json(_list_of("executions", _ref("rest.Execution"))),
    "bend.v1.ListActiveExecutionsResponse": _json(_list_of("executions", _ref("rest.Execution"))),
    "bend.v1.ListTaskRunsResponse": _json(_list_of("tasks", _ref("rest.TaskRun"))),
    "bend.v1.RerunExecutionResponse": _json(
        _object(
            {"execution_id": TEXT, "created": {"type": "boolean"}, "rerun_of": TEXT},
            ("execution_id", "created"),
        )
    ),
    "bend.v1.ListApprovalsResponse": _json(_list_of("approvals", _ref("rest.Approval"))),
    "bend.v1.DecideApprovalResponse": _json(_ref("rest.Approval")),
    "bend.v1.WatchExecutionResponse": {
        "text/event-stream": {"schema": TEXT},
        "application/x-ndjson": {"schema": _ref("rest.WatchEvent")},
    },
    "bend.v1.GetReadinessResponse": _json(LABELS),
    "bend.v1.GetOpenApiResponse": _json({"type": "object"}),
}
