"""The roles over the database: `engine`, `registry`, and `server`, which is both in one process."""

import asyncio
from contextlib import AsyncExitStack

from bend_server.roles.process import CALLS_GRACE_S, Process
from bend_server.roles.serving import serve_until, together
from bend_server.rpc.server import Service


async def run(process: Process, stop: asyncio.Event) -> None:
    """Run the engine, the registry, or both, until `stop` is set or the engine fails."""
    async with AsyncExitStack() as stack:
        stores, queue, blobs = await together(
            stop, process.stores(stack), process.queue(stack), process.blobs()
        )
        services: list[Service] = []
        engine = None
        # A role imports what it serves, and no other.
        if process.role != "registry":
            from bend_server.roles.engine import make_engine

            engine, more = make_engine(process, stores, queue, blobs)
            services += more
        if process.role != "engine":
            from bend_server.roles.registry import start_registry

            services += await start_registry(process, stores, queue, stack)
        running = await process.serve(services, stack)
        if engine is None:
            await serve_until(stop, running, services, process.role)
            return
        await engine.start()
        stack.push_async_callback(engine.stop)
        # Calls that are being served need the engine until they have ended.
        stack.push_async_callback(running.stop, CALLS_GRACE_S)
        # Memory of a failed engine can no longer be trusted; a fresh process recovers from SQL.
        await serve_until(stop, running, services, process.role, lambda: engine.failed)
