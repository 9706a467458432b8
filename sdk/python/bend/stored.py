"""What the client answers about what is stored: workflows, revisions, components, instances."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bend.models import fragment, iso, moment, parsed
from bend.v1 import component_pb2, registry_service_pb2, workflow_pb2


@dataclass(frozen=True, slots=True)
class WorkflowInfo:
    """A stored workflow; `document_json` is set when it was asked for."""

    name: str
    revision: int
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    archived: bool = False
    task_count: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    created: bool = False
    document_json: bytes = b""
    digest: str = ""

    @classmethod
    def of(
        cls,
        one: workflow_pb2.Workflow,
        revision: workflow_pb2.WorkflowRevision | None = None,
        *,
        created: bool = False,
    ) -> "WorkflowInfo":
        """Read one, with the document of a revision."""
        return cls(
            name=one.name,
            revision=revision.revision if revision else one.revision,
            description=one.description,
            labels=dict(one.labels),
            archived=one.archived,
            task_count=one.task_count,
            created_at=moment(one.create_time),
            updated_at=moment(revision.create_time if revision else one.update_time),
            created=created,
            document_json=revision.document if revision else b"",
            digest=revision.digest if revision else "",
        )

    @property
    def document(self) -> Any:
        """The document, parsed."""
        return parsed(self.document_json)

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of `bend workflows`."""
        document: dict[str, Any] = {
            "name": self.name,
            "revision": self.revision,
            "description": self.description,
            "labels": self.labels,
            "archived": self.archived,
            "task_count": self.task_count,
            "created_at": iso(self.created_at),
            "updated_at": iso(self.updated_at),
        }
        if self.document_json:
            document["digest"] = self.digest
            document["document"] = fragment(self.document_json)
        return document


@dataclass(frozen=True, slots=True)
class RevisionInfo:
    """One immutable revision of a workflow."""

    workflow: str
    revision: int
    digest: str
    created_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of `bend workflows revisions`."""
        return {
            "workflow": self.workflow,
            "revision": self.revision,
            "digest": self.digest,
            "created_at": iso(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class ComponentInfo:
    """A registered component; the contract's fields are set when one was asked for."""

    name: str
    version: str
    description: str = ""
    version_count: int = 1
    instance_count: int = 0
    updated_at: datetime | None = None
    long_running: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    input_schema_json: bytes = b""
    output_schema_json: bytes = b""
    deprecated: bool = False
    weights: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        one: component_pb2.Component,
        version: component_pb2.ComponentVersion | None = None,
        weights: Iterable[registry_service_pb2.VersionWeight] = (),
    ) -> "ComponentInfo":
        """Read one, with the contract of a version and the weights of all."""
        contract = version.contract if version else component_pb2.ComponentContract()
        return cls(
            name=one.name,
            version=contract.version or one.latest_version,
            description=contract.description or one.description,
            version_count=one.version_count,
            instance_count=one.instance_count,
            updated_at=moment(one.update_time),
            long_running=contract.long_running,
            labels=dict(contract.labels),
            input_schema_json=contract.input_schema,
            output_schema_json=contract.output_schema,
            deprecated=version.deprecated if version else False,
            weights={one.version: one.weight for one in weights},
        )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of `bend components`."""
        document: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "version_count": self.version_count,
            "instance_count": self.instance_count,
            "updated_at": iso(self.updated_at),
        }
        if self.input_schema_json or self.output_schema_json:
            document |= {
                "long_running": self.long_running,
                "labels": self.labels,
                "input_schema": fragment(self.input_schema_json),
                "output_schema": fragment(self.output_schema_json),
                "deprecated": self.deprecated,
                "weights": self.weights,
            }
        return document


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """One live connection that serves a component."""

    instance_id: str
    component: str
    version: str
    executor: str
    credit: int
    in_flight: int
    draining: bool
    labels: dict[str, str]
    connected_at: datetime | None

    @classmethod
    def of(cls, one: component_pb2.Instance) -> "InstanceInfo":
        """Read one."""
        return cls(
            instance_id=one.instance_id,
            component=one.component,
            version=one.version,
            executor=one.executor,
            credit=one.credit,
            in_flight=one.in_flight,
            draining=one.draining,
            labels=dict(one.labels),
            connected_at=moment(one.connect_time),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON form of `bend components instances`."""
        return {
            "instance_id": self.instance_id,
            "component": self.component,
            "version": self.version,
            "executor": self.executor,
            "credit": self.credit,
            "in_flight": self.in_flight,
            "draining": self.draining,
            "labels": self.labels,
            "connected_at": iso(self.connected_at),
        }
