"""The engine of a process, and the services that stand in front of it."""

from bend import __version__
from bend.v1 import (
    engine_service_pb2,
    executor_service_pb2,
    operations_service_pb2,
    registry_service_pb2,
)
from bend_server.engine.engine import Engine
from bend_server.engine.options import EngineOptions
from bend_server.engine.plans import StoredPlans, compile_aside
from bend_server.ports.blobs import Blobs
from bend_server.queue.jetstream import NatsQueue
from bend_server.roles.process import Process
from bend_server.rpc.chunk_tails import ChunkTails
from bend_server.rpc.engine_service import Rooms, engine_service
from bend_server.rpc.operations_service import Check, operations_service
from bend_server.rpc.parameters import Schemas
from bend_server.rpc.server import Service
from bend_server.storage.stores import Stores


def make_engine(
    process: Process, stores: Stores, queue: NatsQueue, blobs: Blobs
) -> tuple[Engine, list[Service]]:
    """Put the engine together, not yet started; EngineService and OperationsService lead to it."""
    plans = StoredPlans(stores.engine, compile_aside)
    engine = Engine(
        stores.engine,
        queue,
        blobs,
        process.clock,
        process.chance,
        plans,
        EngineOptions(name=process.name, replica=process.replica),
    )
    rooms = Rooms(
        engine=engine,
        reads=stores.reads,
        workflows=stores.workflows,
        registry=stores.registry,
        blobs=blobs,
        plans=plans,
        chunks=ChunkTails(queue),
        clock=process.clock,
        schemas=Schemas(),
    )
    described = [
        engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"],
        registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"],
        executor_service_pb2.DESCRIPTOR.services_by_name["ExecutorService"],
        operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"],
    ]
    checks = _checks(stores, queue, engine)
    return engine, [engine_service(rooms), operations_service(checks, described, __version__)]


def _checks(stores: Stores, queue: NatsQueue, engine: Engine) -> dict[str, Check]:
    async def database() -> bool:
        await stores.reads.ping()
        return True

    async def connected() -> bool:
        return bool(queue.connected)

    async def owns() -> bool:
        return bool(engine.ready)

    return {"database": database, "queue": connected, "ownership": owns}
