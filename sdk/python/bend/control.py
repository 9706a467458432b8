"""The client's calls that steer executions: pause, retry, reset, signals, approvals, bulk jobs."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from bend import payloads
from bend.channel import Channel
from bend.decisions import ApprovalInfo, BulkInfo
from bend.errors import InvalidRequest
from bend.v1 import approval_pb2, bulk_pb2, engine_service_pb2_grpc, execution_pb2
from bend.v1 import engine_service_pb2 as engine_pb
from bend.v1 import execution_control_pb2 as pb

PAGE_MAX = 1000
ACTIONS = {"cancel": bulk_pb2.Bulk.CANCEL, "retry": bulk_pb2.Bulk.RETRY}

Parameters = Mapping[str, Any] | bytes | None


class Control:
    """Steering of executions over one channel; part of `Client`.

    What changes something has a request id where a repeat would do harm, so that calls may be
    repeated while the service is away.
    """

    _channel: Channel

    def _control(self) -> Any:
        return self._channel.stub(engine_service_pb2_grpc.EngineServiceStub)

    async def cancel(self, execution_id: str, reason: str = "") -> str:
        """Cancel an execution; return its status after the wish is durable. Idempotent.

        Running tasks get 10 s of grace, so the answer is often RUNNING.

        Raises NotFound; WrongState when it ended otherwise; Unreachable.
        """
        answer = await self._channel.call(
            self._control().CancelExecution,
            engine_pb.CancelExecutionRequest(execution_id=execution_id, reason=reason),
        )
        return status_name(answer.status)

    async def pause(self, execution_id: str, reason: str = "") -> str:
        """Hold an execution: running tasks finish, nothing new begins. Returns its status.

        Raises NotFound; WrongState when it has ended; Unreachable.
        """
        answer = await self._channel.call(
            self._control().PauseExecution,
            pb.PauseExecutionRequest(execution_id=execution_id, reason=reason),
        )
        return status_name(answer.status)

    async def resume(self, execution_id: str) -> str:
        """Let a paused execution go on; return its status.

        Raises NotFound; WrongState when it has ended or is quarantined; Unreachable.
        """
        answer = await self._channel.call(
            self._control().ResumeExecution, pb.ResumeExecutionRequest(execution_id=execution_id)
        )
        return status_name(answer.status)

    async def retry(
        self, execution_id: str, reason: str = "", *, request_id: str | None = None
    ) -> int:
        """Open a new run that keeps what completed and does the rest again; return its number.

        Raises NotFound; WrongState unless it is FAILED, CANCELLED, TIMED_OUT or paused because a
        task failed; Unreachable.
        """
        answer = await self._channel.call(
            self._control().RetryExecution,
            pb.RetryExecutionRequest(
                execution_id=execution_id, reason=reason, request_id=fresh(request_id)
            ),
        )
        return int(answer.run)

    async def reset(
        self, execution_id: str, task: str, reason: str = "", *, request_id: str | None = None
    ) -> int:
        """Open a new run in which a task and all that follows it are done again.

        Args:
            task: id of the first task to do again.

        Returns the run's number. Raises NotFound; InvalidRequest for an unknown task; WrongState
        while it runs; Unreachable.
        """
        answer = await self._channel.call(
            self._control().ResetExecution,
            pb.ResetExecutionRequest(
                execution_id=execution_id, task=task, reason=reason, request_id=fresh(request_id)
            ),
        )
        return int(answer.run)

    async def rerun(
        self,
        execution_id: str,
        parameters: Parameters = None,
        *,
        merge: bool = False,
        revision: int = 0,
        request_id: str | None = None,
    ) -> str:
        """Start a new execution with another's input; return the new one's id.

        Args:
            parameters: instead of the old ones; None: the same.
            merge: put `parameters` over the old ones key by key.
            revision: 0: that of the old execution.

        Raises NotFound, InvalidParameters, WrongState (archived), Unreachable.
        """
        body = parameters if isinstance(parameters, bytes) else b""
        if isinstance(parameters, Mapping):
            body = payloads.dumps(parameters)
        answer = await self._channel.call(
            self._control().RerunExecution,
            pb.RerunExecutionRequest(
                execution_id=execution_id,
                parameters=body,
                merge=merge,
                revision=revision,
                request_id=fresh(request_id),
            ),
        )
        return str(answer.execution_id)

    async def signal(
        self, execution_id: str, name: str, payload: Any = None, *, request_id: str | None = None
    ) -> bool:
        """Give an execution a signal; return whether a waiting task took it (else it is kept).

        Args:
            payload: any JSON value, at most 64 KiB.

        Raises NotFound; WrongState when it has ended; LimitExceeded; Unreachable.
        """
        answer = await self._channel.call(
            self._control().SignalExecution,
            pb.SignalExecutionRequest(
                execution_id=execution_id,
                name=name,
                payload=payloads.dumps(payload),
                request_id=fresh(request_id),
            ),
        )
        return bool(answer.delivered)

    # Approvals

    async def list_approvals(
        self,
        *,
        execution_id: str = "",
        status: str = "PENDING",
        assignee: str = "",
        limit: int = 100,
    ) -> list[ApprovalInfo]:
        """List approvals, oldest first.

        Args:
            execution_id: only of this execution.
            status: PENDING, APPROVED, REJECTED or CLOSED.
            assignee: only those that this user may decide.
            limit: at most so many.

        Raises InvalidRequest, Unreachable.
        """
        known = approval_pb2.Approval.Status
        if status.upper() not in known.keys():  # noqa: SIM118 - an enum wrapper, no mapping
            names = ", ".join(name for name in known.keys() if known.Value(name))  # noqa: SIM118
            raise InvalidRequest(f"no approval has the status {status}; known: {names}")
        found: list[ApprovalInfo] = []
        token = ""
        while len(found) < limit:
            answer = await self._channel.call(
                self._control().ListApprovals,
                approval_pb2.ListApprovalsRequest(
                    page_size=min(PAGE_MAX, limit - len(found)),
                    page_token=token,
                    execution_id=execution_id,
                    status=status.upper(),
                    assignee=assignee,
                ),
            )
            found += [ApprovalInfo.of(one) for one in answer.approvals]
            token = answer.next_page_token
            if not token:
                break
        return found

    async def decide(
        self, approval_id: str, *, approved: bool, comment: str = "", data: Any = None
    ) -> ApprovalInfo:
        """Decide an approval. The same decision again answers the first.

        Args:
            data: JSON that fits the approval's form.

        Raises NotFound; WrongState when it is decided otherwise or closed; InvalidRequest when the
        data does not fit the form; NotPermitted; Unreachable.
        """
        answer = await self._channel.call(
            self._control().DecideApproval,
            approval_pb2.DecideApprovalRequest(
                approval_id=approval_id,
                approved=approved,
                comment=comment,
                data=b"" if data is None else payloads.dumps(data),
            ),
        )
        return ApprovalInfo.of(answer.approval)

    # Bulk jobs

    async def bulk(
        self,
        action: str,
        *,
        workflow: str = "",
        statuses: Iterable[str] = (),
        label: str = "",
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        reason: str = "",
        dry_run: bool = False,
        request_id: str | None = None,
    ) -> BulkInfo:
        """Start a durable job that cancels or retries all matching executions.

        Args:
            action: `cancel` or `retry`.
            others: which executions; at least one filter.
            dry_run: only count them.

        Raises InvalidRequest, Unreachable.
        """
        if action not in ACTIONS:
            raise InvalidRequest(f"there is no bulk action {action}; known: cancel, retry")
        request = bulk_pb2.BulkExecutionsRequest(
            action=ACTIONS[action],
            workflow=workflow,
            statuses=statuses_of(statuses),
            label=label,
            reason=reason,
            dry_run=dry_run,
            request_id=fresh(request_id),
        )
        if started_after is not None:
            request.started_after.FromDatetime(started_after)
        if started_before is not None:
            request.started_before.FromDatetime(started_before)
        answer = await self._channel.call(self._control().BulkExecutions, request)
        return BulkInfo.of(answer.bulk)

    async def get_bulk(self, bulk_id: str) -> BulkInfo:
        """Read a bulk job's progress. Raises NotFound, Unreachable."""
        answer = await self._channel.call(
            self._control().GetBulk, bulk_pb2.GetBulkRequest(bulk_id=bulk_id)
        )
        return BulkInfo.of(answer.bulk)


def fresh(request_id: str | None) -> str:
    """Return the caller's request id, or a new one: it makes the call safe to repeat."""
    return uuid4().hex if request_id is None else request_id


def status_name(status: Any) -> str:
    """Return the customer's word for an execution's status."""
    return execution_pb2.Execution.Status.Name(status)


def statuses_of(names: Iterable[str]) -> list[Any]:
    """Return the statuses of names in any case. Raises InvalidRequest for an unknown one."""
    found = []
    for name in names:
        if name.upper() not in execution_pb2.Execution.Status.keys() or not name:  # noqa: SIM118
            known = ", ".join(execution_pb2.Execution.Status.keys()[1:])
            raise InvalidRequest(f"no execution has the status {name}; known: {known}")
        found.append(execution_pb2.Execution.Status.Value(name.upper()))
    return found
