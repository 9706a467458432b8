"""RegistryService: components, versions, contracts, live instances."""

from typing import Any

from bend.v1 import component_pb2, registry_service_pb2_grpc
from bend.v1 import registry_service_pb2 as pb
from bend_server.core.errors import InvalidInput, NotPermitted
from bend_server.ports.store import ComponentRow
from bend_server.registry.contracts import Contract
from bend_server.registry.instances import LiveInstance
from bend_server.registry.registry import Registry
from bend_server.rpc import identity, paging
from bend_server.rpc.server import Service, service
from bend_server.rpc.times import stamp


class RegistryService(registry_service_pb2_grpc.RegistryServiceServicer):
    """Serves every RPC of bend.v1.RegistryService.

    Args:
        registry: the use cases.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def RegisterComponent(self, request: pb.RegisterComponentRequest, context: Any) -> Any:
        caller = identity.peer(context)
        namespace = caller.namespace
        if request.namespace and request.namespace != namespace:
            if caller.role != "executor":
                raise NotPermitted(
                    f"{caller.subject} may not register for {request.namespace!r}",
                    namespace=request.namespace,
                )
            namespace = request.namespace
        contract = contract_of(request.contract)
        row, created = await self._registry.register(namespace, contract)
        return pb.RegisterComponentResponse(version=_version(row), created=created)

    async def GetComponent(self, request: pb.GetComponentRequest, context: Any) -> Any:
        namespace = identity.peer(context).namespace
        versions, row = await self._registry.component(namespace, request.name, request.version)
        counts = self._registry.instance_counts(namespace)
        return pb.GetComponentResponse(
            component=_component(versions[0], len(versions), counts),
            version=_version(row),
            weights=_weights(await self._registry.weights(namespace, request.name)),
        )

    async def ListComponents(self, request: pb.ListComponentsRequest, context: Any) -> Any:
        namespace = identity.peer(context).namespace
        if "\0" in request.query:
            raise InvalidInput("query holds a NUL character", field="query")
        scope = ("components", namespace, request.query)
        after = None
        if request.page_token:
            after = str(paging.read_token(scope, request.page_token, str, 1)[0])
        size = paging.page_size(request.page_size)
        found = await self._registry.components(
            namespace, query=request.query, after=after, limit=size + 1
        )
        counts = self._registry.instance_counts(namespace)
        page = found[:size]
        token = paging.make_token(scope, [page[-1][0].name]) if len(found) > size else ""
        return pb.ListComponentsResponse(
            components=[_component(row, count, counts) for row, count in page],
            next_page_token=token,
        )

    async def ListComponentVersions(
        self, request: pb.ListComponentVersionsRequest, context: Any
    ) -> Any:
        namespace = identity.peer(context).namespace
        versions, _ = await self._registry.component(namespace, request.name)
        scope = ("versions", namespace, request.name)
        first = 0
        if request.page_token:
            last = paging.read_token(scope, request.page_token, str, 1)[0]
            known = [row.version for row in versions]
            # Versions are never deleted, so the last one shown is still there.
            first = known.index(str(last)) + 1 if last in known else len(known)
        page = versions[first : first + paging.page_size(request.page_size)]
        more = first + len(page) < len(versions)
        return pb.ListComponentVersionsResponse(
            versions=[_version(row) for row in page],
            next_page_token=paging.make_token(scope, [page[-1].version]) if more else "",
        )

    async def ListInstances(self, request: pb.ListInstancesRequest, context: Any) -> Any:
        namespace = identity.peer(context).namespace
        return pb.ListInstancesResponse(
            instances=[
                _instance(entry) for entry in self._registry.instances(namespace, request.name)
            ]
        )

    async def DeprecateComponentVersion(
        self, request: pb.DeprecateComponentVersionRequest, context: Any
    ) -> Any:
        row = await self._registry.deprecate(
            identity.peer(context).namespace,
            request.name,
            request.version,
            deprecated=not request.restore,
        )
        return pb.DeprecateComponentVersionResponse(version=_version(row))

    async def CheckCompatibility(self, request: pb.CheckCompatibilityRequest, context: Any) -> Any:
        found = await self._registry.compare(
            identity.peer(context).namespace,
            request.name,
            version=request.version,
            base=request.base_version,
            contract=contract_of(request.contract) if request.HasField("contract") else None,
        )
        return pb.CheckCompatibilityResponse(
            compatible=not found.breaking,
            base_version=found.base or "",
            version=found.version,
            changes=[
                pb.ContractChange(
                    kind=change.kind.name,
                    path=change.path,
                    message=change.message,
                    breaking=change.breaking,
                )
                for change in found.changes
            ],
        )

    async def DrainInstance(self, request: pb.DrainInstanceRequest, context: Any) -> Any:
        found = await self._registry.drain(
            identity.peer(context).namespace, request.instance_id, drain=not request.restore
        )
        return pb.DrainInstanceResponse(instances=[_instance(entry) for entry in found])

    async def SetComponentWeights(
        self, request: pb.SetComponentWeightsRequest, context: Any
    ) -> Any:
        weights = {one.version: one.weight for one in request.weights}
        if len(weights) < len(request.weights):
            raise InvalidInput("a version is there twice", field="weights")
        namespace = identity.peer(context).namespace
        stored = await self._registry.set_weights(namespace, request.name, weights)
        return pb.SetComponentWeightsResponse(weights=_weights(stored))


def contract_of(message: component_pb2.ComponentContract) -> Contract:
    """Return what a message promises; labels belong to the instance and are left out."""
    return Contract(
        name=message.name,
        version=message.version,
        description=message.description,
        input_schema=message.input_schema,
        output_schema=message.output_schema,
        long_running=message.long_running,
        heartbeats=message.heartbeats,
    )


def _component(row: ComponentRow, versions: int, counts: dict[str, int]) -> component_pb2.Component:
    message = component_pb2.Component(
        name=row.name,
        namespace=row.namespace,
        latest_version=row.version,
        description=row.description,
        version_count=versions,
        instance_count=counts.get(row.name, 0),
    )
    stamp(message.update_time, row.created_us)
    return message


def _version(row: ComponentRow) -> component_pb2.ComponentVersion:
    message = component_pb2.ComponentVersion(
        contract=component_pb2.ComponentContract(
            name=row.name,
            version=row.version,
            description=row.description,
            input_schema=row.input_schema,
            output_schema=row.output_schema,
            long_running=row.long_running,
            heartbeats=row.heartbeats,
        ),
        deprecated=row.deprecated,
    )
    stamp(message.create_time, row.created_us)
    return message


def _weights(stored: list[tuple[str, int]]) -> list[pb.VersionWeight]:
    return [pb.VersionWeight(version=version, weight=weight) for version, weight in stored]


def _instance(entry: LiveInstance) -> component_pb2.Instance:
    message = component_pb2.Instance(
        instance_id=entry.instance_id,
        component=entry.component,
        version=entry.version,
        labels=entry.labels,
        executor=entry.executor,
        credit=entry.credit,
        in_flight=entry.in_flight,
        draining=entry.draining,
    )
    stamp(message.connect_time, entry.connected_us)
    return message


def registry_service(registry: Registry) -> Service:
    """Return RegistryService, ready to be served."""
    return service(
        pb.DESCRIPTOR.services_by_name["RegistryService"],
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server,
        RegistryService(registry),
    )
