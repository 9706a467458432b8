"""The registry of a process, and the services that stand in front of it."""

from contextlib import AsyncExitStack

from bend_server.ports.queue import Queue
from bend_server.registry.pools import Pools
from bend_server.registry.registry import Registry
from bend_server.roles.process import Process
from bend_server.rpc.pool_registry import pool_registry_service
from bend_server.rpc.registry_service import registry_service
from bend_server.rpc.server import Service
from bend_server.storage.stores import Stores


async def start_registry(
    process: Process, stores: Stores, queue: Queue, stack: AsyncExitStack
) -> list[Service]:
    """Start the registry, stopped with the stack; return RegistryService and PoolService."""
    registry = Registry(
        stores.registry,
        queue,
        process.clock,
        refuse_breaking=process.settings.breaking_contracts == "refuse",
    )
    await registry.start()
    stack.push_async_callback(registry.stop)
    pools = pool_registry_service(Pools(stores.pools, process.clock))
    return [registry_service(registry), pools]
