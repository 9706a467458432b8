"""The client against a scripted engine: calls, retries, errors by reason, watches that resume."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

import bend.sync
from bend import Client, Workflow, errors
from bend.models import Execution
from bend.v1 import engine_service_pb2 as pb
from bend.v1 import execution_pb2, failure_pb2, workflow_pb2
from tests.kit.fakes.engine import FakeEngine, Refusal

AWAY = Refusal(grpc.StatusCode.UNAVAILABLE, "gone for a moment")
Status = execution_pb2.Execution.Status


def execution(status: str = "COMPLETED", **fields: Any) -> execution_pb2.Execution:
    given = {"execution_id": "flow-1", "workflow": "flow", "revision": 2, "run": 1}
    return execution_pb2.Execution(status=Status.Value(status), **(given | fields))


def event(cursor: str, status: str = "RUNNING", *, terminal: bool = False) -> Any:
    one = execution_pb2.WatchEvent(
        cursor=cursor, type=execution_pb2.WatchEvent.TASK, task="a", status=status, item=-1
    )
    one.terminal = terminal
    return pb.WatchExecutionResponse(event=one)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as one:
        yield one


@asynccontextmanager
async def connected(engine: FakeEngine, **options: Any) -> AsyncIterator[Client]:
    async with Client(engine.url, **options) as client:
        yield client


def test_run_answers_the_output(engine: FakeEngine) -> None:
    task = execution_pb2.TaskRun(
        task="a", item=-1, status=execution_pb2.TaskRun.COMPLETED, attempt=1, output=b"7"
    )
    engine.script["RunWorkflow"] = [
        pb.RunWorkflowResponse(execution=execution(output=b'{"total":42}'), tasks=[task])
    ]

    async def body() -> None:
        async with connected(engine, token="abc", namespace="team") as client:
            done = await client.run("flow", {"x": 1})
        assert done.result() == {"total": 42}
        assert done.tasks[0].output == 7
        assert done.as_json()["tasks"]["a"]["attempt"] == 1

    asyncio.run(body())
    request = engine.requests["RunWorkflow"][0]
    assert request.start.parameters == b'{"x":1}'
    assert len(request.start.request_id) == 32
    assert engine.metadata[0]["authorization"] == "Bearer abc"
    assert engine.metadata[0]["bend-namespace"] == "team"


def test_a_start_is_repeated_with_one_request_id(engine: FakeEngine) -> None:
    """Without it, a lost answer would start the workflow twice."""
    engine.script["StartExecution"] = [
        AWAY,
        AWAY,
        pb.StartExecutionResponse(execution=execution("PENDING"), created=True),
    ]

    async def body() -> None:
        async with connected(engine) as client:
            started = await client.start("flow")
            assert started.status == "PENDING"

    asyncio.run(body())
    ids = {request.start.request_id for request in engine.requests["StartExecution"]}
    assert len(engine.requests["StartExecution"]) == 3
    assert len(ids) == 1


def test_a_failed_execution_is_an_answer_and_its_result_an_error(engine: FakeEngine) -> None:
    failure = failure_pb2.Failure(reason="HTTP_503", message="busy", task="fetch")
    engine.script["RunWorkflow"] = [
        pb.RunWorkflowResponse(execution=execution("FAILED", error=failure))
    ]

    async def body() -> None:
        async with connected(engine) as client:
            done = await client.run("flow")
        assert done.status == "FAILED"
        with pytest.raises(errors.ExecutionFailed, match="fetch: HTTP_503: busy") as caught:
            done.result()
        assert caught.value.reason == "HTTP_503"
        assert caught.value.execution_id == "flow-1"

    asyncio.run(body())


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND", errors.NotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETERS", errors.InvalidParameters),
        (grpc.StatusCode.FAILED_PRECONDITION, "WORKFLOW_ARCHIVED", errors.WrongState),
        (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", errors.NotPermitted),
        (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", errors.AlreadyExists),
        (grpc.StatusCode.INTERNAL, "INTERNAL", errors.ServerFault),
    ],
)
def test_errors_carry_reason_and_metadata(
    engine: FakeEngine, code: grpc.StatusCode, reason: str, kind: type[errors.BendError]
) -> None:
    engine.script["StartExecution"] = [Refusal(code, "it is so", reason, {"name": "flow"})]

    async def body() -> None:
        async with connected(engine) as client:
            with pytest.raises(kind, match="it is so") as caught:
                await client.start("flow")
        assert caught.value.reason == reason
        assert caught.value.metadata == {"name": "flow"}

    asyncio.run(body())
    assert len(engine.requests["StartExecution"]) == 1


def test_every_finding_of_a_document_arrives(engine: FakeEngine) -> None:
    engine.script["UpdateWorkflow"] = [
        Refusal(
            grpc.StatusCode.INVALID_ARGUMENT,
            "3:5: UNKNOWN_KEY: tpye (and 1 more)",
            "INVALID_DOCUMENT",
            {"line": "3"},
            [
                ("tasks[0].tpye", "3:5: unknown key tpye", "UNKNOWN_KEY"),
                ("", "no position: whole document", "CYCLE"),
            ],
        )
    ]

    async def body() -> None:
        async with connected(engine) as client:
            with pytest.raises(errors.InvalidDocument) as caught:
                await client.deploy({"name": "flow", "tasks": []})
        assert caught.value.findings == [
            errors.Finding("UNKNOWN_KEY", "unknown key tpye", "tasks[0].tpye", 3, 5),
            errors.Finding("CYCLE", "no position: whole document", ""),
        ]

    asyncio.run(body())


def test_nobody_at_the_address_is_unreachable() -> None:
    async def body() -> None:
        async with Client("http://127.0.0.1:9", retry_timeout=0.2) as client:
            with pytest.raises(errors.Unreachable, match="cannot be reached"):
                await client.get("x")

    asyncio.run(body())


def test_a_watch_resumes_after_its_cursor(engine: FakeEngine) -> None:
    keepalive = pb.WatchExecutionResponse(
        event=execution_pb2.WatchEvent(cursor="c1", type=execution_pb2.WatchEvent.KEEPALIVE)
    )
    engine.script["WatchExecution"] = [
        [event("c1"), keepalive, AWAY],
        AWAY,
        [event("c2", "COMPLETED", terminal=True)],
    ]

    async def body() -> None:
        async with connected(engine) as client:
            seen = [one async for one in client.watch("flow-1", states_only=True)]
        assert [(one.cursor, one.type, one.status) for one in seen] == [
            ("c1", "task", "RUNNING"),
            ("c2", "task", "COMPLETED"),
        ]

    asyncio.run(body())
    requests = engine.requests["WatchExecution"]
    assert [one.cursor for one in requests] == ["", "c1", "c1"]
    assert all(one.states_only for one in requests)


def test_a_torn_connection_is_no_fault_of_the_service(engine: FakeEngine) -> None:
    """A server killed in the middle of a stream shows as INTERNAL with a transport's text."""
    torn = Refusal(
        grpc.StatusCode.INTERNAL, "Stream removed (RST_STREAM (Received RST_STREAM with code 2))"
    )
    engine.script["WatchExecution"] = [
        [event("c1"), torn],
        [event("c2", "COMPLETED", terminal=True)],
    ]

    async def body() -> None:
        async with connected(engine) as client:
            seen = [one.cursor async for one in client.watch("flow-1")]
        assert seen == ["c1", "c2"]

    asyncio.run(body())


def test_a_watch_that_ends_early_is_an_error(engine: FakeEngine) -> None:
    """Else a script would take half a story for the whole one."""
    engine.script["WatchExecution"] = [[event("c1")]]

    async def body() -> None:
        async with connected(engine) as client:
            with pytest.raises(errors.Unreachable, match="before the execution"):
                async for _ in client.watch("flow-1"):
                    pass

    asyncio.run(body())


def test_a_wait_is_repeated_until_the_end(engine: FakeEngine) -> None:
    engine.script["WaitExecution"] = [
        pb.WaitExecutionResponse(execution=execution("RUNNING")),
        AWAY,
        pb.WaitExecutionResponse(execution=execution()),
    ]
    engine.script["GetExecution"] = [pb.GetExecutionResponse(execution=execution(output=b"1"))]

    async def body() -> None:
        async with connected(engine) as client:
            done = await client.wait("flow-1")
        assert done.output == 1

    asyncio.run(body())


def test_completions_of_many_are_yielded_once(engine: FakeEngine) -> None:
    def ended(*names: str) -> pb.WatchExecutionsResponse:
        return pb.WatchExecutionsResponse(
            executions=[execution(execution_id=name, output=b"1") for name in names]
        )

    engine.script["WatchExecutions"] = [[ended("a", "b"), AWAY], [ended("b", "c")]]

    async def body() -> None:
        async with connected(engine) as client:
            seen = [one.execution_id async for one in client.watch_many(["a", "b", "c"])]
        assert seen == ["a", "b", "c"]

    asyncio.run(body())
    assert list(engine.requests["WatchExecutions"][1].execution_ids) == ["c"]


def test_batches_of_starts_answer_in_order(engine: FakeEngine) -> None:
    outcome = pb.StartExecutionsResponse.Outcome

    def answer(request: pb.StartExecutionsRequest) -> pb.StartExecutionsResponse:
        return pb.StartExecutionsResponse(
            outcomes=[
                outcome(execution_id=one.workflow, created=True)
                if one.workflow != "none"
                else outcome(code=5, reason="WORKFLOW_NOT_FOUND", message="none")
                for one in request.starts
            ]
        )

    engine.script["StartExecutions"] = [answer]

    async def body() -> None:
        async with connected(engine) as client:
            outcomes = await client.start_many(
                [("w", {"n": n}) for n in range(1500)] + [{"workflow": "none"}]
            )
        assert len(outcomes) == 1501
        assert all(one.created for one in outcomes[:-1])
        assert outcomes[-1].error is not None
        assert outcomes[-1].error.reason == "WORKFLOW_NOT_FOUND"

    asyncio.run(body())
    assert [len(one.starts) for one in engine.requests["StartExecutions"]] == [1000, 501]


def test_a_builder_is_deployed_by_its_name(engine: FakeEngine) -> None:
    engine.script["UpdateWorkflow"] = [
        pb.UpdateWorkflowResponse(
            workflow=workflow_pb2.Workflow(name="flow", revision=3), created=True
        )
    ]
    flow = Workflow("flow")
    flow.task("a", "http", url="http://x")

    async def body() -> None:
        async with connected(engine) as client:
            stored = await client.deploy(flow)
        assert (stored.name, stored.revision, stored.created) == ("flow", 3, True)

    asyncio.run(body())
    request = engine.requests["UpdateWorkflow"][0]
    assert request.name == "flow"
    assert request.document.content_type == "application/json"


def test_a_document_is_no_name(engine: FakeEngine) -> None:
    async def scenario() -> None:
        async with Client(engine.url) as client:
            await client.start(Workflow("built"))  # type: ignore[arg-type]

    with pytest.raises(TypeError, match=r"deploy\(\)\), not a Workflow"):
        asyncio.run(scenario())


def test_lists_follow_the_pages(engine: FakeEngine) -> None:
    engine.script["ListExecutions"] = [
        pb.ListExecutionsResponse(executions=[execution()], next_page_token="p2"),
        pb.ListExecutionsResponse(executions=[execution(execution_id="flow-0")]),
    ]

    async def body() -> None:
        async with connected(engine) as client:
            found = await client.list_executions(statuses=["completed"], limit=10)
            assert [one.execution_id for one in found] == ["flow-1", "flow-0"]
            with pytest.raises(errors.InvalidRequest, match="no execution has the status done"):
                await client.list_executions(statuses=["done"])

    asyncio.run(body())
    assert [one.page_token for one in engine.requests["ListExecutions"]] == ["", "p2"]


def test_the_sync_client_works_inside_a_running_loop(engine: FakeEngine) -> None:
    engine.script["RunWorkflow"] = [pb.RunWorkflowResponse(execution=execution(output=b"5"))]
    engine.script["WatchExecution"] = [[event("c1"), event("c2", "COMPLETED", terminal=True)]]

    async def body() -> None:
        with bend.sync.Client(engine.url) as client:
            done: Execution = client.run("flow")
            assert done.output == 5
            assert [one.cursor for one in client.watch("flow-1")] == ["c1", "c2"]
            for first in client.watch("flow-1"):
                assert first.cursor == "c1"
                break

    asyncio.run(body())


def test_the_sync_client_has_every_method() -> None:
    public = {name for name in dir(Client) if not name.startswith("_")}
    assert public <= set(dir(bend.sync.Client))
