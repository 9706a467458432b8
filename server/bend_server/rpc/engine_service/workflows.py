"""Workflows: check a document, pin its components, store an immutable revision."""

import asyncio
import hashlib
from typing import Any, NamedTuple

import orjson
from google.api.httpbody_pb2 import HttpBody

from bend.v1 import engine_service_pb2 as pb
from bend_server.core import limits
from bend_server.core.errors import (
    Finding,
    InvalidDocument,
    InvalidInput,
    LimitExceeded,
    NotFound,
    WrongState,
)
from bend_server.core.plan import PLAN_FORMAT
from bend_server.language import Definition, compile_document
from bend_server.language.contracts import ContractView
from bend_server.ports.store import ComponentRow, WorkflowSummary
from bend_server.rpc import messages, paging, rest_json
from bend_server.rpc.engine_service.call import Call, call_of
from bend_server.rpc.engine_service.starts import Starter
from bend_server.rpc.rooms import Rooms

# A larger document would hold the event loop for too long.
INLINE_BYTES_MAX = 16 * 1024


class Pinned(NamedTuple):
    """What the registry said about a document's components."""

    pins: dict[str, int]
    findings: list[Finding]
    unknown: list[Finding]


class WorkflowRpcs:
    """CreateWorkflow to ValidateWorkflow."""

    _rooms: Rooms
    _starter: Starter

    async def CreateWorkflow(self, request: pb.CreateWorkflowRequest, context: Any) -> Any:
        call = call_of(context)
        definition = await compiled(request.document)
        workflow, created = await self._stored(call, definition, create_only=True)
        return pb.CreateWorkflowResponse(
            workflow=messages.workflow_message(workflow), created=created
        )

    async def UpdateWorkflow(self, request: pb.UpdateWorkflowRequest, context: Any) -> Any:
        call = call_of(context)
        definition = await compiled(request.document)
        if definition.name != request.name:
            raise InvalidInput(
                f"the document's name is {definition.name!r}, the path says {request.name!r}",
                field="name",
                document=definition.name,
                path=request.name,
            )
        workflow, created = await self._stored(call, definition, create_only=False)
        return pb.UpdateWorkflowResponse(
            workflow=messages.workflow_message(workflow), created=created
        )

    async def ValidateWorkflow(self, request: pb.ValidateWorkflowRequest, context: Any) -> Any:
        call = call_of(context)
        try:
            definition = await compiled(request.document)
        except InvalidDocument as error:
            findings = error.findings
        else:
            pinned = await self._pinned(call.namespace, definition)
            findings = [*pinned.unknown, *pinned.findings]
            findings.sort(key=lambda found: (found.line, found.column))
        return pb.ValidateWorkflowResponse(
            findings=messages.finding_messages(findings), valid=not findings
        )

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, context: Any) -> Any:
        call = call_of(context)
        reads = self._rooms.reads
        workflow = await reads.workflow(call.namespace, request.name)
        stored = await reads.revision(call.namespace, request.name, request.revision or None)
        if workflow is None or stored is None:
            raise unknown_workflow(request.name, request.revision)
        if call.rest:
            shown = {"workflow": rest_json.workflow(workflow)}
            shown["revision"] = rest_json.revision(stored)
            return pb.GetWorkflowResponse(body=rest_json.body(shown))
        return pb.GetWorkflowResponse(
            workflow=messages.workflow_message(workflow),
            revision=messages.revision_message(stored),
        )

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, context: Any) -> Any:
        namespace = call_of(context).namespace
        scope = ("workflows", namespace, request.show_archived)
        after = None
        if request.page_token:
            after = str(paging.read_token(scope, request.page_token, str, 1)[0])
        size = paging.page_size(request.page_size)
        found = await self._rooms.reads.workflows(
            namespace, archived=request.show_archived, after=after, limit=size + 1
        )
        page = found[:size]
        token = paging.make_token(scope, [page[-1].name]) if len(found) > size else ""
        return pb.ListWorkflowsResponse(
            workflows=[messages.workflow_message(entry) for entry in page], next_page_token=token
        )

    async def ListWorkflowRevisions(
        self, request: pb.ListWorkflowRevisionsRequest, context: Any
    ) -> Any:
        namespace = call_of(context).namespace
        scope = ("revisions", namespace, request.name)
        before = None
        if request.page_token:
            before = int(str(paging.read_token(scope, request.page_token, int, 1)[0]))
        size = paging.page_size(request.page_size)
        found = await self._rooms.reads.revisions(namespace, request.name, before, size + 1)
        if not found and before is None:
            raise unknown_workflow(request.name)
        page = found[:size]
        token = paging.make_token(scope, [page[-1].revision]) if len(found) > size else ""
        return pb.ListWorkflowRevisionsResponse(
            revisions=[messages.revision_message(entry) for entry in page], next_page_token=token
        )

    async def ArchiveWorkflow(self, request: pb.ArchiveWorkflowRequest, context: Any) -> Any:
        workflow = await self._archived(call_of(context), request.name, True)
        return pb.ArchiveWorkflowResponse(workflow=messages.workflow_message(workflow))

    async def RestoreWorkflow(self, request: pb.RestoreWorkflowRequest, context: Any) -> Any:
        workflow = await self._archived(call_of(context), request.name, False)
        return pb.RestoreWorkflowResponse(workflow=messages.workflow_message(workflow))

    async def _archived(self, call: Call, name: str, archived: bool) -> WorkflowSummary:
        workflow = await self._rooms.workflows.set_archived(
            call.namespace, name, archived, self._rooms.clock.now_us()
        )
        if workflow is None:
            raise unknown_workflow(name)
        return workflow

    async def _stored(
        self, call: Call, definition: Definition, *, create_only: bool
    ) -> tuple[WorkflowSummary, bool]:
        pinned = await self._pinned(call.namespace, definition)
        if pinned.findings:
            raise InvalidDocument(pinned.findings)
        if pinned.unknown:
            raise unknown_component(pinned.unknown)
        stored = await self._rooms.workflows.put_revision(
            call.namespace,
            definition.name,
            document=definition.canonical,
            digest=hashlib.sha256(definition.canonical).hexdigest(),
            description=definition.description,
            labels=orjson.dumps(definition.labels),
            task_count=definition.task_count,
            pins=orjson.dumps(pinned.pins),
            plan_format=PLAN_FORMAT,
            now_us=self._rooms.clock.now_us(),
            create_only=create_only,
        )
        self._starter.forget(call.namespace, definition.name)
        return stored

    async def _pinned(self, namespace: str, definition: Definition) -> Pinned:
        """Choose the major version of each component, and check inputs by its contract."""
        known: dict[str, list[ComponentRow]] = {}
        pins: dict[str, int] = {}
        unknown: list[Finding] = []
        contracts: dict[str, ContractView] = {}
        for use in definition.components:
            if use.name not in known:
                known[use.name] = await self._rooms.registry.component_versions(namespace, use.name)
            row = _chosen(known[use.name], use.major)
            if row is None:
                if not use.allow_unregistered:
                    what = use.name if use.major is None else f"{use.name}@{use.major}"
                    text = f"nobody registered component {what}"
                    unknown.append(
                        Finding("UNKNOWN_COMPONENT", text, use.path, use.line, use.column)
                    )
                continue
            view = ContractView(row.input_schema, row.output_schema)
            if use.major is None:
                pins[use.name] = row.major
                contracts[use.name] = view
            else:
                contracts[f"{use.name}@{use.major}"] = view
        findings = await asyncio.to_thread(definition.check_contracts, contracts)
        return Pinned(pins, findings, unknown)


def _chosen(versions: list[ComponentRow], major: int | None) -> ComponentRow | None:
    """Return the newest version that may be chosen; a deprecated one only when it is pinned."""
    for row in versions:
        if major is not None and row.major == major:
            return row
        if major is None and not row.deprecated:
            return row
    return versions[0] if versions and major is None else None


async def compiled(document: HttpBody) -> Definition:
    """Compile a document that came in a request.

    Raises:
        InvalidDocument: with every finding.
        LimitExceeded: TOO_LARGE.
    """
    data = document.data
    if len(data) > limits.DOCUMENT_BYTES_MAX:
        raise LimitExceeded(
            f"the document has {len(data)} bytes, the limit is {limits.DOCUMENT_BYTES_MAX}",
            size=len(data),
            limit=limits.DOCUMENT_BYTES_MAX,
        )
    if len(data) <= INLINE_BYTES_MAX:
        return compile_document(data, document.content_type)
    return await asyncio.to_thread(compile_document, data, document.content_type)


def unknown_workflow(name: str, revision: int = 0) -> NotFound:
    """Return the error for a workflow, or a revision of it, that the namespace does not have."""
    which = f"workflow {name!r}" + (f" of revision {revision}" if revision else "")
    return NotFound(f"no {which}", reason="WORKFLOW_NOT_FOUND", workflow=name, revision=revision)


def unknown_component(findings: list[Finding]) -> WrongState:
    """Return the error for components that nobody registered; it names the first place."""
    first = findings[0]
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return WrongState(
        f"{first.line}:{first.column}: {first.message}{more}; register it first, or set "
        "allow_unregistered on the task",
        reason="UNKNOWN_COMPONENT",
        component=first.message.rpartition(" ")[2],
        path=first.path,
        line=first.line,
        column=first.column,
    )
