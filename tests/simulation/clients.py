"""Users of the mesh: they start an execution whatever it takes, wait for it, perhaps cancel it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from bend_server.core.errors import Conflict, DependencyDown, NotFound, WrongState
from bend_server.engine import Engine
from bend_server.ports.engine import StartCommand
from tests.simulation.journal import Violation
from tests.simulation.workloads import NAMESPACE, PLANS

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
CALL_S = 8.0
PAUSE_S = 0.5


class Client:
    """One user with one execution."""

    def __init__(self, world: "World", request: str) -> None:
        self._world = world
        self._request = request
        chance = world.chance
        self._after_s = chance.uniform(0.0, 20.0)
        self._workflow = chance.choice(list(PLANS))
        self._cancels = chance.random() < 0.15
        self._cancel_after_s = chance.uniform(0.0, 5.0)
        self._waits = chance.random() < 0.5

    async def run(self) -> None:
        """Live. Raises Violation."""
        await asyncio.sleep(self._after_s)
        execution = await self._start()
        if self._cancels:
            await asyncio.sleep(self._cancel_after_s)
            await self._cancel(execution)
        if self._waits:
            await self._wait(execution)

    async def _start(self) -> int:
        command = StartCommand(
            namespace=NAMESPACE,
            workflow=self._workflow,
            revision=1,
            current=True,
            input=b'"' + self._request.encode() + b'"',
            labels=b"{}",
            request_id=self._request,
            request_hash=b"h",
            execution_id="",
            actor="ada",
            trace="",
        )
        world = self._world
        while True:
            outcomes = await self._ask(lambda engine: engine.start_executions([command]))
            if outcomes is not None and outcomes[0].error is None:
                break
            await asyncio.sleep(PAUSE_S)
        execution = outcomes[0].execution
        world.journal.accepted(self._request, execution)
        world.tell(f"{self._request} is {outcomes[0].public_id}")
        world.open_requests -= 1
        return execution

    async def _cancel(self, execution: int) -> None:
        for _ in range(200):
            try:
                status = await self._ask(
                    lambda engine: engine.cancel(
                        execution, reason="enough", actor="ada", request_id=f"c-{self._request}"
                    )
                )
            except WrongState:
                return
            except NotFound as error:
                raise Violation(f"{self._request} was answered and is not known") from error
            if status is not None:
                self._world.tell(f"{self._request} is to be cancelled")
                return
            await asyncio.sleep(PAUSE_S)

    async def _wait(self, execution: int) -> None:
        """Wait for the end; what is told must be in SQL by then."""
        while True:
            ended = await self._ask(lambda engine: engine.wait(execution, 5.0))
            if ended is not None:
                self._world.journal.told(execution, ended.finish)
                return
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, call: Callable[[Engine], Awaitable[T]]) -> T | None:
        """Call one engine as rpc would; None when it cannot answer."""
        world = self._world
        up = [host for host in world.engines if host.alive and host.name in world.engine_of]
        if not up:
            return None
        host = world.chance.choice(up)
        process = host.process
        if process is None:
            return None

        async def called() -> T:
            return await call(world.engine_of[host.name])

        task = process.spawn(called())
        await asyncio.wait({task}, timeout=CALL_S)
        if not task.done() or task.cancelled():
            task.cancel()
            return None
        try:
            return task.result()
        except (DependencyDown, Conflict):  # rpc says UNAVAILABLE or ABORTED: retry
            return None
