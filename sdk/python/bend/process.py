"""The main of a process that serves: signals, the end by drain, and exit codes."""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from bend.cli.exits import code_of
from bend.errors import BendError, NotPermitted

log = logging.getLogger("bend.worker")


class Serving(Protocol):
    """What a worker is to its process."""

    @property
    def left_behind(self) -> int:
        """How many tasks did not end with the drain."""

    async def serve(self) -> None:
        """Serve until `stop`. Raises BendError."""

    def stop(self) -> None:
        """Ask to drain."""


def run(workers: Sequence[Serving]) -> None:
    """Serve until SIGTERM or SIGINT, then drain all; a second signal ends at once.

    What one of them raises ends the others, is one line on stderr and the exit code that `bend`
    has for it.
    """
    if not logging.getLogger().handlers and not log.handlers:
        logging.basicConfig(
            stream=sys.stderr,
            level=os.environ.get("BEND_LOG_LEVEL", "info").upper(),
            format="%(asctime)s %(levelname)s %(message)s",
        )
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_with_signals(workers))
    except BendError as error:
        log.error("%s: %s", error.reason, error)  # noqa: TRY400 - not a fault of the program
        if isinstance(error, NotPermitted):
            log.error("a component's certificate: bend components cert NAME")  # noqa: TRY400
        raise SystemExit(code_of(error)) from None


async def _with_signals(workers: Sequence[Serving]) -> None:
    loop = asyncio.get_running_loop()
    stopping = False

    def on_signal(number: int) -> None:
        nonlocal stopping
        if stopping:
            os._exit(128 + number)
        stopping = True
        log.info("stopping: finishing what is held")
        stop(workers)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
    await serve(workers)
    if any(worker.left_behind for worker in workers):
        # Threads of author code cannot be stopped, and the interpreter would wait for them.
        logging.shutdown()
        os._exit(1)


async def serve(workers: Sequence[Serving]) -> None:
    """Serve them together; the first that fails stops the others. Raises what it raised."""
    tasks = [asyncio.ensure_future(worker.serve()) for worker in workers]
    for task in tasks:
        task.add_done_callback(lambda _: stop(workers))
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        task.result()


def stop(workers: Sequence[Serving]) -> None:
    """Ask all to drain."""
    for worker in workers:
        worker.stop()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory when it is installed; it is no dependency of the SDK."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
