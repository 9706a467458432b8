"""Types of the blocking client; its methods are made from `bend.Client` when it is imported."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bend.channel import RETRY_S
from bend.compatibility import Compatibility
from bend.decisions import ApprovalInfo, BulkInfo
from bend.errors import Finding
from bend.instance_pools import PoolInfo
from bend.models import Execution, StartOutcome, TaskRun, WatchEvent
from bend.stored import ComponentInfo, InstanceInfo, RevisionInfo, WorkflowInfo

Parameters = Mapping[str, Any] | bytes | None

class Client:
    def __init__(
        self,
        url: str | None = None,
        *,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
        token: str | None = None,
        namespace: str | None = None,
        home: str | Path | None = None,
        retry_timeout: float = RETRY_S,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...
    def close(self) -> None: ...
    def start(
        self,
        workflow: str,
        parameters: Parameters = None,
        *,
        revision: int = 0,
        request_id: str | None = None,
        execution_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Execution: ...
    def start_many(
        self, starts: Iterable[tuple[str, Parameters] | Mapping[str, Any]]
    ) -> list[StartOutcome]: ...
    def run(
        self,
        workflow: str,
        parameters: Parameters = None,
        *,
        timeout: float | None = None,
        revision: int = 0,
        request_id: str | None = None,
        execution_id: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Execution: ...
    def wait(self, execution_id: str, *, timeout: float | None = None) -> Execution: ...
    def watch(
        self,
        execution_id: str,
        *,
        cursor: str = "",
        states_only: bool = False,
        keepalives: bool = False,
    ) -> Iterator[WatchEvent]: ...
    def watch_many(
        self, execution_ids: Sequence[str], *, payloads: bool = True
    ) -> Iterator[Execution]: ...
    def get(self, execution_id: str, *, tasks: bool = True) -> Execution: ...
    def list_executions(
        self,
        *,
        workflow: str = "",
        statuses: Iterable[str] = (),
        label: str = "",
        active: bool = False,
        limit: int = 100,
    ) -> list[Execution]: ...
    def list_tasks(self, execution_id: str, *, limit: int = 20000) -> list[TaskRun]: ...
    def cancel(self, execution_id: str, reason: str = "") -> str: ...
    def create_workflow(self, document: Any) -> WorkflowInfo: ...
    def deploy(self, document: Any) -> WorkflowInfo: ...
    def validate(self, document: Any) -> list[Finding]: ...
    def get_workflow(self, name: str, *, revision: int = 0) -> WorkflowInfo: ...
    def list_workflows(
        self, *, archived: bool = False, limit: int = 1000
    ) -> list[WorkflowInfo]: ...
    def list_revisions(self, name: str, *, limit: int = 1000) -> list[RevisionInfo]: ...
    def archive_workflow(self, name: str) -> None: ...
    def restore_workflow(self, name: str) -> WorkflowInfo: ...
    def list_components(self, *, query: str = "", limit: int = 1000) -> list[ComponentInfo]: ...
    def get_component(self, name: str, *, version: str = "") -> ComponentInfo: ...
    def list_instances(self, name: str) -> list[InstanceInfo]: ...
    def drain_instance(self, instance_id: str, *, restore: bool = False) -> list[InstanceInfo]: ...
    def deprecate_component(
        self, name: str, version: str, *, restore: bool = False
    ) -> ComponentInfo: ...
    def set_component_weights(self, name: str, weights: Mapping[str, int]) -> dict[str, int]: ...
    def check_compatibility(
        self,
        name: str,
        *,
        version: str = "",
        base_version: str = "",
        component: Callable[..., Any] | None = None,
    ) -> Compatibility: ...
    def list_pools(self) -> list[PoolInfo]: ...
    def get_pool(self, name: str) -> PoolInfo: ...
    def put_pool(self, document: Any, *, name: str = "") -> bool: ...
    def scale_pool(self, name: str, instances: int | None) -> PoolInfo: ...
    def delete_pool(self, name: str) -> None: ...
    def pause(self, execution_id: str, reason: str = "") -> str: ...
    def resume(self, execution_id: str) -> str: ...
    def retry(
        self, execution_id: str, reason: str = "", *, request_id: str | None = None
    ) -> int: ...
    def reset(
        self, execution_id: str, task: str, reason: str = "", *, request_id: str | None = None
    ) -> int: ...
    def rerun(
        self,
        execution_id: str,
        parameters: Parameters = None,
        *,
        merge: bool = False,
        revision: int = 0,
        request_id: str | None = None,
    ) -> str: ...
    def signal(
        self, execution_id: str, name: str, payload: Any = None, *, request_id: str | None = None
    ) -> bool: ...
    def list_approvals(
        self,
        *,
        execution_id: str = "",
        status: str = "PENDING",
        assignee: str = "",
        limit: int = 100,
    ) -> list[ApprovalInfo]: ...
    def decide(
        self, approval_id: str, *, approved: bool, comment: str = "", data: Any = None
    ) -> ApprovalInfo: ...
    def bulk(
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
    ) -> BulkInfo: ...
    def get_bulk(self, bulk_id: str) -> BulkInfo: ...
