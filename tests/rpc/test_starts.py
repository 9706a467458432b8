"""If these fail, executions start with wrong input, twice, or without anybody being told why."""

import asyncio

import grpc
import orjson
import pytest

from bend.v1 import engine_service_pb2 as pb
from bend_server.core.errors import DependencyDown, LimitExceeded
from bend_server.core.model import ExecutionStatus, Failure, TaskStatus
from tests.kit.certificates import TestAuthority
from tests.kit.loops import eventually, in_loop
from tests.rpc.engine_room import REST, USER, EngineRoom, body, engine_room
from tests.rpc.test_workflows import refused

SCHEMA = b"""
name: strict
input:
  type: object
  properties:
    size: {type: integer, maximum: 9}
    mode: {type: string, default: fast}
  required: [size]
tasks:
  - {id: a, type: test.echo}
"""


async def rest_refused(it: EngineRoom, content: object) -> tuple[str, dict[str, str]]:
    request = pb.StartExecutionRequest(body=body(content))
    code, reason, metadata = await refused(
        it.stub.StartExecution(request, metadata=REST, timeout=30)
    )
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    return reason, metadata


@in_loop
async def test_a_start_stores_what_was_said(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        before = it.clock.now_us()
        answer = await it.start(
            parameters=b'{"big": 12345678901234567890123, "text": "hi"}',
            labels={"case": "7"},
            execution_id="case-7",
        )
        shown = answer.execution
        assert answer.created
        assert (shown.execution_id, shown.workflow, shown.revision) == ("case-7", "chain", 1)
        assert shown.status == ExecutionStatus.RUNNING
        assert dict(shown.labels) == {"team": "blue", "case": "7"}
        assert before <= shown.start_time.ToMicroseconds() <= it.clock.now_us()
        row = await it.stores.reads.execution("default", "case-7")
        assert row is not None
        assert row.input == b'{"big": 12345678901234567890123, "text": "hi"}'
        assert orjson.loads(row.labels) == {"team": "blue", "case": "7"}
        stored = await it.stores.engine.load(row.id)
        assert stored is not None
        assert stored.start.actor == "/user/ada"


@in_loop
async def test_a_request_id_starts_once(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        first = await it.start(request_id="r1")
        again = await it.start(request_id="r1")
        assert (first.created, again.created) == (True, False)
        assert first.execution.execution_id == again.execution.execution_id
        code, reason, _ = await refused(it.start(request_id="r1", parameters=b'{"text":"x"}'))
        assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        await it.start(execution_id="mine")
        assert (await refused(it.start(execution_id="mine")))[1] == "EXECUTION_EXISTS"


@in_loop
async def test_the_newest_revision_is_started_though_another_replica_made_it(
    authority: TestAuthority,
) -> None:
    async with engine_room(authority) as it:
        assert (await it.start()).execution.revision == 1
        document = (await it.stores.reads.revision("default", "chain", 1)).document
        await it.stores.workflows.put_revision(
            "default", "chain", document=document.replace(b"blue", b"red"), digest="d2",
            description="", labels=b"{}", task_count=2, pins=b"{}", plan_format=1, now_us=1,
            create_only=False,
        )  # fmt: skip
        assert (await it.start()).execution.revision == 2
        assert (await it.start(revision=1)).execution.revision == 1
        assert (await refused(it.start(revision=9)))[1] == "WORKFLOW_NOT_FOUND"


@in_loop
async def test_parameters_are_checked_and_filled_by_the_schema(authority: TestAuthority) -> None:
    async with engine_room(authority, chain=False) as it:
        await it.create(SCHEMA)
        public, _ = await it.started(workflow="strict", parameters=b'{"size": 3}')
        row = await it.stores.reads.execution("default", public)
        assert orjson.loads(row.input) == {"size": 3, "mode": "fast"}
        for wrong in (b"{}", b'{"size": 10}', b'{"size": "3"}'):
            code, reason, _ = await refused(it.start(workflow="strict", parameters=wrong))
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETERS")


@pytest.mark.parametrize(
    "wrong",
    [
        b"{",
        b"[1]",
        b'"text"',
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\u0000"}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"[" * 80 + b"]" * 80 + b"}",
        b'{"a": "\xff"}',
        b'{"a": 1} x',
    ],
)
@in_loop
async def test_parameters_that_read_two_ways_are_refused(
    authority: TestAuthority, wrong: bytes
) -> None:
    async with engine_room(authority) as it:
        code, reason, _ = await refused(it.start(parameters=wrong))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PARAMETERS")


@in_loop
async def test_limits_and_missing_things_have_their_reasons(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        large = b'{"text": "' + b"x" * 1024 * 1024 + b'"}'
        code, reason, metadata = await refused(it.start(parameters=large))
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")
        assert metadata["limit"] == "1048576"
        assert (await refused(it.start("nothing")))[1] == "WORKFLOW_NOT_FOUND"
        for fields, field in (
            ({"workflow": ""}, "workflow"),
            ({"request_id": "a\0b"}, "request_id"),
            ({"labels": {"": "x"}}, "labels"),
            ({"labels": {"a": "x" * 256}}, "labels"),
            ({"execution_id": "a b"}, "start.execution_id"),
        ):
            _, reason, metadata = await refused(it.start(**fields))
            assert (reason, metadata["field"]) == ("INVALID_REQUEST", field)
        it.engine.failure = LimitExceeded("full", reason="OVERLOADED")
        code, reason, _ = await refused(it.start())
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        it.engine.failure = DependencyDown("sql is away")
        code, reason, _ = await refused(it.start())
        assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_DOWN")


@in_loop
async def test_a_rest_body_is_read_strictly(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        good = pb.StartExecutionRequest(
            body=body(
                b'{ "workflow" : "chain",\n "parameters": {"n": 98765432109876543210, "f": 1.50},'
                b' "labels": {"a": "b"}, "request_id": "r" }'
            )
        )
        shown = await it.rest("StartExecution", good)
        assert (shown["status"], shown["created"]) == ("RUNNING", True)
        assert shown["labels"] == {"team": "blue", "a": "b"}
        row = await it.stores.reads.execution("default", shown["execution_id"])
        assert row.input == b'{"n": 98765432109876543210, "f": 1.50}'
        assert (await it.rest("StartExecution", good))["created"] is False
        reason, metadata = await rest_refused(it, b'{"workflow": "chain",\n  "parametres": {}}')
        assert (reason, metadata["finding"]) == ("INVALID_PARAMETERS", "UNKNOWN_KEY")
        assert (metadata["line"], metadata["column"]) == ("2", "3")
        for wrong in (
            b"",
            b"{",
            b"[]",
            b'{"workflow": "chain", "workflow": "other"}',
            {"workflow": 3},
            {"workflow": "chain", "revision": "1"},
            {"workflow": "chain", "revision": True},
            {"workflow": "chain", "labels": {"a": 1}},
            {"workflow": "chain", "parameters": [1]},
            {"workflow": "chain", "parameters": None},
            {"workflow": "chain", "wait_timeout": 3},
        ):
            assert (await rest_refused(it, wrong))[0] == "INVALID_PARAMETERS", wrong
        assert (await rest_refused(it, {"parameters": {}}))[1]["field"] == "workflow"


@in_loop
async def test_parameters_of_the_whole_megabyte_fit_into_a_rest_body(
    authority: TestAuthority,
) -> None:
    whole = b'{"text":"%s"}' % (b"x" * (1024 * 1024 - 11))
    async with engine_room(authority) as it:
        for parameters, fits in ((whole, True), (whole[:-2] + b'x"}', False)):
            assert (len(parameters) == 1024 * 1024) == fits
            raw = b'{"workflow": "chain", "parameters": ' + parameters + b"}"
            request = pb.StartExecutionRequest(body=body(raw))
            if fits:
                assert (await it.rest("StartExecution", request))["created"] is True
            else:
                code, reason, metadata = await refused(
                    it.stub.StartExecution(request, metadata=REST, timeout=30)
                )
                assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")
                assert (metadata["field"], metadata["size"]) == ("parameters", "1048577")


@in_loop
async def test_a_batch_is_judged_one_by_one(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        starts = [
            pb.StartRequest(workflow="chain", request_id="a"),
            pb.StartRequest(workflow="nothing"),
            pb.StartRequest(workflow="chain", request_id="a"),
            pb.StartRequest(workflow="chain", parameters=b"[]"),
            pb.StartRequest(workflow="chain"),
        ]
        request = pb.StartExecutionsRequest(starts=starts)
        answer = await it.stub.StartExecutions(request, metadata=USER, timeout=30)
        outcomes = answer.outcomes
        assert [outcome.reason for outcome in outcomes] == [
            "", "WORKFLOW_NOT_FOUND", "", "INVALID_PARAMETERS", "",
        ]  # fmt: skip
        assert [outcome.code for outcome in outcomes] == [0, 5, 0, 3, 0]
        assert [outcome.created for outcome in outcomes] == [True, False, False, False, True]
        assert outcomes[0].execution_id == outcomes[2].execution_id
        assert outcomes[0].execution_id != outcomes[4].execution_id
        assert it.engine.calls == 1


async def run_soon(it: EngineRoom, end) -> dict:
    """Answer /v1/run while the execution it starts is ended by `end`."""
    before = set(await all_ids(it))
    request = pb.RunWorkflowRequest(body=body({"workflow": "chain", "parameters": {"text": "x"}}))
    running = asyncio.create_task(it.rest("RunWorkflow", request))

    async def begun() -> bool:
        return bool(set(await all_ids(it)) - before)

    await eventually(begun)
    [internal] = set(await all_ids(it)) - before
    await end(internal)
    return await running


async def all_ids(it: EngineRoom) -> list[int]:
    found = await it.stores.reads.executions(
        "default", workflow=None, statuses=[], label=None, before=None, limit=100
    )
    return [entry.id for entry in found]


@in_loop
async def test_run_answers_in_the_customers_shape(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:

        async def complete(execution: int) -> None:
            await it.engine.result(execution, 0, output=b'{"text":"one"}')
            key = await it.blobs.put(f"default/{execution}", b'{"text":"two"}')
            await it.engine.result(execution, 1, output=None, blob=key)
            await it.engine.finish(execution, output=b'{"second":{"text":"two"}}')

        shown = await run_soon(it, complete)
        assert shown["workflow_id"].startswith("chain-")
        assert 0 <= shown["duration_ms"] < 60_000
        del shown["workflow_id"], shown["duration_ms"]
        assert shown == {
            "status": "completed",
            "task_results": {
                "first": {"status": "completed", "output": {"text": "one"}, "error": None},
                "second": {"status": "completed", "output": {"text": "two"}, "error": None},
            },
            "output": {"second": {"text": "two"}},
            "error": None,
        }


@in_loop
async def test_a_failed_run_is_an_answer(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        failure = Failure("HTTP_503", "busy", task="first").to_json()

        async def fail(execution: int) -> None:
            await it.engine.result(
                execution, 0, status=int(TaskStatus.FAILED), output=None, error=failure
            )
            await it.engine.result(
                execution, 1, status=int(TaskStatus.CANCELLED), output=None, attempt=0
            )
            await it.engine.finish(
                execution, status=int(ExecutionStatus.FAILED), output=None, error=failure
            )

        shown = await run_soon(it, fail)
        assert (shown["status"], shown["output"]) == ("failed", None)
        assert shown["error"] == {"reason": "HTTP_503", "message": "busy", "task": "first"}
        assert shown["task_results"]["second"]["status"] == "cancelled"


@in_loop
async def test_run_answers_after_its_waiting_time(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        request = pb.RunWorkflowRequest(body=body({"workflow": "chain", "wait_timeout": "50ms"}))
        shown = await it.rest("RunWorkflow", request)
        assert shown["status"] == "running"
        assert shown["task_results"]["first"]["status"] == "scheduled"
        assert shown["task_results"]["second"]["status"] == "pending"
        typed = pb.RunWorkflowRequest(start=pb.StartRequest(workflow="chain"))
        typed.wait_timeout.FromMilliseconds(50)
        answer = await it.stub.RunWorkflow(typed, metadata=USER, timeout=30)
        assert answer.execution.status == ExecutionStatus.RUNNING
        assert [task.task for task in answer.tasks] == ["first", "second"]
        for wrong in ("2h", "soon", -1):
            request = pb.RunWorkflowRequest(body=body({"workflow": "chain", "wait_timeout": wrong}))
            _, reason, metadata = await refused(
                it.stub.RunWorkflow(request, metadata=REST, timeout=30)
            )
            assert (reason, metadata["field"]) == ("INVALID_REQUEST", "wait_timeout")


@in_loop
async def test_a_caller_that_goes_away_cancels_nothing(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        request = pb.RunWorkflowRequest(start=pb.StartRequest(workflow="chain"))
        call = it.stub.RunWorkflow(request, metadata=USER, timeout=30)

        async def begun() -> bool:
            return len(await all_ids(it)) == 1

        await eventually(begun)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        [execution] = await all_ids(it)
        stored = await it.stores.engine.load(execution)
        assert (stored.status, stored.events) == (ExecutionStatus.RUNNING, [])
