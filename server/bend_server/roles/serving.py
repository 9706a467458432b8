"""How every role starts and ends: the slow steps side by side, then serving until it is told."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bend_server.rpc.server import RpcServer, Service

WATCH_S = 0.25
# As measured: fewer collections over what lives long anyway.
GC_THRESHOLD = 50_000

_log = structlog.get_logger(__name__)


class StoppedEarly(Exception):
    """The signal to stop came before the role had what it needs."""


async def together(stop: asyncio.Event, *steps: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run the slow first steps side by side; the first fault, or `stop`, ends the others.

    Returns their results in order.

    Raises:
        ExceptionGroup: of the first fault, or of StoppedEarly.
    """
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_until(stop))
        tasks = [group.create_task(step) for step in steps]
        await asyncio.wait(tasks)
        watch.cancel()
    return [task.result() for task in tasks]


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()
    raise StoppedEarly


async def serve_until(
    stop: asyncio.Event,
    running: RpcServer,
    services: list[Service],
    role: str,
    fault: Callable[[], BaseException | None] = lambda: None,
) -> None:
    """Serve until `stop` is set.

    Args:
        fault: asked every 0.25 s; what it gives is raised, and the process ends with it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    for name in ("", *(service.name for service in services)):
        await running.set_serving(name, True)
    _log.info("role_started", role=role, port=running.port)
    while not stop.is_set():
        try:
            async with asyncio.timeout(WATCH_S):
                await stop.wait()
        except TimeoutError:
            failed = fault()
            if failed is not None:
                raise failed from None
    _log.info("role_stops", role=role)
