"""Executors (the real room) and component services (fakes that keep a journal)."""

import asyncio
from random import Random
from typing import TYPE_CHECKING

from bend.v1 import component_pb2, executor_service_pb2
from bend_server.executor.options import ExecutorOptions
from bend_server.executor.room import ExecutorRoom
from bend_server.ports.links import LinkBroken, LinkPeer
from tests.simulation.hosts import Host, SeededChance
from tests.simulation.journal import Entry
from tests.simulation.pipes import Broken, Pipe, linked
from tests.simulation.processes import Process
from tests.simulation.workloads import COMPONENT, NAMESPACE, VERSION, output_of

if TYPE_CHECKING:
    from tests.simulation.world import World

Request = executor_service_pb2.ConnectRequest
Response = executor_service_pb2.ConnectResponse
KEY = b"k" * 32


class SimLink:
    """The executor's end of a stream; `ports.links.WorkerLink`."""

    def __init__(self, up: Pipe[Request], down: Pipe[Response]) -> None:
        self._up = up
        self._down = down
        self.peer = LinkPeer("spiffe://bend.local/component/sim", "/component/sim", NAMESPACE)

    async def receive(self) -> Request | None:
        """See ports.links.WorkerLink."""
        return await self._up.receive()

    async def send(self, message: Response) -> None:
        """See ports.links.WorkerLink."""
        try:
            self._down.send(message)
        except Broken:
            raise LinkBroken from None
        await asyncio.sleep(0)


class SimRegistrar:
    """A registry that takes every contract."""

    async def register(self, namespace: str, contract: component_pb2.ComponentContract) -> None:
        """See ports.links.Registrar."""


class SimSecrets:
    """No secrets here."""

    async def get(self, namespace: str, name: str) -> str | None:
        """See ports.links.Secrets."""
        return None


class ExecutorHost:
    """A machine with an executor."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self.room: ExecutorRoom | None = None
        self.host = Host(name, world.chance, world.deadliness, self._boot, world.tell)

    async def _boot(self, process: Process) -> None:
        world = self._world
        room = ExecutorRoom(
            world.queue(process),
            world.blobs,
            world.clock,
            SeededChance(world.chance),
            SimRegistrar(),
            SimSecrets(),
            ExecutorOptions(name=process.name, resume_key=KEY),
        )
        self.room = None
        await room.start()
        self.room = room
        world.tell(f"{process.name} is up")
        await world.loop.create_future()

    def attach(self, link: SimLink) -> "asyncio.Task[None] | None":
        """Hand a stream to the executor; None when none runs."""
        process = self.host.process
        if process is None or process.dead or self.room is None:
            return None
        return process.spawn(self.room.attach(link))


class WorkerLife:
    """A machine with a component service: connects, works, dies, comes back."""

    def __init__(self, world: "World", name: str) -> None:
        self._world = world
        self._name = name
        self._chance: Random = world.chance
        self.host = Host(name, world.chance, world.deadliness, self._boot, world.tell)

    async def _boot(self, process: Process) -> None:
        while True:
            executor = self._chance.choice(self._world.executors)
            up: Pipe[Request] = Pipe(self._chance)
            down: Pipe[Response] = Pipe(self._chance)
            attached = executor.attach(SimLink(up, down))
            if attached is not None:
                cut = linked(up, down)
                process.cuts.append(cut)
                host = executor.host.process
                assert host is not None
                host.cuts.append(cut)
                attached.add_done_callback(lambda _done, cut=cut: cut())
                await Service(self._world, process, up, down).serve()
                cut()
            await asyncio.sleep(self._chance.uniform(0.1, 2.0))


class Service:
    """One stream of a component service."""

    def __init__(
        self, world: "World", process: Process, up: Pipe[Request], down: Pipe[Response]
    ) -> None:
        self._world = world
        self._process = process
        self._up = up
        self._down = down
        self._jobs: dict[int, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """Serve until the stream breaks."""
        contract = component_pb2.ComponentContract(name=COMPONENT, version=VERSION)
        hello = executor_service_pb2.Hello(
            protocol_version=1,
            instance_id=self._process.name,
            sdk="sim",
            components=[contract],
            credit=self._world.chance.choice((1, 4, 64)),
        )
        beat: asyncio.Task[None] | None = None
        try:
            self._up.send(Request(hello=hello))
            while (message := await self._down.receive()) is not None:
                await self._process.checkpoint("with a message of the executor")
                kind = message.WhichOneof("message")
                if kind == "welcome":
                    pause_s = message.welcome.heartbeat_interval_ms / 3000
                    beat = asyncio.ensure_future(self._beat(pause_s))
                elif kind == "tasks":
                    for task in message.tasks.tasks:
                        self._take(task)
                elif kind == "cancels":
                    for run_id in message.cancels.run_ids:
                        self._cancel(run_id)
        except Broken:
            pass
        finally:
            if beat is not None:
                beat.cancel()
            for job in self._jobs.values():
                job.cancel()

    async def _beat(self, pause_s: float) -> None:
        try:
            while True:
                await asyncio.sleep(pause_s)
                self._up.send(Request(heartbeat=executor_service_pb2.Heartbeat()))
        except Broken:
            pass

    def _take(self, task: executor_service_pb2.Task) -> None:
        self._world.journal.took(task.execution_id, task.task, task.attempt)
        self._jobs[task.run_id] = asyncio.ensure_future(self._work(task))

    def _cancel(self, run_id: int) -> None:
        job = self._jobs.pop(run_id, None)
        if job is None or job.done():
            return
        job.cancel()
        result = executor_service_pb2.TaskResult(
            run_id=run_id, cancelled=executor_service_pb2.Cancelled()
        )
        self._answer(result)

    async def _work(self, task: executor_service_pb2.Task) -> None:
        answer = self._world.temper.answer(task.execution_id, task.task, task.attempt)
        if answer.kind == "hang":
            await self._world.loop.create_future()
        await asyncio.sleep(answer.after_s)
        await self._process.checkpoint("before a result")
        result = executor_service_pb2.TaskResult(run_id=task.run_id, duration_us=1)
        output = None
        if answer.kind == "complete":
            output = output_of(task.execution_id, task.task, task.attempt, task.run_id)
            result.output = output
        else:
            result.failure.reason = answer.kind.upper()
            result.failure.retryable = answer.kind == "retryable"
        entry = Entry(task.execution_id, task.task, task.attempt, output, result.failure.reason)
        self._world.journal.answered(task.run_id, entry)
        self._jobs.pop(task.run_id, None)
        self._answer(result)

    def _answer(self, result: executor_service_pb2.TaskResult) -> None:
        batch = executor_service_pb2.TaskResultBatch(results=[result])
        try:
            self._up.send(Request(results=batch))
        except Broken:
            pass
