"""A mesh on a loop in a thread of its own, so that tests of any kind can use it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import structlog

from bend.client import Client
from bend_server.telemetry.clock import SystemClock
from bend_server.testing.mesh import TestMesh
from bend_server.testing.skipping_loop import SkippingLoop

STOP_S = 10.0


class MeshThread:
    """Starts with `start`, and stops with `stop`; both block, for at most seconds.

    Args:
        targets, mocks, secrets: see TestMesh.
        skip: whether time that nobody works in is skipped.
    """

    def __init__(
        self,
        targets: Sequence[Callable[..., Any]],
        *,
        mocks: Mapping[str, Any],
        secrets: Mapping[str, str],
        skip: bool,
    ) -> None:
        self._loop = SkippingLoop() if skip else asyncio.new_event_loop()
        clock = self._loop if isinstance(self._loop, SkippingLoop) else SystemClock()
        self._mesh = TestMesh(targets, mocks=mocks, secrets=secrets, clock=clock)
        if isinstance(self._loop, SkippingLoop):
            self._loop.busy = lambda: self._mesh.busy
        self._thread = threading.Thread(target=self._run, name="bend-testing", daemon=True)

    @property
    def client(self) -> Client:
        """The client; its coroutines are for `submit`."""
        return self._mesh.client

    def start(self) -> None:
        """Start the mesh. Raises BendError when a component cannot be registered."""
        # An engine in a test says nothing below warnings, unless the test has set that up.
        if not structlog.is_configured():
            quiet = structlog.make_filtering_bound_logger(30)
            structlog.configure(wrapper_class=quiet)
        self._thread.start()
        self.submit(self._mesh.start()).result()

    def stop(self) -> None:
        """Stop the mesh. Idempotent."""
        if self._thread.is_alive():
            self.submit(self._mesh.stop(), waits=True).result(STOP_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_S)

    def submit(self, work: Coroutine[Any, Any, Any], *, waits: bool = False) -> "Future[Any]":
        """Run a coroutine on the mesh's loop.

        Args:
            work: what to run.
            waits: it waits for something to end: until it has, idle time is skipped.
        """
        wanted = self._waiting(work) if waits else work
        return asyncio.run_coroutine_threadsafe(wanted, self._loop)

    async def _waiting(self, work: Coroutine[Any, Any, Any]) -> Any:
        loop = self._loop
        if not isinstance(loop, SkippingLoop):
            return await work
        loop.waiters += 1
        try:
            return await work
        finally:
            loop.waiters -= 1

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()
