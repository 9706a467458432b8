"""If these fail, people see states that never were, or not the ones that are."""

import asyncio
from typing import NoReturn

import grpc
import pytest

from bend.v1 import engine_service_pb2 as pb
from bend.v1 import execution_pb2
from bend_server.core import limits
from bend_server.core.model import (
    EventKind,
    EventRow,
    ExecutionStatus,
    Failure,
    StatusChange,
    TaskKind,
    TaskStatus,
)
from bend_server.ports.engine import TaskOverlay
from bend_server.ports.store import Batch
from bend_server.rpc import task_listings
from bend_server.rpc.engine_service import outputs, reads
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.engine_room import REST, USER, EngineRoom, engine_room
from tests.rpc.test_workflows import refused

Task = execution_pb2.TaskRun


async def states(it, public: str) -> dict[str, str]:
    request = pb.GetExecutionRequest(execution_id=public, include_tasks=True)
    answer = await it.stub.GetExecution(request, metadata=USER, timeout=30)
    return {task.task: Task.Status.Name(task.status) for task in answer.tasks}


@in_loop
async def test_all_tasks_are_shown_as_they_move(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        assert await states(it, public) == {"first": "SCHEDULED", "second": "PENDING"}
        it.engine.overlay[internal] = [
            TaskOverlay(0, -1, TaskStatus.RUNNING, 1, 1, "worker-9", 5_000_000, "")
        ]
        assert await states(it, public) == {"first": "RUNNING", "second": "PENDING"}
        failure = Failure("HTTP_503", "busy", retryable=True).to_json()
        await it.engine.result(
            internal,
            0,
            status=int(TaskStatus.FAILED),
            output=None,
            error=failure,
            retry_at_us=1_800_000_000_000_000,
        )
        it.engine.overlay.clear()
        request = pb.GetExecutionRequest(execution_id=public, include_tasks=True)
        answer = await it.stub.GetExecution(request, metadata=USER, timeout=30)
        assert answer.tasks[0].status == TaskStatus.WAITING
        assert answer.tasks[0].waiting == "retry at 2027-01-15T08:00:00Z"
        assert answer.tasks[0].error.reason == "HTTP_503"
        await it.engine.result(internal, 0, try_=2, attempt=2)
        assert await states(it, public) == {"first": "COMPLETED", "second": "SCHEDULED"}
        await it.engine.result(internal, 1, status=int(TaskStatus.SKIPPED), output=None, attempt=0)
        await it.engine.finish(internal)
        assert await states(it, public) == {"first": "COMPLETED", "second": "SKIPPED"}


@in_loop
async def test_rest_shows_the_execution_with_its_tasks(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        await it.engine.result(internal, 0, output=b'{"n": 12345678901234567890123}')
        failure = Failure("BOOM", "no luck", task="second", details=b'{"at":3}').to_json()
        await it.engine.result(
            internal, 1, status=int(TaskStatus.FAILED), output=None, error=failure
        )
        await it.engine.finish(
            internal, status=int(ExecutionStatus.FAILED), output=None, error=failure
        )
        request = pb.GetExecutionRequest(execution_id=public)
        raw = await it.stub.GetExecution(request, metadata=REST, timeout=30)
        assert b'"n": 12345678901234567890123' in raw.body.data
        assert not raw.HasField("execution")
        shown = await it.rest("GetExecution", request)
        assert shown["error"] == {
            "reason": "BOOM", "message": "no luck", "task": "second", "details": {"at": 3},
        }  # fmt: skip
        assert shown["tasks"]["second"] == {
            "status": "FAILED", "attempt": 1, "output": None, "error": shown["error"],
        }  # fmt: skip
        wanted = {"execution_id": public, "workflow": "chain", "revision": 1, "run": 1,
                  "status": "FAILED", "output": None, "input": {"text": "hi"},
                  "labels": {"team": "blue"}, "namespace": "default"}  # fmt: skip
        assert {key: shown[key] for key in wanted} == wanted
        assert shown["started_at"].endswith("Z")
        assert shown["finished_at"] >= shown["started_at"]


@in_loop
async def test_why_an_execution_waits_is_said(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        it.engine.overlay[internal] = [
            TaskOverlay(0, -1, TaskStatus.WAITING, 1, 1, "", 0, "no instance of test.echo@1")
        ]
        shown = await it.rest("GetExecution", pb.GetExecutionRequest(execution_id=public))
        assert shown["waiting"] == ["first: no instance of test.echo@1"]
        assert shown["tasks"]["first"]["waiting"] == "no instance of test.echo@1"


@in_loop
async def test_what_waits_for_its_turn_says_so_from_its_row(authority: TestAuthority) -> None:
    """It is parked: no engine has it in memory."""
    async with engine_room(authority) as it:
        it.engine.born = ExecutionStatus.PENDING
        for key, wanted in (
            ("customer a", "concurrency key customer a"),
            (None, "waits for admission"),
        ):
            it.engine.concurrency_key = key
            public, _ = await it.started()
            request = pb.GetExecutionRequest(execution_id=public, include_tasks=True)
            shown = await it.rest("GetExecution", request)
            assert (shown["status"], shown["waiting"]) == ("PENDING", [wanted])
            assert {task["status"] for task in shown["tasks"].values()} == {"PENDING"}
            answer = await it.stub.GetExecution(request, metadata=USER, timeout=30)
            assert list(answer.execution.waiting) == [wanted]


@in_loop
async def test_large_outputs_come_from_the_blob_store(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        large = b'"' + b"x" * 6_000_000 + b'"'
        key = await it.blobs.put(f"default/{internal}", large)
        await it.engine.result(internal, 0, output=None, blob=key)
        await it.engine.finish(internal, output=None, blob=key)
        shown = await it.rest("GetExecution", pb.GetExecutionRequest(execution_id=public))
        assert len(shown["output"]) == len(shown["tasks"]["first"]["output"]) == 6_000_000


@in_loop
async def test_executions_are_filtered_and_paged(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        await it.create(b"name: other\ntasks:\n  - {id: a, type: test.echo}\n")
        made = [await it.started(labels={"n": str(number)}) for number in range(5)]
        odd, odd_id = await it.started(workflow="other")
        await it.engine.finish(odd_id)
        shown = await it.rest("ListExecutions", pb.ListExecutionsRequest(page_size=4))
        names = [entry["execution_id"] for entry in shown["executions"]]
        assert names[0] == odd
        assert "output" not in shown["executions"][0]
        request = pb.ListExecutionsRequest(page_size=4, page_token=shown["next_page_token"])
        shown = await it.rest("ListExecutions", request)
        names += [entry["execution_id"] for entry in shown["executions"]]
        assert names == [odd, *(public for public, _ in reversed(made))]
        assert shown["next_page_token"] == ""

        async def listed(**fields: object) -> list[str]:
            answer = await it.stub.ListExecutions(
                pb.ListExecutionsRequest(**fields), metadata=USER, timeout=30
            )
            return [entry.execution_id for entry in answer.executions]

        assert await listed(workflow="other") == [odd]
        assert await listed(statuses=[ExecutionStatus.COMPLETED]) == [odd]
        assert await listed(label="n=3") == [made[3][0]]
        assert len(await listed(label="team=blue")) == 5
        active = await it.rest("ListActiveExecutions", pb.ListActiveExecutionsRequest())
        assert odd not in [entry["execution_id"] for entry in active["executions"]]
        assert len(active["executions"]) == 5


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"label": "novalue"}, "INVALID_REQUEST", "label"),
        ({"statuses": [0]}, "INVALID_REQUEST", "statuses[0]"),
        ({"statuses": [99]}, "INVALID_REQUEST", "statuses[0]"),
        ({"page_size": -1}, "INVALID_REQUEST", "page_size"),
        ({"page_token": "AAAA"}, "INVALID_PAGE_TOKEN", "page_token"),
    ],
)
@in_loop
async def test_wrong_lists_are_refused(
    authority: TestAuthority, fields: dict[str, object], reason: str, field: str
) -> None:
    async with engine_room(authority) as it:
        call = it.stub.ListExecutions(pb.ListExecutionsRequest(**fields), metadata=USER, timeout=30)
        code, found, metadata = await refused(call)
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert (found, metadata["field"]) == (reason, field)


@in_loop
async def test_task_runs_are_paged_in_the_documents_order(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        await it.engine.result(internal, 0, run_id=0xABC, chunks=2)
        shown = await it.rest(
            "ListTaskRuns", pb.ListTaskRunsRequest(execution_id=public, page_size=1)
        )
        [task] = shown["tasks"]
        assert (task["task"], task["status"], task["item"]) == ("first", "COMPLETED", -1)
        assert (task["run_id"], task["chunk_count"]) == ("0000000000000abc", 2)
        request = pb.ListTaskRunsRequest(execution_id=public, page_token=shown["next_page_token"])
        answer = await it.stub.ListTaskRuns(request, metadata=USER, timeout=30)
        assert [entry.task for entry in answer.tasks] == ["second"]
        assert answer.next_page_token == ""


@in_loop
async def test_pages_of_tasks_show_the_moment_of_the_first(
    authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a list of 10,000 items would cost the square of that, and skip or repeat some."""
    async with engine_room(authority) as it:
        public, internal = await it.started()
        request = pb.ListTaskRunsRequest(execution_id=public, page_size=1)
        answer = await it.stub.ListTaskRuns(request, metadata=USER, timeout=30)
        await it.engine.result(internal, 0)
        await it.engine.result(internal, 1)
        request.page_token = answer.next_page_token
        read = it.stores.reads.history

        async def again(execution: int, after_seq: int = 0) -> NoReturn:
            raise AssertionError("the rows were read for a second page")

        with monkeypatch.context() as kept:
            kept.setattr(it.stores.reads, "history", again)
            second = await it.stub.ListTaskRuns(request, metadata=USER, timeout=30)
        assert [task.status for task in second.tasks] == [execution_pb2.TaskRun.PENDING]
        # Another replica, or this one later: from the rows, as they are now.
        monkeypatch.setattr(it.stores.reads, "history", read)
        for _ in range(task_listings.KEPT_MAX):
            first = pb.ListTaskRunsRequest(execution_id=public, page_size=1)
            await it.stub.ListTaskRuns(first, metadata=USER, timeout=30)
        later = await it.stub.ListTaskRuns(request, metadata=USER, timeout=30)
        assert [(task.task, task.status) for task in later.tasks] == [
            ("second", execution_pb2.TaskRun.COMPLETED)
        ]


@in_loop
async def test_a_page_of_large_outputs_ends_early(
    authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        for task in (0, 1):
            key = await it.blobs.put(f"default/{internal}", b'"' + b"%d" % task * 900 + b'"')
            await it.engine.result(internal, task, output=None, blob=key)
        monkeypatch.setattr(outputs.page_with_outputs, "__defaults__", (1000,))
        request = pb.ListTaskRunsRequest(execution_id=public)
        answer = await it.stub.ListTaskRuns(request, metadata=USER, timeout=30)
        assert [entry.task for entry in answer.tasks] == ["first"]
        request.page_token = answer.next_page_token
        answer = await it.stub.ListTaskRuns(request, metadata=USER, timeout=30)
        assert [entry.task for entry in answer.tasks] == ["second"]


@in_loop
async def test_a_full_answer_says_which_outputs_it_leaves_out(
    authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "OUTPUT_BYTES_MAX", 1000)
    async with engine_room(authority) as it:
        public, internal = await it.started()
        key = await it.blobs.put(f"default/{internal}", b'"' + b"0" * 900 + b'"')
        await it.engine.result(internal, 0, output=None, blob=key)
        await it.engine.result(internal, 1, output=b'"' + b"1" * 900 + b'"')
        shown = await it.rest("GetExecution", pb.GetExecutionRequest(execution_id=public))
        assert len(shown["tasks"]["first"]["output"]) == 900
        assert "output_left_out" not in shown["tasks"]["first"]
        second = shown["tasks"]["second"]
        assert (second["status"], second["output"]) == ("COMPLETED", None)
        assert second["output_left_out"] is True


@in_loop
async def test_a_plain_execution_that_is_paused_shows_no_task_as_ready(
    authority: TestAuthority,
) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        it.engine.next_seq(internal)  # rows count from 1
        await it.engine.event(internal, EventKind.PAUSED, body=b'{"reason":"","open":[[0,-1]]}')
        await it.engine.result(internal, 0)
        await it.engine.commit(Batch(changes=[StatusChange(internal, ExecutionStatus.PAUSED, "x")]))
        assert await states(it, public) == {"first": "COMPLETED", "second": "PENDING"}
        await it.engine.event(internal, EventKind.RESUMED, body=b'{"deadline_us":0}')
        await it.engine.commit(
            Batch(changes=[StatusChange(internal, ExecutionStatus.RUNNING, None)])
        )
        assert await states(it, public) == {"first": "COMPLETED", "second": "SCHEDULED"}


@in_loop
async def test_an_execution_in_no_memory_says_what_it_waits_for(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        await it.create(b"name: hear\ntasks: [{id: s, type: signal, name: go}]")
        public, internal = await it.started(workflow="hear")
        it.engine.next_seq(internal)  # rows count from 1
        body = b'{"kind":%d,"due_us":0,"name":"go","title":"","try":1}' % TaskKind.SIGNAL
        waits = EventRow(
            internal, it.engine.next_seq(internal), 1, int(EventKind.WAITING), 0, -1, "", body, 1
        )
        await it.engine.commit(Batch(events=[waits]))
        shown = await it.rest("GetExecution", pb.GetExecutionRequest(execution_id=public))
        assert shown["waiting"] == ["s: signal go"]
        assert shown["tasks"]["s"]["status"] == "WAITING"


EACH = b"name: each\ntasks: [{id: a, type: test.echo, for_each: [1, 2]}]"


async def fanned(it: EngineRoom, *given: bytes) -> tuple[str, int]:
    """Start a for_each over two items and complete it; outputs over 100 bytes are blobs."""
    await it.create(EACH)
    public, internal = await it.started(workflow="each")
    it.engine.next_seq(internal)  # rows count from 1
    counted = EventRow(
        internal, it.engine.next_seq(internal), 1, int(EventKind.ITEMS_COUNTED), 0, -1, "",
        b'{"count":2,"items":["1","2"]}', 1,
    )  # fmt: skip
    await it.engine.commit(Batch(events=[counted]))
    for item, output in enumerate(given):
        blob = await it.blobs.put(f"default/{internal}", output) if len(output) > 100 else None
        await it.engine.result(internal, 0, item=item, output=None if blob else output, blob=blob)
    await it.engine.result(internal, 0, output=None)
    await it.engine.finish(internal)
    return public, internal


@in_loop
async def test_the_list_of_a_for_each_is_made_of_blobs_too(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        large = b'"' + b"x" * 200 + b'"'
        public, _ = await fanned(it, large, b"7")
        answer = await it.stub.GetExecution(
            pb.GetExecutionRequest(execution_id=public, include_tasks=True),
            metadata=USER, timeout=30,
        )  # fmt: skip
        assert [task.output for task in answer.tasks] == [b"[" + large + b",7]", large, b"7"]
        shown = await it.rest("ListTaskRuns", pb.ListTaskRunsRequest(execution_id=public))
        assert [task["output"] for task in shown["tasks"]] == [["x" * 200, 7], "x" * 200, 7]
        assert not any("output_left_out" in task for task in shown["tasks"])


@in_loop
async def test_a_list_that_is_too_large_is_left_out_and_its_items_are_not(
    authority: TestAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_room(authority) as it:
        monkeypatch.setattr(limits, "BLOB_BYTES_MAX", 150)
        for first, second in (("8" * 90, "9" * 90), ("8" * 140, "9" * 20), ("8" * 160, "9")):
            public, _ = await fanned(it, f'"{first}"'.encode(), f'"{second}"'.encode())
            for method, request in (
                ("GetExecution", pb.GetExecutionRequest(execution_id=public)),
                ("ListTaskRuns", pb.ListTaskRunsRequest(execution_id=public)),
            ):
                shown = (await it.rest(method, request))["tasks"]
                whole = shown["a"] if isinstance(shown, dict) else shown[0]
                items = whole["items"] if isinstance(shown, dict) else shown[1:]
                assert (whole["output"], whole["output_left_out"]) == (None, True)
                assert [item["output"] for item in items] == [first, second]


@in_loop
async def test_waiting_ends_with_the_execution_or_the_time(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        request = pb.WaitExecutionRequest(execution_id=public)
        request.wait_timeout.FromMilliseconds(50)
        answer = await it.stub.WaitExecution(request, metadata=USER, timeout=30)
        assert answer.execution.status == ExecutionStatus.RUNNING
        request.wait_timeout.FromSeconds(20)
        waiting = asyncio.ensure_future(it.stub.WaitExecution(request, metadata=USER, timeout=30))
        await it.engine.finish(internal)
        answer = await waiting
        assert answer.execution.status == ExecutionStatus.COMPLETED
        assert answer.execution.output == b'{"answer":42}'
        shown = await it.rest("WaitExecution", request)
        assert (shown["status"], shown["output"]) == ("COMPLETED", {"answer": 42})


@in_loop
async def test_a_cancel_is_recorded_with_its_reason(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        public, internal = await it.started()
        request = pb.CancelExecutionRequest(execution_id=public, reason="wrong file")
        answer = await it.stub.CancelExecution(request, metadata=USER, timeout=30)
        assert answer.status == ExecutionStatus.RUNNING
        [event] = (await it.stores.engine.load(internal)).events
        assert event.kind == EventKind.CANCEL_REQUESTED
        assert (event.actor, event.body) == ("/user/ada", b'{"reason":"wrong file"}')
        await it.engine.finish(internal)
        code, reason, metadata = await refused(
            it.stub.CancelExecution(request, metadata=USER, timeout=30)
        )
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
        assert metadata["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("method", "request_type"),
    [
        ("GetExecution", pb.GetExecutionRequest),
        ("WaitExecution", pb.WaitExecutionRequest),
        ("CancelExecution", pb.CancelExecutionRequest),
        ("ListTaskRuns", pb.ListTaskRunsRequest),
    ],
)
@in_loop
async def test_an_unknown_execution_is_said_so(
    authority: TestAuthority, method: str, request_type
) -> None:
    async with engine_room(authority) as it:
        call = getattr(it.stub, method)(
            request_type(execution_id="chain-1"), metadata=USER, timeout=30
        )
        code, reason, _ = await refused(call)
        assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND")
