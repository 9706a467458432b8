"""Component services without a network: a link in memory, and a service that tests steer."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from bend.internal.v1 import frames_pb2
from bend.v1 import component_pb2, failure_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.core.errors import DependencyDown, DomainError, NotFound
from bend_server.executor.groups import group_id
from bend_server.executor.options import ExecutorOptions
from bend_server.executor.room import ExecutorRoom
from bend_server.executor.secrets import EnvironmentSecrets
from bend_server.ports.links import LinkBroken, LinkPeer
from bend_server.ports.queue import RESULTS, Queue
from tests.kit.loops import eventually

KEY = b"k" * 32


class Counter:
    """`ports.clock.Chance` that counts: every run the same."""

    def __init__(self, start: int = 0) -> None:
        self.last = start

    def u64(self) -> int:
        self.last += 1
        return self.last

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


class Registered:
    """A registrar that remembers; `error` is raised instead."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self.error: DomainError | None = None

    async def register(self, namespace: str, contract: component_pb2.ComponentContract) -> None:
        if self.error is not None:
            raise self.error
        self.seen.append((namespace, contract.name, contract.version))


class HeldBlobs:
    """A blob store in a dict; `down` makes it fail."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.down = False

    async def put(self, prefix: str, data: bytes) -> str:
        if self.down:
            raise DependencyDown("the store is away")
        key = f"{prefix}/{len(self.data)}"
        self.data[key] = data
        return key

    async def get(self, key: str) -> bytes:
        if self.down:
            raise DependencyDown("the store is away")
        if key not in self.data:
            raise NotFound("no such blob")
        return self.data[key]

    async def delete_prefix(self, prefix: str) -> int:
        keys = [key for key in self.data if key.startswith(prefix)]
        for key in keys:
            del self.data[key]
        return len(keys)


class MemoryLink:
    """Both ends of one stream."""

    def __init__(self, subject: str = "/component/echo", namespace: str = "default") -> None:
        self._peer = LinkPeer(f"spiffe://bend.local{subject}", subject, namespace)
        self.to_executor: asyncio.Queue[pb.ConnectRequest | None] = asyncio.Queue()
        self.to_service: asyncio.Queue[pb.ConnectResponse] = asyncio.Queue()
        self.broken = False

    @property
    def peer(self) -> LinkPeer:
        return self._peer

    async def receive(self) -> pb.ConnectRequest | None:
        return await self.to_executor.get()

    async def send(self, message: pb.ConnectResponse) -> None:
        if self.broken:
            raise LinkBroken("broken")
        await asyncio.sleep(0)
        self.to_service.put_nowait(pb.ConnectResponse.FromString(message.SerializeToString()))


def contract(
    name: str = "echo", version: str = "1.0.0", **fields: Any
) -> component_pb2.ComponentContract:
    """Make a contract."""
    return component_pb2.ComponentContract(name=name, version=version, **fields)


class Service:
    """A component service that does what a test says."""

    def __init__(
        self,
        room: ExecutorRoom,
        *,
        credit: int = 4,
        instance: str = "i1",
        components: Iterable[component_pb2.ComponentContract] | None = None,
        held: Iterable[tuple[int, bytes]] = (),
        link: MemoryLink | None = None,
        beats: bool = True,
        rotates: bool = False,
    ) -> None:
        self.link = link or MemoryLink()
        self.tasks: list[pb.Task] = []
        self.batches: list[int] = []
        self.cancelled: list[int] = []
        self.welcome: pb.Welcome | None = None
        self.gone_away = False
        self.error: BaseException | None = None
        self.ended = False
        self.on_task: Callable[[pb.Task], None] | None = None
        hello = pb.Hello(
            protocol_version=1,
            instance_id=instance,
            sdk="test",
            components=list(components or [contract()]),
            credit=credit,
            held=[pb.HeldTask(run_id=run, resume_token=token) for run, token in held],
            rotates=rotates,
        )
        self.say(pb.ConnectRequest(hello=hello))
        loop = asyncio.get_running_loop()
        self._serve = loop.create_task(self._attach(room))
        self._read = loop.create_task(self._receive())
        self._beat = loop.create_task(self._beats()) if beats else None

    async def _attach(self, room: ExecutorRoom) -> None:
        try:
            await room.attach(self.link)
        except DomainError as error:
            self.error = error
        self.ended = True

    async def _receive(self) -> None:
        while True:
            message = await self.link.to_service.get()
            kind = message.WhichOneof("message")
            if kind == "welcome":
                self.welcome = message.welcome
            elif kind == "tasks":
                self.batches.append(len(message.tasks.tasks))
                for task in message.tasks.tasks:
                    self.tasks.append(task)
                    if self.on_task is not None:
                        self.on_task(task)
            elif kind == "cancels":
                self.cancelled += message.cancels.run_ids
            elif kind == "go_away":
                self.gone_away = True

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(5)
            self.say(pb.ConnectRequest(heartbeat=pb.Heartbeat()))

    def say(self, message: pb.ConnectRequest) -> None:
        self.link.to_executor.put_nowait(message)

    def answer(self, *tasks: pb.Task, output: bytes = b'{"ok":true}') -> None:
        """Complete tasks in one message."""
        results = [pb.TaskResult(run_id=task.run_id, output=output) for task in tasks]
        self.say(pb.ConnectRequest(results=pb.TaskResultBatch(results=results)))

    def fail(self, task: pb.Task, **fields: Any) -> None:
        result = pb.TaskResult(run_id=task.run_id, failure=failure_pb2.Failure(**fields))
        self.say(pb.ConnectRequest(results=pb.TaskResultBatch(results=[result])))

    def echo(self) -> None:
        """Answer everything at once from now on, with its input."""
        self.on_task = lambda task: self.answer(task, output=task.input)
        for task in self.tasks:
            self.on_task(task)

    async def got(self, count: int) -> list[pb.Task]:
        """Wait until so many tasks have come."""
        await eventually(lambda: len(self.tasks) >= count, 30)
        return self.tasks

    async def up(self) -> "Service":
        await eventually(lambda: self.welcome is not None, 30)
        return self

    def close(self) -> None:
        """Close the stream as a finished service does."""
        if self._beat is not None:
            self._beat.cancel()
        self.link.to_executor.put_nowait(None)

    def drain(self) -> None:
        """Ask for no new tasks."""
        self.say(pb.ConnectRequest(drain=pb.Drain()))

    def crash(self) -> None:
        """Die: nothing is answered any more, the stream breaks."""
        self.link.broken = True
        self.close()
        self._read.cancel()


class House:
    """An executor over a queue, and the engine's side of both streams."""

    def __init__(
        self, queue: Queue, clock: Any, *, name: str = "x1", start: int = 0, **options: Any
    ) -> None:
        self.queue = queue
        self.clock = clock
        self.blobs = HeldBlobs()
        self.registered = Registered()
        self.secrets = {"BEND_SECRET_TOKEN": "hunter2hunter2"}
        self.room = ExecutorRoom(
            queue,
            self.blobs,
            clock,
            Counter(start),
            self.registered,
            EnvironmentSecrets(self.secrets),
            ExecutorOptions(name=name, resume_key=KEY, **options),
        )

    async def publish(
        self, tasks: Iterable[frames_pb2.QueuedTask], component: str = "echo", **where: Any
    ) -> int:
        """Publish one frame for an instance group."""
        namespace = where.get("namespace", "default")
        version, labels = where.get("version", "1.0.0"), where.get("labels", {})
        group = group_id(namespace, component, version, labels)
        slot = where.get("slot", 0)
        frame = frames_pb2.TaskFrame(namespace=namespace, group=group, slot=slot, tasks=tasks)
        return await self.queue.publish(f"tasks.{group}", frame.SerializeToString())

    async def results(self) -> list[frames_pb2.QueuedResult]:
        """Return all results that are stored for slot 0."""
        found: list[frames_pb2.QueuedResult] = []
        async for stored in self.queue.scan(RESULTS, "results.0"):
            found += frames_pb2.ResultFrame.FromString(stored.data).results
        return found

    async def ended(self, count: int, within_s: float = 60.0) -> list[frames_pb2.QueuedResult]:
        """Wait until so many results are stored."""
        found: list[frames_pb2.QueuedResult] = []

        async def enough() -> bool:
            nonlocal found
            found = await self.results()
            return len(found) >= count

        await eventually(enough, within_s)
        return found

    async def left(self, stream: str = "TASKS") -> int:
        """Return how many messages a stream holds."""
        return len([s async for s in self.queue.scan(stream, f"{stream.lower()}.*")])


def queued(execution: int, task: int = 0, try_: int = 1, **fields: Any) -> frames_pb2.QueuedTask:
    """Make a task of a frame."""
    values: dict[str, Any] = {
        "execution": execution,
        "task": task,
        "attempt": 1,
        "input": orjson.dumps({"n": execution}),
        "execution_id": f"wf-{execution}",
        "task_id": f"t{task}",
        "component": "echo",
        **fields,
    }
    made = frames_pb2.QueuedTask(**values)
    setattr(made, "try", try_)
    return made
