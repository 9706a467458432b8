"""The RPCs of ExecutorService about pools."""

from typing import Any, Protocol

from bend.v1 import executor_service_pb2 as pb
from bend.v1 import pool_pb2
from bend_server.core.errors import WrongState
from bend_server.rpc import paging
from bend_server.rpc.identity import peer


class PoolDesk(Protocol):
    """The use cases of pools: executor.pools.desk.Desk, where errors are listed."""

    def pools(self, namespace: str) -> list[pool_pb2.PoolStatus]:
        """Return all pools of a namespace by name."""
        ...

    def stats(self, namespace: str, name: str) -> tuple[pool_pb2.PoolStatus, pool_pb2.PoolStats]:
        """Return one pool with its counters."""
        ...

    async def put(
        self, namespace: str, name: str, message: pool_pb2.Pool
    ) -> tuple[pool_pb2.Pool, bool]:
        """Store a description; return it and whether it changed."""
        ...

    async def scale(self, namespace: str, name: str, instances: int | None) -> pool_pb2.PoolStatus:
        """Hold a pool at a number of instances; None: it follows the demand."""
        ...

    async def delete(self, namespace: str, name: str) -> None:
        """Delete a pool."""
        ...


class PoolRpcs:
    """Serves the pools of the caller's namespace.

    Args:
        desk: the use cases; None: this executor keeps no pools, and says so.
    """

    def __init__(self, desk: PoolDesk | None) -> None:
        self._pools = desk

    @property
    def _desk(self) -> PoolDesk:
        if self._pools is None:
            raise WrongState("this executor keeps no pools")
        return self._pools

    async def ListPools(self, request: pb.ListPoolsRequest, context: Any) -> Any:
        """List pools by name."""
        namespace = peer(context).namespace
        scope = ("pools", namespace)
        found = self._desk.pools(namespace)
        if request.page_token:
            after = str(paging.read_token(scope, request.page_token, str, 1)[0])
            found = [one for one in found if one.pool.name > after]
        size = paging.page_size(request.page_size)
        page, rest = found[:size], found[size:]
        token = paging.make_token(scope, [page[-1].pool.name]) if rest else ""
        return pb.ListPoolsResponse(pools=page, next_page_token=token)

    async def GetPoolStats(self, request: pb.GetPoolStatsRequest, context: Any) -> Any:
        """Read one pool with its counters."""
        status, stats = self._desk.stats(peer(context).namespace, request.name)
        return pb.GetPoolStatsResponse(status=status, stats=stats)

    async def PutPool(self, request: pb.PutPoolRequest, context: Any) -> Any:
        """Store a pool."""
        namespace = peer(context).namespace
        pool, changed = await self._desk.put(namespace, request.name, request.pool)
        return pb.PutPoolResponse(pool=pool, changed=changed)

    async def ScalePool(self, request: pb.ScalePoolRequest, context: Any) -> Any:
        """Hold a pool at a number of instances, or let it go."""
        instances = request.instances if request.HasField("instances") else None
        status = await self._desk.scale(peer(context).namespace, request.name, instances)
        return pb.ScalePoolResponse(status=status)

    async def DeletePool(self, request: pb.DeletePoolRequest, context: Any) -> Any:
        """Delete a pool."""
        await self._desk.delete(peer(context).namespace, request.name)
        return pb.DeletePoolResponse()
