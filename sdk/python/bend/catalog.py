"""The client's calls about what is stored: workflows with their revisions, and components."""

from collections.abc import Callable, Mapping
from typing import Any

from google.api import httpbody_pb2

from bend.channel import Channel
from bend.compatibility import Compatibility
from bend.components import component_of
from bend.contracts import contract_of
from bend.documents import Document, read_document
from bend.errors import BendError, Finding
from bend.models import moment
from bend.stored import ComponentInfo, InstanceInfo, RevisionInfo, WorkflowInfo
from bend.v1 import (
    engine_service_pb2 as pb,
)
from bend.v1 import (
    engine_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
)

PAGE_MAX = 1000


class Catalog:
    """Workflows and components over one channel; part of `Client`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def _workflows(self) -> Any:
        return self._channel.stub(engine_service_pb2_grpc.EngineServiceStub)

    def _registry(self) -> Any:
        return self._channel.stub(registry_service_pb2_grpc.RegistryServiceStub)

    async def _store(self, read: Document, method: Any, request: Any) -> Any:
        try:
            return await self._channel.call(method, request)
        except BendError as error:
            error.source = read.source
            raise

    async def create_workflow(self, document: Any) -> WorkflowInfo:
        """Store a workflow's first revision. Idempotent by document.

        Args:
            document: a path, YAML or JSON text, a dict, or a `Workflow`; at most 8 MiB.

        Raises InvalidDocument with every finding, AlreadyExists, WrongState, LimitExceeded.
        """
        read = read_document(document)
        answer = await self._store(
            read,
            self._workflows().CreateWorkflow,
            pb.CreateWorkflowRequest(document=body_of(read)),
        )
        return WorkflowInfo.of(answer.workflow, created=answer.created)

    async def deploy(self, document: Any) -> WorkflowInfo:
        """Store a workflow, or a new revision of it; an unchanged document makes none.

        `created` of the answer tells whether one was made. Running executions keep their revision.

        Args:
            document: as `create_workflow`.

        Raises InvalidDocument with every finding, WrongState, LimitExceeded.
        """
        read = read_document(document)
        if not read.name:
            return await self.create_workflow(document)
        answer = await self._store(
            read,
            self._workflows().UpdateWorkflow,
            pb.UpdateWorkflowRequest(name=read.name, document=body_of(read)),
        )
        return WorkflowInfo.of(answer.workflow, created=answer.created)

    async def validate(self, document: Any) -> list[Finding]:
        """Check a document and store nothing; return the findings, [] when it is right.

        Raises LimitExceeded, Unreachable.
        """
        read = read_document(document)
        answer = await self._channel.call(
            self._workflows().ValidateWorkflow,
            pb.ValidateWorkflowRequest(document=body_of(read)),
        )
        return [
            Finding(one.reason, one.message, one.path, one.line, one.column)
            for one in answer.findings
        ]

    async def get_workflow(self, name: str, *, revision: int = 0) -> WorkflowInfo:
        """Read a workflow with the document of a revision; 0 is the newest. Raises NotFound."""
        answer = await self._channel.call(
            self._workflows().GetWorkflow, pb.GetWorkflowRequest(name=name, revision=revision)
        )
        return WorkflowInfo.of(answer.workflow, answer.revision)

    async def list_workflows(
        self, *, archived: bool = False, limit: int = 1000
    ) -> list[WorkflowInfo]:
        """List workflows by name; archived ones too when asked for."""
        found: list[WorkflowInfo] = []
        token = ""
        while len(found) < limit:
            answer = await self._channel.call(
                self._workflows().ListWorkflows,
                pb.ListWorkflowsRequest(
                    page_size=min(PAGE_MAX, limit - len(found)),
                    page_token=token,
                    show_archived=archived,
                ),
            )
            found += [WorkflowInfo.of(one) for one in answer.workflows]
            token = answer.next_page_token
            if not token:
                break
        return found

    async def list_revisions(self, name: str, *, limit: int = 1000) -> list[RevisionInfo]:
        """List the revisions of a workflow, newest first. Raises NotFound."""
        found: list[RevisionInfo] = []
        token = ""
        while len(found) < limit:
            answer = await self._channel.call(
                self._workflows().ListWorkflowRevisions,
                pb.ListWorkflowRevisionsRequest(
                    name=name, page_size=min(PAGE_MAX, limit - len(found)), page_token=token
                ),
            )
            found += [
                RevisionInfo(one.workflow, one.revision, one.digest, moment(one.create_time))
                for one in answer.revisions
            ]
            token = answer.next_page_token
            if not token:
                break
        return found

    async def archive_workflow(self, name: str) -> None:
        """Archive a workflow: it starts nothing more. Idempotent. Raises NotFound."""
        await self._channel.call(
            self._workflows().ArchiveWorkflow, pb.ArchiveWorkflowRequest(name=name)
        )

    async def restore_workflow(self, name: str) -> WorkflowInfo:
        """Take a workflow out of the archive. Idempotent. Raises NotFound."""
        answer = await self._channel.call(
            self._workflows().RestoreWorkflow, pb.RestoreWorkflowRequest(name=name)
        )
        return WorkflowInfo.of(answer.workflow)

    async def list_components(self, *, query: str = "", limit: int = 1000) -> list[ComponentInfo]:
        """List components by name; `query` searches name and description."""
        found: list[ComponentInfo] = []
        token = ""
        while len(found) < limit:
            answer = await self._channel.call(
                self._registry().ListComponents,
                registry_service_pb2.ListComponentsRequest(
                    page_size=min(PAGE_MAX, limit - len(found)), page_token=token, query=query
                ),
            )
            found += [ComponentInfo.of(one) for one in answer.components]
            token = answer.next_page_token
            if not token:
                break
        return found

    async def get_component(self, name: str, *, version: str = "") -> ComponentInfo:
        """Read a component with the contract of a version; empty: the newest. Raises NotFound."""
        answer = await self._channel.call(
            self._registry().GetComponent,
            registry_service_pb2.GetComponentRequest(name=name, version=version),
        )
        return ComponentInfo.of(answer.component, answer.version, answer.weights)

    async def list_instances(self, name: str) -> list[InstanceInfo]:
        """List the live instances of a component; an unknown component has none."""
        answer = await self._channel.call(
            self._registry().ListInstances, registry_service_pb2.ListInstancesRequest(name=name)
        )
        return [InstanceInfo.of(one) for one in answer.instances]

    async def drain_instance(
        self, instance_id: str, *, restore: bool = False
    ) -> list[InstanceInfo]:
        """Give an instance no new tasks, or (`restore`) take that back. Idempotent.

        Returns what the instance serves, once its executor has confirmed. Raises NotFound,
        Unreachable when the executor did not confirm.
        """
        answer = await self._channel.call(
            self._registry().DrainInstance,
            registry_service_pb2.DrainInstanceRequest(instance_id=instance_id, restore=restore),
        )
        return [InstanceInfo.of(one) for one in answer.instances]

    async def deprecate_component(
        self, name: str, version: str, *, restore: bool = False
    ) -> ComponentInfo:
        """Deprecate a version, or (`restore`) take that back. Idempotent. Raises NotFound."""
        await self._channel.call(
            self._registry().DeprecateComponentVersion,
            registry_service_pb2.DeprecateComponentVersionRequest(
                name=name, version=version, restore=restore
            ),
        )
        return await self.get_component(name, version=version)

    async def set_component_weights(self, name: str, weights: Mapping[str, int]) -> dict[str, int]:
        """Share new tasks out over versions; {}: the newest takes all. Idempotent.

        Args:
            weights: version → weight, 0 to 10,000 each, at most 16; a version's part is its weight
                over the sum of those that are live.

        Returns the weights, newest version first. Raises NotFound, InvalidRequest.
        """
        request = registry_service_pb2.SetComponentWeightsRequest(name=name)
        for version, weight in weights.items():
            request.weights.add(version=version, weight=weight)
        answer = await self._channel.call(self._registry().SetComponentWeights, request)
        return {one.version: one.weight for one in answer.weights}

    async def check_compatibility(
        self,
        name: str,
        *,
        version: str = "",
        base_version: str = "",
        component: Callable[..., Any] | None = None,
    ) -> Compatibility:
        """Compare a contract with an older version; nothing is stored.

        Args:
            name: the component.
            version: the newer, stored version; empty: the newest.
            base_version: the older; empty: the nearest before the newer that is not deprecated.
            component: a function decorated with `@component`: its contract is the newer one.

        Raises NotFound, InvalidRequest.
        """
        request = registry_service_pb2.CheckCompatibilityRequest(
            name=name, version=version, base_version=base_version
        )
        if component is not None:
            request.contract.CopyFrom(contract_of(component_of(component)))
        return Compatibility.of(
            await self._channel.call(self._registry().CheckCompatibility, request)
        )


def body_of(read: Document) -> httpbody_pb2.HttpBody:
    """Return a document as requests carry it."""
    return httpbody_pb2.HttpBody(content_type=read.content_type, data=read.data)
