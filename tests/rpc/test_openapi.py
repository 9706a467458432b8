"""If these fail, the served OpenAPI document lies about a path, or names a schema it lacks."""

import re

import orjson
import pytest
from google.api import annotations_pb2
from jsonschema import Draft202012Validator
from referencing import Registry

from bend.v1 import (
    engine_service_pb2,
    error_reason_pb2,
    executor_service_pb2,
    operations_service_pb2,
    registry_service_pb2,
)
from bend.v1 import engine_service_pb2 as pb
from bend_server.core.model import Failure, TaskStatus
from bend_server.rpc import openapi, proto_comments, rest_schemas
from bend_server.rpc.permissions import RULES
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.engine_room import REST, engine_room
from tests.rpc.test_starts import run_soon

SERVICES = [
    engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"],
    registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"],
    executor_service_pb2.DESCRIPTOR.services_by_name["ExecutorService"],
    operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"],
]
DOCUMENT = openapi.document(SERVICES, "1.2.3")


def test_every_rest_path_of_the_protos_is_there() -> None:
    wanted = set()
    for service in SERVICES:
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for one in (rule, *rule.additional_bindings):
                verb = one.WhichOneof("pattern")
                if verb:
                    wanted.add((verb, getattr(one, verb)))
    found = {(verb, path) for path, entry in DOCUMENT["paths"].items() for verb in entry}
    assert found == wanted
    assert ("post", "/v1/cancel/{execution_id}") in found
    assert ("get", "/readyz") in found


def test_every_reference_leads_somewhere_and_ids_are_unique() -> None:
    text = orjson.dumps(DOCUMENT).decode()
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names <= set(DOCUMENT["components"]["schemas"])
    ids = [op["operationId"] for entry in DOCUMENT["paths"].values() for op in entry.values()]
    assert len(ids) == len(set(ids))
    for path, entry in DOCUMENT["paths"].items():
        for operation in entry.values():
            declared = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
            assert declared == re.findall(r"\{(\w+)\}", path)


def test_every_schema_is_a_json_schema() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("path", "verb", "parameters"),
    [
        ("/v1/executions", "get", {"page_size", "page_token", "workflow", "statuses", "label"}),
        ("/v1/executions/{execution_id}:watch", "get", {"execution_id", "cursor", "states_only"}),
        ("/v1/run", "post", set()),
        ("/v1/workflows/{name}", "put", {"name"}),
    ],
)
def test_parameters_are_those_of_the_request(path: str, verb: str, parameters: set[str]) -> None:
    operation = DOCUMENT["paths"][path][verb]
    assert {entry["name"] for entry in operation["parameters"]} == parameters


OPERATIONS = {
    operation["operationId"]: operation
    for entry in DOCUMENT["paths"].values()
    for operation in entry.values()
}
METHODS = {
    method.name: method
    for service in SERVICES
    for method in service.methods
    if method.GetOptions().HasExtension(annotations_pb2.http)
}


def test_every_operation_says_what_it_does_and_belongs_to_a_group() -> None:
    groups = {tag["name"]: tag["description"] for tag in DOCUMENT["tags"]}
    assert all(groups.values())
    assert len({operation["summary"] for operation in OPERATIONS.values()}) == len(METHODS)
    for operation in OPERATIONS.values():
        assert operation["summary"]
        assert not operation["summary"].endswith(".")
        assert "Errors: " not in operation.get("description", "")
        assert set(operation["tags"]) <= set(groups)
        assert all(parameter["description"] for parameter in operation["parameters"])
    start = OPERATIONS["StartExecution"]
    assert start["summary"] == "Start an execution and return when it is durable"
    assert start["description"].startswith("Idempotent by request_id for 7 days")


def test_every_field_says_what_it_is() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if name.startswith("bend."):
            assert schema["description"], name
            for field, one in schema["properties"].items():
                assert one.get("description"), f"{name}.{field}"


@pytest.mark.parametrize("name", METHODS)
def test_every_error_that_the_proto_names_is_a_response(name: str) -> None:
    told = proto_comments.text(METHODS[name].full_name).partition("Errors: ")[2]
    said = " ".join(one["description"] for one in OPERATIONS[name]["responses"].values())
    names = list(error_reason_pb2.ErrorReason.keys())
    for reason in (name.removeprefix("ERROR_REASON_") for name in names):
        if re.search(rf"\b{reason}\b", told):
            assert f"`{reason}`" in said


def test_errors_stand_at_their_http_status() -> None:
    run = OPERATIONS["RunWorkflow"]["responses"]
    # Said of StartExecution, to which RunWorkflow refers.
    assert run["404"]["description"] == "`NOT_FOUND` `WORKFLOW_NOT_FOUND`."
    assert "`REQUEST_ID_REUSED` (other content)" in run["409"]["description"]
    assert "`OVERLOADED`" in run["429"]["description"]
    assert {"400", "401", "403", "503", "default"} <= set(run)
    assert set(OPERATIONS["GetReadiness"]["responses"]) == {"200", "503", "default"}
    assert set(OPERATIONS["GetOpenApi"]["responses"]) == {"200", "default"}


def test_who_may_call_is_said() -> None:
    assert OPERATIONS["GetOpenApi"]["security"] == []
    ways = set(DOCUMENT["components"]["securitySchemes"])
    for name in set(METHODS) - {"GetOpenApi", "GetReadiness"}:
        method = METHODS[name]
        rule = RULES[f"/{method.containing_service.full_name}/{name}"]
        assert OPERATIONS[name]["security"] == [{way: [rule.permission]} for way in sorted(ways)]


def validator(name: str) -> Draft202012Validator:
    schemas = DOCUMENT["components"]["schemas"]
    return Draft202012Validator(
        {"components": {"schemas": schemas}, "$ref": f"#/components/schemas/{name}"},
        registry=Registry(),
    )


def closed(name: str, value: dict) -> None:
    """Check a value, and that the schema names every key of it."""
    validator(name).validate(value)
    assert set(value) <= set(DOCUMENT["components"]["schemas"][name]["properties"]), name


@in_loop
async def test_real_answers_fit_their_schemas(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        failure = Failure("X", "y", task="first").to_json()

        async def fail(execution: int) -> None:
            await it.engine.result(
                execution, 0, status=int(TaskStatus.FAILED), output=None, error=failure
            )
            await it.engine.finish(execution, status=5, output=None, error=failure)

        closed("rest.RunAnswer", await run_soon(it, fail))
        public, _ = await it.started()
        closed(
            "rest.Execution",
            await it.rest("GetExecution", pb.GetExecutionRequest(execution_id=public)),
        )
        listed = await it.rest("ListExecutions", pb.ListExecutionsRequest())
        for entry in listed["executions"]:
            closed("rest.Execution", entry)
        tasks = await it.rest("ListTaskRuns", pb.ListTaskRunsRequest(execution_id=public))
        for entry in tasks["tasks"]:
            closed("rest.TaskRun", entry)
        closed("rest.Workflow", await it.rest("GetWorkflow", pb.GetWorkflowRequest(name="chain")))
        call = it.stub.WatchExecution(
            pb.WatchExecutionRequest(execution_id=public), metadata=REST, timeout=30
        )
        first = await call.read()
        call.cancel()
        closed("rest.WatchEvent", orjson.loads(first.body.data))


def test_the_handwritten_schemas_name_real_messages() -> None:
    methods = [method for service in SERVICES for method in service.methods]
    fields = {
        f"{method.input_type.full_name}.{field.name}"
        for method in methods
        for field in method.input_type.fields
    }
    assert set(rest_schemas.REQUESTS) <= fields
    assert set(rest_schemas.RESPONSES) <= {method.output_type.full_name for method in methods}
