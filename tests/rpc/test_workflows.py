"""If these fail, a wrong document is stored, or a right one is refused, or a revision changes."""

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from bend.v1 import engine_service_pb2 as pb
from tests.kit.certificates import TestAuthority
from tests.kit.loops import in_loop
from tests.rpc.door import details
from tests.rpc.engine_room import CHAIN, USER, EngineRoom, engine_room


async def refused(call) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    reason, metadata, _ = details(caught.value)
    return caught.value.code(), reason, metadata


@in_loop
async def test_a_workflow_is_stored_once_and_updated_by_revision(authority: TestAuthority) -> None:
    async with engine_room(authority, chain=False) as it:
        first = await it.create()
        assert first.created
        assert (first.workflow.name, first.workflow.revision) == ("chain", 1)
        assert first.workflow.task_count == 2
        assert dict(first.workflow.labels) == {"team": "blue"}
        again = await it.create()
        assert (again.created, again.workflow.revision) == (False, 1)
        as_json = orjson.dumps(
            {
                "name": "chain",
                "labels": {"team": "blue"},
                "tasks": [
                    {"id": "first", "type": "test.echo", "text": "{{input.text}}"},
                    {"id": "second", "type": "test.echo", "text": "{{first.text}}"},
                ],
            }
        )
        assert not (await it.create(as_json, "application/json")).created
        changed = CHAIN.replace(b"blue", b"red")
        code, reason, metadata = await refused(it.create(changed))
        assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "WORKFLOW_EXISTS")
        second = await it.update("chain", changed)
        assert (second.created, second.workflow.revision) == (True, 2)
        assert not (await it.update("chain", changed)).created
        code, reason, metadata = await refused(it.update("other", changed))
        assert (reason, metadata["field"]) == ("INVALID_REQUEST", "name")


@in_loop
async def test_revisions_are_read_with_their_documents(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        await it.update("chain", CHAIN.replace(b"blue", b"red"))
        for revision, team in ((0, "red"), (1, "blue"), (2, "red")):
            request = pb.GetWorkflowRequest(name="chain", revision=revision)
            answer = await it.stub.GetWorkflow(request, metadata=USER, timeout=30)
            assert orjson.loads(answer.revision.document)["labels"] == {"team": team}
            shown = await it.rest("GetWorkflow", request)
            assert shown["workflow"]["name"] == "chain"
            assert shown["revision"]["document"]["labels"] == {"team": team}
            assert shown["revision"]["digest"] == answer.revision.digest
        for request in (
            pb.GetWorkflowRequest(name="chain", revision=3),
            pb.GetWorkflowRequest(name="nothing"),
        ):
            _, reason, _ = await refused(it.stub.GetWorkflow(request, metadata=USER, timeout=30))
            assert reason == "WORKFLOW_NOT_FOUND"
        request = pb.ListWorkflowRevisionsRequest(name="chain", page_size=1)
        page = await it.stub.ListWorkflowRevisions(request, metadata=USER, timeout=30)
        assert [(entry.revision, entry.document) for entry in page.revisions] == [(2, b"")]
        request.page_token = page.next_page_token
        page = await it.stub.ListWorkflowRevisions(request, metadata=USER, timeout=30)
        assert [entry.revision for entry in page.revisions] == [1]
        assert page.next_page_token == ""
        request = pb.ListWorkflowRevisionsRequest(name="nothing")
        call = it.stub.ListWorkflowRevisions(request, metadata=USER, timeout=30)
        assert (await refused(call))[1] == "WORKFLOW_NOT_FOUND"


@in_loop
async def test_workflows_are_listed_in_pages(authority: TestAuthority) -> None:
    async with engine_room(authority, chain=False) as it:
        for name in (b"c", b"a", b"b"):
            await it.create(CHAIN.replace(b"chain", name))
        request = pb.ListWorkflowsRequest(page_size=2)
        page = await it.stub.ListWorkflows(request, metadata=USER, timeout=30)
        assert [entry.name for entry in page.workflows] == ["a", "b"]
        request.page_token = page.next_page_token
        page = await it.stub.ListWorkflows(request, metadata=USER, timeout=30)
        assert [entry.name for entry in page.workflows] == ["c"]
        request.show_archived = True
        call = it.stub.ListWorkflows(request, metadata=USER, timeout=30)
        assert (await refused(call))[1] == "INVALID_PAGE_TOKEN"


@in_loop
async def test_an_archived_workflow_starts_nothing(authority: TestAuthority) -> None:
    async with engine_room(authority) as it:
        await it.start()
        request = pb.ArchiveWorkflowRequest(name="chain")
        for _ in range(2):
            answer = await it.stub.ArchiveWorkflow(request, metadata=USER, timeout=30)
            assert answer.workflow.archived
        code, reason, _ = await refused(it.start())
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WORKFLOW_ARCHIVED")
        _, reason, _ = await refused(it.update("chain", CHAIN.replace(b"blue", b"red")))
        assert reason == "WORKFLOW_ARCHIVED"
        restore = pb.RestoreWorkflowRequest(name="chain")
        answer = await it.stub.RestoreWorkflow(restore, metadata=USER, timeout=30)
        assert not answer.workflow.archived
        assert (await it.start()).created
        for call in (
            it.stub.ArchiveWorkflow(pb.ArchiveWorkflowRequest(name="x"), metadata=USER),
            it.stub.RestoreWorkflow(pb.RestoreWorkflowRequest(name="x"), metadata=USER),
        ):
            assert (await refused(call))[1] == "WORKFLOW_NOT_FOUND"


LOOP = b"""name: w
tasks:
  - {id: a, type: test.echo, depends_on: [b]}
  - {id: b, type: test.echo, depends_on: [a]}
"""
WRONG = [
    (b"name: [", "SYNTAX"),
    (CHAIN + b"surprise: 1\n", "UNKNOWN_KEY"),
    (LOOP, "CYCLE"),
]


@pytest.mark.parametrize(("document", "finding"), WRONG, ids=[name for _, name in WRONG])
@in_loop
async def test_a_wrong_document_is_refused_with_its_place(
    authority: TestAuthority, document: bytes, finding: str
) -> None:
    async with engine_room(authority, chain=False) as it:
        code, reason, metadata = await refused(it.create(document))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_DOCUMENT")
        assert metadata["finding"] == finding
        assert int(metadata["line"]) >= 1
        valid, found = await validated(it, document)
        assert not valid
        assert found[0].reason == finding
        assert found[0].line == int(metadata["line"])


async def validated(it: EngineRoom, document: bytes):
    request = pb.ValidateWorkflowRequest(
        document=HttpBody(content_type="application/yaml", data=document)
    )
    answer = await it.stub.ValidateWorkflow(request, metadata=USER, timeout=30)
    return answer.valid, list(answer.findings)


@in_loop
async def test_unknown_components_are_refused_unless_allowed(authority: TestAuthority) -> None:
    document = CHAIN.replace(
        b'type: test.echo\n    text: "{{first', b'type: gone.away@2\n    text: "{{first'
    )
    async with engine_room(authority, chain=False) as it:
        code, reason, metadata = await refused(it.create(document))
        assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UNKNOWN_COMPONENT")
        assert metadata["component"] == "gone.away@2"
        assert metadata["path"] == "tasks[1].type"
        assert metadata["line"] == "9"
        valid, found = await validated(it, document)
        assert (valid, found[0].reason) == (False, "UNKNOWN_COMPONENT")
        await it.component("gone.away", "1.4.0")
        assert (await refused(it.create(document)))[1] == "UNKNOWN_COMPONENT"
        allowed = document + b"    allow_unregistered: true\n"
        assert (await it.create(allowed)).created


@in_loop
async def test_components_are_pinned_to_the_newest_major(authority: TestAuthority) -> None:
    async with engine_room(authority, chain=False) as it:
        await it.component("test.echo", "3.1.0")
        await it.component("test.echo", "2.9.0")
        await it.create()
        await it.component("test.echo", "4.0.0")
        assert (await it.plans.plan("default", "chain", 1)).tasks[0].major == 3
        await it.update("chain", CHAIN.replace(b"blue", b"red"))
        assert (await it.plans.plan("default", "chain", 2)).tasks[0].major == 4


@in_loop
async def test_literal_inputs_are_checked_by_the_contract(authority: TestAuthority) -> None:
    schema = b'{"type":"object","properties":{"size":{"type":"integer"}},"required":["size"]}'
    document = b"name: w\ntasks:\n  - id: a\n    type: strict.part\n    size: big\n"
    async with engine_room(authority, chain=False) as it:
        await it.component("strict.part", input_schema=schema)
        _, reason, metadata = await refused(it.create(document))
        assert (reason, metadata["finding"]) == ("INVALID_DOCUMENT", "BAD_INPUT")
        assert metadata["line"] == "5"
        assert (await it.create(document.replace(b"big", b"3"))).created


@in_loop
async def test_an_oversized_document_names_the_limit(authority: TestAuthority) -> None:
    async with engine_room(authority, chain=False) as it:
        code, reason, metadata = await refused(it.create(b"#" * (8 * 1024 * 1024 + 1)))
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")
        assert metadata == {"size": "8388609", "limit": "8388608"}
