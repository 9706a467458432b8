"""All rooms of the server in one process: real engine, executor, registry and gRPC over mTLS.

Only SQL and NATS are replaced, by their in-memory twins. The SDK connects without the gateway.
"""

import contextlib
import os
import time
from collections.abc import AsyncIterator

from bend import Client
from bend_server.engine import Engine, EngineOptions
from bend_server.engine.plans import StoredPlans
from bend_server.executor.options import ExecutorOptions
from bend_server.executor.room import ExecutorRoom
from bend_server.queue.broker import MemoryBroker
from bend_server.queue.memory import MemoryQueue
from bend_server.registry.registry import Registry
from bend_server.rpc.chunk_tails import ChunkTails
from bend_server.rpc.connect import executor_service
from bend_server.rpc.engine_service import Rooms, engine_service
from bend_server.rpc.parameters import Schemas
from bend_server.rpc.registrar import RegistryClient
from bend_server.rpc.registry_service import registry_service
from bend_server.storage.memory import MemoryDatabase
from bend_server.storage.stores import memory_stores
from tests.engine.house import MemoryBlobs, SeededChance
from tests.kit.certificates import TestAuthority
from tests.rpc.door import serving


class SystemClock:
    """Real time."""

    def now_us(self) -> int:
        return time.time_ns() // 1000


class NoSecrets:
    """Holds nothing."""

    async def get(self, namespace: str, name: str) -> str | None:
        return None


class Road:
    """Where a client and a worker connect."""

    def __init__(self, authority: TestAuthority, engine_port: int, executor_port: int) -> None:
        self._authority = authority
        self._engine_port = engine_port
        self._executor_port = executor_port

    def place(self, port: int, stem: str) -> dict[str, str]:
        """Return the arguments that lead the SDK to a port with a certificate."""
        folder = self._authority.folder
        return {
            "url": f"https://127.0.0.1:{port}",
            "ca_file": str(self._authority.ca),
            "cert_file": str(folder / f"{stem}.pem"),
            "key_file": str(folder / f"{stem}.key"),
        }

    def client(self) -> Client:
        return Client(**self.place(self._engine_port, "bench"))

    def worker_place(self) -> dict[str, str]:
        return self.place(self._executor_port, "component-vision")


@contextlib.asynccontextmanager
async def one_process(authority: TestAuthority) -> AsyncIterator[Road]:
    """Start every room; stop them in order."""
    clock, broker = SystemClock(), MemoryBroker()
    stores = memory_stores(MemoryDatabase(clock))
    queues = [MemoryQueue(broker, name) for name in ("server", "executor")]
    blobs, chance = MemoryBlobs(), SeededChance()
    plans = StoredPlans(stores.engine)
    engine = Engine(
        stores.engine, queues[0], blobs, clock, chance, plans, EngineOptions(name="one", slots=1)
    )
    registry = Registry(stores.registry, queues[0], clock)
    await engine.start()
    await registry.start()
    rooms = Rooms(
        engine=engine,
        reads=stores.reads,
        workflows=stores.workflows,
        registry=stores.registry,
        blobs=blobs,
        plans=plans,
        chunks=ChunkTails(queues[0]),
        clock=clock,
        schemas=Schemas(),
    )
    folder = authority.folder
    options = ExecutorOptions(name="x1", resume_key=os.urandom(32))
    async with serving(authority, [engine_service(rooms), registry_service(registry)]) as server:
        registrar = RegistryClient(
            f"127.0.0.1:{server.port}",
            server_name="localhost",
            certificate=folder / "executor.pem",
            key=folder / "executor.key",
            roots=authority.ca,
        )
        executor = ExecutorRoom(queues[1], blobs, clock, chance, registrar, NoSecrets(), options)
        await executor.start()
        async with serving(authority, [executor_service(executor)], role="executor") as door:
            yield Road(authority, server.port, door.port)
        await executor.stop()
        await registrar.close()
    await registry.stop()
    await engine.stop()
    for queue in queues:
        await queue.close()
