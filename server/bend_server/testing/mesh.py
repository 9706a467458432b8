"""All rooms of a mesh on one loop."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import orjson

from bend.client import Client
from bend.components import Component, Kind, component, component_of
from bend.errors import BendError
from bend.tasks import TaskRoom
from bend.v1 import component_pb2
from bend_server.blobs.memory import MemoryBlobs
from bend_server.core.errors import DomainError
from bend_server.engine.engine import Engine
from bend_server.engine.options import EngineOptions
from bend_server.engine.plans import StoredPlans
from bend_server.executor.options import ExecutorOptions
from bend_server.executor.room import ExecutorRoom
from bend_server.ports.clock import Clock
from bend_server.queue.broker import MemoryBroker
from bend_server.queue.memory import MemoryQueue
from bend_server.registry.registry import Registry
from bend_server.rpc.chunk_tails import ChunkTails
from bend_server.rpc.engine_service import EngineService
from bend_server.rpc.parameters import Schemas
from bend_server.rpc.registry_service import RegistryService, contract_of
from bend_server.rpc.rooms import Rooms
from bend_server.storage.memory import MemoryDatabase
from bend_server.storage.stores import memory_stores
from bend_server.telemetry.clock import SystemChance
from bend_server.testing.channel import LocalChannel
from bend_server.testing.streams import LocalWorker

NAMESPACE = "default"
CREDIT = 256
THREADS = 16


class GivenSecrets:
    """The secrets that a test gave."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = secrets

    async def get(self, namespace: str, name: str) -> str | None:
        """See ports.links.Secrets."""
        return self._secrets.get(name)


class LocalRegistrar:
    """Registers at the registry of the same process."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def register(self, namespace: str, contract: component_pb2.ComponentContract) -> None:
        """See ports.links.Registrar."""
        await self._registry.register(namespace, contract_of(contract))


class TestMesh:
    """An engine, a registry, an executor and a worker; `client` calls them.

    Args:
        targets: functions decorated with `@component`.
        mocks: component name → what stands in for it: a value that every task gets as its output,
            or a function that takes the input as keywords; `name@1.2.3` for another version.
        secrets: name → value.
        clock: tells the time; of the loop's kind.
    """

    __test__ = False

    def __init__(
        self,
        targets: Sequence[Callable[..., Any]],
        *,
        mocks: Mapping[str, Any],
        secrets: Mapping[str, str],
        clock: Clock,
    ) -> None:
        stand_ins = [stand_in(name, answer) for name, answer in mocks.items()]
        self._components: list[Component] = [*map(component_of, targets), *stand_ins]
        self._secrets = secrets
        self._clock = clock
        self._stack = AsyncExitStack()
        self._tasks = TaskRoom(self._components, THREADS)
        self.client: Client

    @property
    def busy(self) -> bool:
        """Whether a component works in a thread now."""
        plain = (Kind.PLAIN, Kind.GENERATOR)
        return any(run.component.kind in plain for run in list(self._tasks.running.values()))

    async def start(self) -> None:
        """Start every room. Raises BendError when a component cannot be registered."""
        clock, chance, broker = self._clock, SystemChance(), MemoryBroker()
        stores = memory_stores(MemoryDatabase(clock))
        queues = [MemoryQueue(broker, name) for name in ("server", "executor")]
        for queue in queues:
            self._stack.push_async_callback(queue.close)
        blobs, plans = MemoryBlobs(), StoredPlans(stores.engine)
        options = EngineOptions(name="test", slots=1)
        engine = Engine(stores.engine, queues[0], blobs, clock, chance, plans, options)
        registry = Registry(stores.registry, queues[0], clock)
        await registry.start()
        self._stack.push_async_callback(registry.stop)
        await engine.start()
        self._stack.push_async_callback(engine.stop)
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
        executor = ExecutorRoom(
            queues[1],
            blobs,
            clock,
            chance,
            LocalRegistrar(registry),
            GivenSecrets(self._secrets),
            ExecutorOptions(name="test", resume_key=os.urandom(32), drain_grace_s=0.1),
        )
        await executor.start()
        self._stack.push_async_callback(executor.stop)
        servicers = [EngineService(rooms), RegistryService(registry)]
        self.client = client_over(LocalChannel(servicers, NAMESPACE))
        if self._components:
            await self._serve(executor)

    async def _serve(self, executor: ExecutorRoom) -> None:
        worker = LocalWorker(self._tasks, self._components, NAMESPACE, CREDIT)
        self._stack.push_async_callback(worker.stop)
        self._stack.callback(self._tasks.close)
        self._stack.callback(self._tasks.drop_all)
        try:
            await worker.start(executor)
        except DomainError as error:
            raise BendError(error.message, reason=error.reason) from error

    async def stop(self) -> None:
        """Stop every room, in order."""
        await self._stack.aclose()


def client_over(channel: LocalChannel) -> Client:
    """Return a client that calls over a channel of this process."""
    client = Client.__new__(Client)
    client._channel = channel  # type: ignore[assignment]  # noqa: SLF001
    return client


def stand_in(name: str, answer: Any) -> Component:
    """Return a component that answers for another one."""
    plain, _, version = name.partition("@")

    async def given(**_: Any) -> Any:
        return answer

    async def asked(**values: Any) -> Any:
        found = answer(**values)
        return await found if asyncio.iscoroutine(found) else found

    if callable(answer):
        return component_of(component(plain, version=version or "1.0.0")(asked))
    orjson.dumps(answer)
    return component_of(component(plain, version=version or "1.0.0")(given))
