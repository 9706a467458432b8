"""What befalls the mesh from outside, until all is well again."""

import asyncio
from typing import TYPE_CHECKING

from tests.simulation.hosts import Host

if TYPE_CHECKING:
    from tests.simulation.world import World

ACTIONS = ("kill", "kill", "kill", "kill", "wipe", "cut", "cut", "restart", "freeze")


class Chaos:
    """Strikes at random moments.

    Args:
        only: strike in these ways alone; empty: in all.
    """

    def __init__(self, world: "World", hosts: list[Host], only: tuple[str, ...]) -> None:
        self._world = world
        self._hosts = hosts
        self._actions = only or ACTIONS
        chance = world.chance
        self._length_s = chance.choice((5.0, 20.0, 60.0))
        self._pace_s = chance.choice((0.5, 3.0, 15.0) if only else (0.5, 3.0, 15.0, 1000.0))

    async def run(self) -> None:
        """Strike for a while, then heal the climate."""
        world = self._world
        end = world.loop.time() + self._length_s
        while True:
            wait_s = world.chance.expovariate(1 / self._pace_s)
            if world.loop.time() + wait_s >= end:
                await asyncio.sleep(end - world.loop.time())
                break
            await asyncio.sleep(wait_s)
            self._strike(world.chance.choice(self._actions))
        world.climate.calm = True
        for host in self._hosts:
            if host.process is not None:
                host.process.freeze(0.0)
        world.tell("all is well again")

    def _strike(self, action: str) -> None:
        world = self._world
        if action == "kill":
            world.chance.choice(self._hosts).kill("SIGKILL")
        elif action == "restart":
            world.chance.choice(self._hosts).retire()
        elif action == "freeze":
            self._freeze()
        elif action == "wipe":
            world.tell("the queue loses everything")
            world.broker.wipe()
        else:
            self._cut_off()

    def _freeze(self) -> None:
        world = self._world
        process = world.chance.choice(self._hosts).process
        if process is not None and not process.dead:
            seconds = world.chance.uniform(1.0, 60.0)
            world.tell(f"{process.name} stands still for {seconds:.0f} s")
            process.freeze(seconds)

    def _cut_off(self) -> None:
        world = self._world
        queues = [queue for queue in world.queues if queue.connected]
        if queues:
            queue = world.chance.choice(queues)
            world.tell(f"{queue.name} loses the queue")
            queue.disconnect()
            world.loop.call_later(world.chance.uniform(0.1, 20.0), queue.come_back)
