"""Control by gRPC and REST: what reaches the engine, and what is refused before."""

import grpc
import orjson
import pytest

from bend.v1 import approval_pb2, bulk_pb2
from bend.v1 import execution_control_pb2 as pb
from bend_server.core.errors import WrongState
from bend_server.core.model import ApprovalRow
from bend_server.ports.store import Batch
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.engine_room import USER, EngineRoom, body, engine_room

ADA = "/user/ada"


async def refused(room: EngineRoom, method: str, request: object) -> tuple[str, str]:
    """Call as a user; return the gRPC code and the text of the refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(room.stub, method)(request, metadata=USER, timeout=30)
    return caught.value.code().name, caught.value.details() or ""


@in_loop
async def test_pause_resume_retry_and_reset_reach_the_engine(authority: TestAuthority) -> None:
    async with engine_room(authority) as room:
        public, internal = await room.started()
        stub = room.stub
        paused = await stub.PauseExecution(
            pb.PauseExecutionRequest(execution_id=public, reason="look\0"), metadata=USER
        )
        assert paused.status == 3
        resumed = await stub.ResumeExecution(
            pb.ResumeExecutionRequest(execution_id=public), metadata=USER
        )
        assert resumed.status == 2
        retried = await stub.RetryExecution(
            pb.RetryExecutionRequest(execution_id=public, request_id="r1"), metadata=USER
        )
        assert retried.run == 2
        reset = await stub.ResetExecution(
            pb.ResetExecutionRequest(execution_id=public, task="second"), metadata=USER
        )
        assert reset.run == 2
        assert room.engine.said == [
            ("pause", internal, "look", ADA, ""),
            ("resume", internal, ADA, ""),
            ("retry", internal, "", ADA, "r1"),
            ("reset", internal, "second", "", ADA, ""),
        ]


@in_loop
async def test_control_of_what_is_not_there_or_not_allowed_is_refused(
    authority: TestAuthority,
) -> None:
    async with engine_room(authority) as room:
        code, _ = await refused(room, "PauseExecution", pb.PauseExecutionRequest(execution_id="no"))
        assert code == "NOT_FOUND"
        public, _ = await room.started()
        room.engine.failure = WrongState("the execution is COMPLETED", status="COMPLETED")
        code, text = await refused(
            room, "RetryExecution", pb.RetryExecutionRequest(execution_id=public)
        )
        assert (code, text) == ("FAILED_PRECONDITION", "the execution is COMPLETED")


@in_loop
async def test_a_rerun_starts_another_with_the_same_or_other_input(
    authority: TestAuthority,
) -> None:
    async with engine_room(authority) as room:
        public, _ = await room.started(parameters=b'{"text":"a","big":12345678901234567890123}')
        same = await room.rest("RerunExecution", pb.RerunExecutionRequest(execution_id=public))
        assert same["rerun_of"] == public
        assert same["execution_id"] != public
        assert same["created"] is True
        wish = {"parameters": {"text": "b"}, "merge": True, "request_id": "again"}
        merged = await room.rest(
            "RerunExecution", pb.RerunExecutionRequest(execution_id=public, body=body(wish))
        )
        summary = await room.stores.reads.execution("default", merged["execution_id"])
        assert summary is not None
        assert summary.input == b'{"text":"b","big":12345678901234567890123}'
        again = await room.rest(
            "RerunExecution", pb.RerunExecutionRequest(execution_id=public, body=body(wish))
        )
        assert again["execution_id"] == merged["execution_id"]
        assert again["created"] is False


@in_loop
async def test_a_signal_carries_json_of_any_kind(authority: TestAuthority) -> None:
    async with engine_room(authority) as room:
        public, internal = await room.started()
        answer = await room.stub.SignalExecution(
            pb.SignalExecutionRequest(
                execution_id=public, body=body({"name": "go", "payload": [1, None]})
            ),
            metadata=USER,
        )
        assert answer.delivered
        await room.stub.SignalExecution(
            pb.SignalExecutionRequest(execution_id=public, name="stop"), metadata=USER
        )
        assert room.engine.said == [
            ("signal", internal, "go", b"[1,null]", ADA, ""),
            ("signal", internal, "stop", b"null", ADA, ""),
        ]


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b'{"name": 3}', "INVALID_ARGUMENT", "name must be a string"),
        (b'{"nome": "x"}', "INVALID_ARGUMENT", "1:2: unknown key 'nome'"),
        (b'{"payload": 1}', "INVALID_ARGUMENT", "name: a signal's name"),
        (b'{"name": "x", "name": "y"}', "INVALID_ARGUMENT", "name"),
        (b'{"name":"x","payload":"%b"}' % (b"a" * 70_000), "RESOURCE_EXHAUSTED", "payload has"),
        (b"[", "INVALID_ARGUMENT", "1:2"),
    ],
)
@in_loop
async def test_a_bad_signal_is_refused_with_its_place(
    authority: TestAuthority, content: bytes, code: str, says: str
) -> None:
    async with engine_room(authority) as room:
        public, _ = await room.started()
        request = pb.SignalExecutionRequest(execution_id=public, body=body(content))
        got, text = await refused(room, "SignalExecution", request)
        assert got == code
        assert says in text


FORM = {"type": "object", "required": ["limit"], "properties": {"limit": {"type": "integer"}}}


async def asked(room: EngineRoom, count: int = 1) -> list[str]:
    """Store approvals that wait; return their public ids."""
    public, internal = await room.started()
    rows = [
        ApprovalRow(
            internal, 0, item, 1, "default", public, "chain", "first", f"Raise {item}?",
            orjson.dumps(["ada"] if item % 2 == 0 else []), orjson.dumps(FORM), 1000 + item, 0,
        )
        for item in range(count)
    ]  # fmt: skip
    await room.engine.commit(Batch(approvals=rows))
    return [f"{internal}-0-{item + 1}-1" for item in range(count)]


@in_loop
async def test_approvals_are_listed_in_pages_and_by_assignee(authority: TestAuthority) -> None:
    async with engine_room(authority) as room:
        names = await asked(room, 5)
        first = await room.rest("ListApprovals", approval_pb2.ListApprovalsRequest(page_size=3))
        assert [one["approval_id"] for one in first["approvals"]] == names[:3]
        assert first["approvals"][0]["form"] == FORM
        assert first["approvals"][0]["status"] == "PENDING"
        rest = await room.rest(
            "ListApprovals",
            approval_pb2.ListApprovalsRequest(page_size=3, page_token=first["next_page_token"]),
        )
        assert [one["approval_id"] for one in rest["approvals"]] == names[3:]
        assert rest["next_page_token"] == ""
        bobs = await room.stub.ListApprovals(
            approval_pb2.ListApprovalsRequest(assignee="bob"), metadata=USER
        )
        assert [one.item for one in bobs.approvals] == [1, 3]


@in_loop
async def test_a_decision_is_checked_against_its_form(authority: TestAuthority) -> None:
    async with engine_room(authority) as room:
        (name,) = await asked(room)
        for data, says in ((b"", "data"), (b'{"limit":"x"}', "data.limit"), (b"{", "data: 1:2")):
            code, text = await refused(
                room,
                "DecideApproval",
                approval_pb2.DecideApprovalRequest(approval_id=name, approved=True, data=data),
            )
            assert code == "INVALID_ARGUMENT"
            assert says in text
        done = await room.rest(
            "DecideApproval",
            approval_pb2.DecideApprovalRequest(
                approval_id=name,
                body=body({"approved": True, "comment": "fine", "data": {"limit": 7}}),
            ),
        )
        assert done["status"] == "APPROVED"
        assert done["decided_by"] == ADA
        assert room.engine.said[-1][5:9] == (True, "fine", b'{"limit":7}', ADA)


@pytest.mark.parametrize(
    "name", ["x", "1-2-3", "1-2-3-4-5", "9" * 30 + "-0-0-1", "1-0-0-1", "²-0-0-1"]
)
@in_loop
async def test_an_unknown_approval_is_not_found(authority: TestAuthority, name: str) -> None:
    async with engine_room(authority) as room:
        code, _ = await refused(
            room,
            "DecideApproval",
            approval_pb2.DecideApprovalRequest(approval_id=name, approved=True),
        )
        assert code == "NOT_FOUND"


@in_loop
async def test_a_bulk_job_names_what_it_means(authority: TestAuthority) -> None:
    async with engine_room(authority) as room:
        request = bulk_pb2.BulkExecutionsRequest(
            action=bulk_pb2.Bulk.CANCEL, workflow="chain", label="team=blue", reason="old"
        )
        request.started_before.FromMicroseconds(5_000_000)
        made = (await room.stub.BulkExecutions(request, metadata=USER)).bulk
        assert made.state == bulk_pb2.Bulk.RUNNING
        said = room.engine.said[-1]
        assert said[:3] == ("bulk", "default", 1)
        assert said[3] == ("chain", (), ("team", "blue"), None, 5_000_000)
        read = await room.stub.GetBulk(bulk_pb2.GetBulkRequest(bulk_id=made.bulk_id), metadata=USER)
        assert read.bulk.bulk_id == made.bulk_id
        code, text = await refused(
            room, "BulkExecutions", bulk_pb2.BulkExecutionsRequest(action=bulk_pb2.Bulk.CANCEL)
        )
        assert code == "INVALID_ARGUMENT"
        assert "say which executions" in text
        request.started_before.nanos = -1
        code, text = await refused(room, "BulkExecutions", request)
        assert (code, text.partition(" ")[0]) == ("INVALID_ARGUMENT", "started_before")
        code, _ = await refused(room, "GetBulk", bulk_pb2.GetBulkRequest(bulk_id="17"))
        assert code == "NOT_FOUND"
