"""If these fail, the served OpenAPI document lies about a path, or names a schema it lacks."""

import re

import orjson
import pytest
from google.api import annotations_pb2
from jsonschema import Draft202012Validator
from referencing import Registry

from bend.v1 import (
    engine_service_pb2,
    executor_service_pb2,
    operations_service_pb2,
    registry_service_pb2,
)
from bend.v1 import engine_service_pb2 as pb
from bend_server.core.model import Failure, TaskStatus
from bend_server.rpc import openapi, rest_schemas
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
