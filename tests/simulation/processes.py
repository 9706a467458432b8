"""Processes of the simulated mesh: what dies together, at any await.

A process is the set of asyncio tasks that were created in its context. Killing it cuts its ports
first, then cancels its tasks: whatever their clean-up still tries reaches nobody, as with SIGKILL.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")

_current: contextvars.ContextVar["Process | None"] = contextvars.ContextVar(
    "simulated_process", default=None
)


class Process:
    """One incarnation of a simulated process.

    Args:
        name: for the story.
        chance: the seed's.
        deadliness: probability to die at each point where it crosses a port; 0 heals it.
        on_death: called once, at its death.
    """

    def __init__(
        self,
        name: str,
        chance: Random,
        deadliness: Callable[[], float],
        on_death: "Callable[[Process, str], None]",
    ) -> None:
        self.name = name
        self.dead = False
        self._frozen_until = 0.0
        self.cuts: list[Callable[[], None]] = []
        self._chance = chance
        self._deadliness = deadliness
        self._on_death = on_death
        self._tasks: dict[asyncio.Task[Any], None] = {}
        # Not a copy of the caller's context: the caller may be a process that just dies.
        self._context = contextvars.Context()
        self._context.run(_current.set, self)

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """Take in a task that was created in this process."""
        if self.dead:
            task.get_loop().call_soon(task.cancel)
            return
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run a coroutine inside the process."""
        return asyncio.get_running_loop().create_task(coroutine, context=self._context)

    async def inside(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine that runs inside the process, from a task of somebody else."""
        return await asyncio.shield(self.spawn(coroutine))

    def kill(self, why: str) -> None:
        """Die now. The running task, if it is ours, goes on to its next await only."""
        if self.dead:
            return
        self.dead = True
        for cut in self.cuts:
            cut()
        loop = asyncio.get_running_loop()
        for task in list(self._tasks):
            loop.call_soon(task.cancel)
        self._on_death(self, why)

    def freeze(self, seconds: float) -> None:
        """Let nothing cross a port for a while, as with SIGSTOP; then go on as if nothing was."""
        self._frozen_until = asyncio.get_running_loop().time() + seconds

    def risk(self, where: str) -> None:
        """Die here, perhaps."""
        if not self.dead and self._chance.random() < self._deadliness():
            self.kill(where)

    async def checkpoint(self, where: str) -> None:
        """Die here, perhaps, or stand still while frozen; the dead never come back from it."""
        self.risk(where)
        loop = asyncio.get_running_loop()
        while not self.dead and loop.time() < self._frozen_until:  # noqa: ASYNC110 (time passes)
            await asyncio.sleep(min(1.0, self._frozen_until - loop.time()))
        if self.dead:
            await loop.create_future()


def task_factory(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> "asyncio.Task[Any]":
    """Create tasks that belong to the process in whose context they are created."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    process = _current.get() if context is None else context.get(_current)
    if process is not None:
        process.adopt(task)
    return task
