"""bend.internal.v1.PoolService: the registry's pools, for executors."""

from typing import Any

from bend.internal.v1 import pool_service_pb2 as pb
from bend.internal.v1 import pool_service_pb2_grpc
from bend_server.registry.pools import Pools
from bend_server.rpc.server import Service, service


class PoolRegistryServicer(pool_service_pb2_grpc.PoolServiceServicer):
    """Serves every RPC of bend.internal.v1.PoolService.

    Args:
        pools: the use cases.
    """

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def SyncPools(self, request: pb.SyncPoolsRequest, context: Any) -> Any:
        """Return all records, and the lease."""
        return await self._pools.sync(request)

    async def ChangePool(self, request: pb.ChangePoolRequest, context: Any) -> Any:
        """Change a record."""
        return await self._pools.change(request)


def pool_registry_service(pools: Pools) -> Service:
    """Return PoolService, ready to be served."""
    return service(
        pb.DESCRIPTOR.services_by_name["PoolService"],
        pool_service_pb2_grpc.add_PoolServiceServicer_to_server,
        PoolRegistryServicer(pools),
    )
