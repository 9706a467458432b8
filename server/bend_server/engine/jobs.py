"""Short tasks that an engine owns: publishes, blob loads, look-ups."""

import asyncio
from collections.abc import Coroutine

import structlog

log = structlog.get_logger()


class Jobs:
    """Runs coroutines beside the loops. A job handles its own errors; what it lets pass is a fault
    of ours: it is logged, counted in `failed`, and ends nothing else.
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._closed = False
        self.failed = 0

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run a coroutine to its end; after `close` it is dropped."""
        if self._closed:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.failed += 1
            log.error("engine_job_failed", exc_info=error)

    async def close(self) -> None:
        """Cancel what runs and wait for it."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
