"""Approvals and bulk jobs."""

from typing import Any, cast

import orjson

from bend.v1 import approval_pb2, bulk_pb2
from bend_server.core.errors import InvalidInput, NotFound
from bend_server.core.times import rfc3339
from bend_server.language.cel_library import Programs
from bend_server.language.findings import show_path
from bend_server.language.schemas import BadSchema, Schema, TooCostly
from bend_server.ports.control import APPROVAL_PENDING, ApprovalSummary, BulkRow, ExecutionFilter
from bend_server.ports.engine import BulkCommand, Decision
from bend_server.rpc import control_requests, paging, rest_json
from bend_server.rpc.engine_service.call import Call, call_of
from bend_server.rpc.engine_service.control import plain
from bend_server.rpc.engine_service.reads import label_of
from bend_server.rpc.rooms import Rooms
from bend_server.rpc.times import stamp

ID_PARTS = 4


class DecisionRpcs:
    """ListApprovals, DecideApproval, BulkExecutions, GetBulk."""

    _rooms: Rooms

    async def ListApprovals(self, request: approval_pb2.ListApprovalsRequest, context: Any) -> Any:
        call = call_of(context)
        size = paging.page_size(request.page_size)
        status = int(request.status) or APPROVAL_PENDING
        scope = (
            "approvals", call.namespace, request.execution_id, status, request.assignee,
        )  # fmt: skip
        after: tuple[int, int, int, int] | None = None
        if request.page_token:
            read = [int(str(p)) for p in paging.read_token(scope, request.page_token, int, 4)]
            after = (read[0], read[1], read[2], read[3])
        execution: int | None = None
        if request.execution_id:
            execution = (await self._rooms.execution(call.namespace, request.execution_id)).id
        found = await self._rooms.reads.approvals(
            call.namespace,
            execution=execution,
            status=status,
            assignee=request.assignee or None,
            after=after,
            limit=size + 1,
        )
        token = ""
        if len(found) > size:
            found = found[:size]
            last = found[-1]
            token = paging.make_token(
                scope, [last.created_us, last.execution, last.task, last.item]
            )
        if call.rest:
            shown = [approval_json(one) for one in found]
            return approval_pb2.ListApprovalsResponse(
                body=rest_json.body({"approvals": shown, "next_page_token": token})
            )
        return approval_pb2.ListApprovalsResponse(
            approvals=[approval_message(one) for one in found], next_page_token=token
        )

    async def DecideApproval(
        self, request: approval_pb2.DecideApprovalRequest, context: Any
    ) -> Any:
        call = call_of(context)
        if request.HasField("body"):
            request = control_requests.decision_from_body(request.approval_id, request.body)
        approval = await self._approval(call, request.approval_id)
        data = control_requests.checked_payload(request.data, "data")
        # One that is decided already is refused for that, whatever the data.
        if approval.status == APPROVAL_PENDING and (request.approved or request.data):
            check_form(approval, data)
        decided = await self._rooms.engine.decide_approval(
            Decision(
                approval.execution,
                approval.task,
                approval.item,
                approval.try_,
                request.approved,
                plain(request.comment),
                data,
                call.peer.subject,
            )
        )
        if call.rest:
            return approval_pb2.DecideApprovalResponse(body=rest_json.body(approval_json(decided)))
        return approval_pb2.DecideApprovalResponse(approval=approval_message(decided))

    async def _approval(self, call: Call, text: str) -> ApprovalSummary:
        parts = text.split("-")
        found: ApprovalSummary | None = None
        if len(parts) == ID_PARTS and all(part.isascii() and part.isdigit() for part in parts):
            execution, task, item, try_ = (int(part) for part in parts)
            if max(execution, task, item, try_) < 1 << 63:
                found = await self._rooms.reads.approval(
                    call.namespace, execution, task, item - 1, try_
                )
        if found is None:
            raise NotFound(
                f"no approval {text[:200]!r}", reason="APPROVAL_NOT_FOUND", approval=text[:200]
            )
        return found

    async def BulkExecutions(self, request: bulk_pb2.BulkExecutionsRequest, context: Any) -> Any:
        call = call_of(context)
        row = await self._rooms.engine.bulk(
            BulkCommand(
                call.namespace,
                int(request.action),
                filter_of(request),
                plain(request.reason),
                call.peer.subject,
                request.dry_run,
                request.request_id,
            )
        )
        return bulk_pb2.BulkExecutionsResponse(bulk=bulk_message(row))

    async def GetBulk(self, request: bulk_pb2.GetBulkRequest, context: Any) -> Any:
        call = call_of(context)
        text = request.bulk_id
        row: BulkRow | None = None
        if text.isascii() and text.isdigit() and int(text) < 1 << 63:
            row = await self._rooms.reads.bulk(call.namespace, int(text))
        if row is None:
            raise NotFound(f"no bulk job {text!r}", reason="BULK_NOT_FOUND", bulk=text)
        return bulk_pb2.GetBulkResponse(bulk=bulk_message(row))


def approval_id(one: ApprovalSummary) -> str:
    """Return an approval's public id."""
    return f"{one.execution}-{one.task}-{one.item + 1}-{one.try_}"


def check_form(approval: ApprovalSummary, data: bytes) -> None:
    """Check a decision's data. Raises InvalidInput, naming the first place that does not fit."""
    if not approval.form:
        return
    try:
        wrong = Schema(orjson.loads(approval.form), Programs()).errors(orjson.loads(data))
    except (BadSchema, TooCostly) as error:
        raise InvalidInput(f"the form cannot be applied: {error}", field="data") from None
    if wrong:
        place = show_path(tuple(wrong[0].absolute_path))
        if data == b"null":
            raise InvalidInput("the form wants data, and none was given", field="data", path="")
        raise InvalidInput(
            f"data{'.' if place else ''}{place}: {wrong[0].message[:300]}", field="data", path=place
        )


def filter_of(request: bulk_pb2.BulkExecutionsRequest) -> ExecutionFilter:
    """Return which executions are meant. Raises InvalidInput for a filter that names all."""
    made = ExecutionFilter(
        workflow=request.workflow or None,
        statuses=tuple(int(status) for status in request.statuses),
        label=label_of(request.label),
        started_after_us=_time(request, "started_after"),
        started_before_us=_time(request, "started_before"),
    )
    if made == ExecutionFilter():
        raise InvalidInput(
            "say which executions: workflow, statuses, label, started_after or started_before",
            field="workflow",
        )
    return made


def _time(request: Any, field: str) -> int | None:
    if not request.HasField(field):
        return None
    try:
        return int(getattr(request, field).ToMicroseconds())
    except ValueError:
        raise InvalidInput(
            f"{field} is no time from 0001-01-01 to 9999-12-31 UTC", field=field
        ) from None


def approval_message(one: ApprovalSummary) -> approval_pb2.Approval:
    """Return an approval as a message."""
    message = approval_pb2.Approval(
        approval_id=approval_id(one),
        execution_id=one.public_id,
        workflow=one.workflow,
        task=one.task_id,
        item=one.item,
        title=one.title,
        assignees=orjson.loads(one.assignees or b"[]"),
        form=one.form,
        status=cast("approval_pb2.Approval.Status", one.status),
        decided_by=one.decided_by,
        comment=one.comment,
    )
    stamp(message.create_time, one.created_us)
    stamp(message.expire_time, one.expires_us or None)
    stamp(message.decide_time, one.decided_us)
    return message


def approval_json(one: ApprovalSummary) -> dict[str, object]:
    """Return an approval as REST shows it."""
    return {
        "approval_id": approval_id(one),
        "execution_id": one.public_id,
        "workflow": one.workflow,
        "task": one.task_id,
        "item": one.item,
        "title": one.title,
        "assignees": orjson.Fragment(one.assignees or b"[]"),
        "form": rest_json.embedded(one.form),
        "status": approval_pb2.Approval.Status.Name(
            cast("approval_pb2.Approval.Status", one.status)
        ),
        "created_at": rfc3339(one.created_us),
        "expires_at": rfc3339(one.expires_us) if one.expires_us else None,
        "decided_by": one.decided_by,
        "decided_at": rfc3339(one.decided_us) if one.decided_us else None,
        "comment": one.comment,
    }


def bulk_message(row: BulkRow) -> bulk_pb2.Bulk:
    """Return a bulk job as a message."""
    message = bulk_pb2.Bulk(
        bulk_id=str(row.id),
        action=cast("bulk_pb2.Bulk.Action", row.action),
        dry_run=bool(row.dry_run),
        state=cast("bulk_pb2.Bulk.State", row.state),
        matched_count=row.matched,
        done_count=row.done,
        refused_count=row.refused,
        sample=orjson.loads(row.sample or b"[]"),
        actor=row.actor,
    )
    stamp(message.create_time, row.created_us)
    stamp(message.update_time, row.updated_us)
    return message
