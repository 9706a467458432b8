"""Executors (the real room), the streams to them, and the machines of component services."""

import asyncio
from random import Random
from typing import TYPE_CHECKING

from bend.v1 import component_pb2
from bend_server.executor.options import ExecutorOptions
from bend_server.executor.room import ExecutorRoom
from bend_server.ports.links import LinkBroken, LinkPeer
from tests.simulation.hosts import SeededChance
from tests.simulation.pipes import Broken, Pipe, linked
from tests.simulation.processes import Process
from tests.simulation.services import Request, Response, Service
from tests.simulation.workloads import NAMESPACE

if TYPE_CHECKING:
    from tests.simulation.world import World

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
        self.host = world.host(name, self._boot, self._leave)

    async def _boot(self, process: Process) -> None:
        world = self._world
        self.room = None
        room = ExecutorRoom(
            world.queue(process),
            world.blobs,
            world.clock,
            SeededChance(world.chance),
            SimRegistrar(),
            SimSecrets(),
            ExecutorOptions(name=process.name, resume_key=KEY, sole=len(world.executors) == 1),
        )
        await room.start()
        self.room = room
        world.tell(f"{process.name} is up")
        await world.loop.create_future()

    async def _leave(self) -> None:
        if self.room is not None:
            await self.room.stop()

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
        self._chance: Random = world.chance
        self.host = world.host(name, self._boot)

    async def _boot(self, process: Process) -> None:
        service = Service(self._world, process)
        while True:
            executor = self._chance.choice(self._world.executors)
            up: Pipe[Request] = Pipe(self._chance)
            down: Pipe[Response] = Pipe(self._chance)
            attached = executor.attach(SimLink(up, down))
            if attached is not None:
                cut = linked(up, down)
                process.cuts.append(cut)
                host = executor.host.process
                if host is not None:
                    host.cuts.append(cut)
                attached.add_done_callback(lambda _done, cut=cut: cut())
                await service.serve(up, down)
                cut()
            await asyncio.sleep(self._chance.uniform(0.1, 2.0))
