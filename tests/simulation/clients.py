"""Users of the mesh: they start an execution whatever it takes, wait for it, perhaps cancel it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from bend_server.core.errors import (
    AlreadyExists,
    Conflict,
    DependencyDown,
    NotFound,
    WrongState,
)
from bend_server.engine import Engine
from bend_server.ports.engine import StartCommand
from tests.simulation.control import SIGNAL
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
        self._pauses = chance.random() < 0.15
        self._pause_s = chance.uniform(0.0, 40.0)
        self._retries = chance.random() < 0.3
        self._signal_after_s = chance.uniform(0.0, 30.0)
        self._execution = 0

    async def run(self) -> None:
        """Live. Raises Violation."""
        await asyncio.sleep(self._after_s)
        self._execution = execution = await self._start()
        if self._workflow == "asks":
            await asyncio.sleep(self._signal_after_s)
            await self._signal()
        if self._pauses:
            await asyncio.sleep(self._cancel_after_s)
            await self._pause()
        if self._cancels:
            await asyncio.sleep(self._cancel_after_s)
            await self._cancel(execution)
        if self._retries:
            await self._wait(execution, final=False)
            await self._retry()
        self._world.open_requests -= 1
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

    async def _signal(self) -> None:
        """Signal once, however often it has to be said."""
        await self._insist(
            lambda engine: engine.signal(
                self._execution,
                name=SIGNAL,
                payload=b'{"go":1}',
                actor="ada",
                request_id=f"s-{self._request}",
            )
        )

    async def _pause(self) -> None:
        """Pause for a while; whoever pauses insists on going on."""
        paused = await self._insist(
            lambda engine: engine.pause(self._execution, reason="lunch", actor="ada")
        )
        if paused is None:
            return
        self._world.tell(f"{self._request} is paused")
        await asyncio.sleep(self._pause_s)
        await self._insist(lambda engine: engine.resume(self._execution, actor="ada"))
        self._world.tell(f"{self._request} goes on")

    async def _retry(self) -> None:
        """Retry once what did not complete."""
        opened = await self._insist(
            lambda engine: engine.retry(
                self._execution, reason="again", actor="ada", request_id=f"t-{self._request}"
            )
        )
        if opened is not None:
            self._world.tell(f"{self._request} is in run {opened.run}")
            if opened.run != 2:
                raise Violation(f"{self._request} was retried once and is in run {opened.run}")

    async def _insist(self, call: Callable[[Engine], Awaitable[T]]) -> T | None:
        """Ask until there is an answer; None when the state forbids it."""
        while True:
            try:
                answer = await self._ask(call)
            except (WrongState, AlreadyExists):
                return None
            except NotFound as error:
                raise Violation(f"{self._request} was answered and is not known") from error
            if answer is not None:
                return answer
            await asyncio.sleep(PAUSE_S)

    async def _wait(self, execution: int, *, final: bool = True) -> None:
        """Wait for the end; what is told must be in SQL by then."""
        while True:
            ended = await self._ask(lambda engine: engine.wait(execution, 5.0))
            if ended is not None:
                if final or not self._retries:
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
