"""What the client answers about decisions and bulk jobs: approvals, bulk."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bend.models import fragment, iso, moment, parsed
from bend.v1 import approval_pb2, bulk_pb2


@dataclass(frozen=True, slots=True)
class ApprovalInfo:
    """One decision that a task waits for, or that was taken.

    `status` is PENDING, APPROVED, REJECTED or CLOSED (the task ended otherwise); `form_json` is a
    JSON Schema of the data that a decision brings; no assignees: everybody who may approve.
    """

    approval_id: str
    execution_id: str
    workflow: str
    task: str
    title: str
    item: int = -1
    status: str = "PENDING"
    assignees: tuple[str, ...] = ()
    form_json: bytes = b""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    decided_by: str = ""
    decided_at: datetime | None = None
    comment: str = ""

    @classmethod
    def of(cls, one: approval_pb2.Approval) -> "ApprovalInfo":
        """Read one."""
        return cls(
            approval_id=one.approval_id,
            execution_id=one.execution_id,
            workflow=one.workflow,
            task=one.task,
            title=one.title,
            item=one.item,
            status=approval_pb2.Approval.Status.Name(one.status),
            assignees=tuple(one.assignees),
            form_json=one.form,
            created_at=moment(one.create_time),
            expires_at=moment(one.expire_time),
            decided_by=one.decided_by,
            decided_at=moment(one.decide_time),
            comment=one.comment,
        )

    @property
    def form(self) -> Any:
        """The JSON Schema of a decision's data, parsed; None when any will do."""
        return parsed(self.form_json)

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON form."""
        return {
            "approval_id": self.approval_id,
            "execution_id": self.execution_id,
            "workflow": self.workflow,
            "task": self.task,
            "item": self.item,
            "title": self.title,
            "status": self.status,
            "assignees": list(self.assignees),
            "form": fragment(self.form_json),
            "created_at": iso(self.created_at),
            "expires_at": iso(self.expires_at),
            "decided_by": self.decided_by,
            "decided_at": iso(self.decided_at),
            "comment": self.comment,
        }


@dataclass(frozen=True, slots=True)
class BulkInfo:
    """A durable job over many executions; `state` is RUNNING or DONE."""

    bulk_id: str
    action: str
    state: str
    dry_run: bool = False
    matched: int = 0
    done: int = 0
    refused: int = 0
    sample: tuple[str, ...] = ()
    actor: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @classmethod
    def of(cls, one: bulk_pb2.Bulk) -> "BulkInfo":
        """Read one."""
        return cls(
            bulk_id=one.bulk_id,
            action=bulk_pb2.Bulk.Action.Name(one.action),
            state=bulk_pb2.Bulk.State.Name(one.state),
            dry_run=one.dry_run,
            matched=one.matched_count,
            done=one.done_count,
            refused=one.refused_count,
            sample=tuple(one.sample),
            actor=one.actor,
            created_at=moment(one.create_time),
            updated_at=moment(one.update_time),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the documented JSON form."""
        return {
            "bulk_id": self.bulk_id,
            "action": self.action,
            "state": self.state,
            "dry_run": self.dry_run,
            "matched": self.matched,
            "done": self.done,
            "refused": self.refused,
            "sample": list(self.sample),
            "actor": self.actor,
            "created_at": iso(self.created_at),
            "updated_at": iso(self.updated_at),
        }
