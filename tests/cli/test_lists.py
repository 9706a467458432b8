"""Lists and single things: tables for people, documents for programs, reasons for waiting."""

from typing import Any

import grpc

from bend.v1 import component_pb2, execution_pb2, registry_service_pb2, workflow_pb2
from bend.v1 import engine_service_pb2 as pb
from bend.v1.failure_pb2 import Failure
from tests.kit.command_line import CommandLine
from tests.kit.fakes.engine import FakeEngine, Refusal
from tests.kit.stories import execution, task


def test_executions_are_listed(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["ListExecutions"] = [
        pb.ListExecutionsResponse(executions=[execution(), execution("FAILED", execution_id="x-2")])
    ]
    table = bend("executions", "list", "--status", "failed", "--workflow", "flow")
    assert table.code == 0
    assert table.lines[0].split() == [
        "execution",
        "workflow",
        "revision",
        "status",
        "started",
        "took",
    ]
    assert "x-2" in table.lines[2]
    request = engine.requests["ListExecutions"][0]
    assert request.workflow == "flow"
    assert list(request.statuses) == [execution_pb2.Execution.FAILED]
    document: Any = bend("executions", "list", "--json").json
    assert [one["execution_id"] for one in document["executions"]] == ["flow-1", "x-2"]


def test_an_empty_list_is_said_on_stderr(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["ListExecutions"] = [pb.ListExecutionsResponse()]
    done = bend("executions", "list")
    assert (done.code, done.out, done.err) == (0, "", "no executions\n")
    assert bend("executions", "list", "--json").json == {"executions": []}


def test_get_says_why_it_waits(engine: FakeEngine, bend: CommandLine) -> None:
    reason = "detect: no instance of vision.detect@2"
    engine.script["GetExecution"] = [
        pb.GetExecutionResponse(
            execution=execution("RUNNING", waiting=[reason]),
            tasks=[
                task("fetch", output=b'{"bytes":10}'),
                task("detect", "WAITING", waiting="no instance of vision.detect@2", attempt=0),
                task("bad", "FAILED", error=Failure(reason="HTTP_500", message="oh"), attempt=3),
            ],
        )
    ]
    done = bend("executions", "get", "flow-1")
    assert done.code == 0
    assert f"waits     {reason}" in done.out
    rows = {line.split()[0]: line for line in done.lines if line}
    assert '{"bytes":10}' in rows["fetch"]
    assert "no instance" in rows["detect"]
    assert "HTTP_500: oh" in rows["bad"]
    document: Any = bend("executions", "get", "flow-1", "--json").json
    assert document["waiting"] == [reason]
    assert document["tasks"]["bad"]["error"] == {"reason": "HTTP_500", "message": "oh"}


def test_items_of_a_task_gather_under_it(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["GetExecution"] = [
        pb.GetExecutionResponse(
            execution=execution(),
            tasks=[
                task("each", output=b"[1,2]"),
                task("each", item=0, output=b"1"),
                task("each", item=1, output=b"2"),
            ],
        )
    ]
    document: Any = bend("executions", "get", "flow-1", "--json").json
    each = document["tasks"]["each"]
    assert each["output"] == [1, 2]
    assert [one["output"] for one in each["items"]] == [1, 2]


def test_an_unknown_execution_is_code_4(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["GetExecution"] = [
        Refusal(grpc.StatusCode.NOT_FOUND, "no execution flow-9", "EXECUTION_NOT_FOUND")
    ]
    done = bend("executions", "get", "flow-9")
    assert done.code == 4
    assert done.err == "error: EXECUTION_NOT_FOUND: no execution flow-9\n"


def test_cancel_answers_the_status(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["CancelExecution"] = [
        pb.CancelExecutionResponse(execution_id="flow-1", status=execution_pb2.Execution.RUNNING)
    ]
    done = bend("executions", "cancel", "flow-1", "--reason", "wrong input", "--json")
    assert done.json == {"executions": [{"execution_id": "flow-1", "status": "RUNNING"}]}
    assert engine.requests["CancelExecution"][0].reason == "wrong input"


def test_tasks_are_listed(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["ListTaskRuns"] = [
        pb.ListTaskRunsResponse(tasks=[task("a")], next_page_token="2"),
        pb.ListTaskRunsResponse(tasks=[task("b", "SKIPPED")]),
    ]
    document: Any = bend("executions", "tasks", "flow-1", "--json").json
    assert [one["task"] for one in document["tasks"]] == ["a", "b"]


def test_workflows_are_listed_and_shown(engine: FakeEngine, bend: CommandLine) -> None:
    one = workflow_pb2.Workflow(name="flow", revision=3, task_count=4, description="Does it")
    engine.script["ListWorkflows"] = [pb.ListWorkflowsResponse(workflows=[one])]
    engine.script["GetWorkflow"] = [
        pb.GetWorkflowResponse(
            workflow=one,
            revision=workflow_pb2.WorkflowRevision(
                revision=3, document=b'{"name":"flow","tasks":[]}', digest="ab" * 32
            ),
        )
    ]
    assert "Does it" in bend("workflows", "list").lines[1]
    shown = bend("workflows", "get", "flow")
    assert shown.out == "name: flow\ntasks: []\n"
    assert "revision 3" in shown.err
    document: Any = bend("workflows", "get", "flow", "--json").json
    assert document["document"] == {"name": "flow", "tasks": []}


def test_workflows_are_archived_and_restored(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["ArchiveWorkflow"] = [pb.ArchiveWorkflowResponse()]
    engine.script["RestoreWorkflow"] = [pb.RestoreWorkflowResponse()]
    assert bend("workflows", "archive", "a", "b").code == 0
    assert [one.name for one in engine.requests["ArchiveWorkflow"]] == ["a", "b"]
    assert bend("workflows", "restore", "a").code == 0


def test_components_and_instances(engine: FakeEngine, bend: CommandLine) -> None:
    one = component_pb2.Component(
        name="t.add", latest_version="1.2.3", description="Adds.\n\nMore.", instance_count=1
    )
    engine.script["ListComponents"] = [
        registry_service_pb2.ListComponentsResponse(components=[one])
    ]
    contract = component_pb2.ComponentContract(
        name="t.add", version="1.2.3", input_schema=b'{"type":"object"}', long_running=True
    )
    engine.script["GetComponent"] = [
        registry_service_pb2.GetComponentResponse(
            component=one, version=component_pb2.ComponentVersion(contract=contract)
        )
    ]
    instance = component_pb2.Instance(instance_id="i-1", version="1.2.3", credit=8, in_flight=3)
    engine.script["ListInstances"] = [
        registry_service_pb2.ListInstancesResponse(instances=[instance])
    ]
    row = bend("components", "list", "add").lines[1]
    assert row.split() == ["t.add", "1.2.3", "1", "Adds."]
    assert engine.requests["ListComponents"][0].query == "add"
    document: Any = bend("components", "get", "t.add", "--json").json
    assert document["input_schema"] == {"type": "object"}
    assert "long-running" in bend("components", "get", "t.add").out
    assert "3/8" in bend("components", "instances", "t.add").lines[1]


def test_instances_of_an_unknown_component_are_not_found(
    engine: FakeEngine, bend: CommandLine
) -> None:
    engine.script["ListInstances"] = [registry_service_pb2.ListInstancesResponse()]
    engine.script["GetComponent"] = [
        Refusal(grpc.StatusCode.NOT_FOUND, "no component 't.ad'", "COMPONENT_NOT_FOUND")
    ]
    done = bend("components", "instances", "t.ad")
    assert (done.code, "COMPONENT_NOT_FOUND" in done.err) == (4, True)
