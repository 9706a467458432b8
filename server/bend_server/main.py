"""Composition roots: `python -m bend_server.main ROLE` runs one server process.

Roles: `server` (engine and registry together), `executor`; with PostgreSQL also `engine` and
`registry` alone. SIGTERM stops a role in order. Exit code 2: the configuration cannot be used, and
starting again is useless.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

# structlog imports rich when it finds it, to colour tracebacks on terminals: a sixth of a second
# at every start of a role, which writes JSON.
_rich = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402 - after the line above

if _rich is None:
    del sys.modules["rich"]

from bend.errors import ConfigurationError  # noqa: E402
from bend_server.config import Settings, load  # noqa: E402
from bend_server.core.errors import DependencyDown  # noqa: E402
from bend_server.place import Place, arguments, place_of  # noqa: E402
from bend_server.rpc.identity import Authenticator  # noqa: E402
from bend_server.rpc.server import RpcServer, Service, TlsFiles, serve  # noqa: E402
from bend_server.telemetry import logs  # noqa: E402
from bend_server.telemetry.clock import SystemChance, SystemClock  # noqa: E402
from bend_server.tls import client_context  # noqa: E402

CONFIGURATION_EXIT = 2
FAULT_EXIT = 1
NATS_S = 20.0
DATABASE_S = 20.0
DATABASE_PAUSE_S = 0.1
CALLS_GRACE_S = 3.0
WATCH_S = 0.25
PARENT_S = 1.0
# As measured: fewer collections over what lives long anyway.
GC_THRESHOLD = 50_000
TRUST_DOMAIN = "bend.local"

_log = structlog.get_logger(__name__)


class Process:
    """What every role has: settings, certificate, time, chance, and the queue's connection."""

    def __init__(self, role: str, settings: Settings, place: Place) -> None:
        self.role = role
        self.settings = settings
        self.place = place
        # The server is the engine to the others: on SQLite it owns the database.
        self.identity = "engine" if role == "server" else role
        certs = settings.certs
        self.tls = TlsFiles(
            settings.cert_file or certs / f"{self.identity}.pem",
            settings.key_file or certs / f"{self.identity}.key",
            settings.ca_file or certs / "ca.pem",
        )
        self.clock = SystemClock()
        self.chance = SystemChance()
        self.replica = f"{place.replica}/" if place.replica else ""
        self.name = f"{self.replica}{socket.gethostname()}:{place.port}:{os.getpid()}"

    async def queue(self, stack: AsyncExitStack) -> Any:
        """Connect to NATS; closed with the stack. Engines make the streams, executors use them."""
        from bend_server.queue.jetstream import NatsQueue, StreamOptions

        connected = await NatsQueue.connect(
            self.place.nats,
            client_context(self.tls.roots, self.tls.certificate, self.tls.key),
            self.name,
            streams=StreamOptions() if self.identity == "engine" else None,
            jetstream=self.role != "registry",
            inbox_prefix=f"_INBOX_{self.identity}",
            timeout_s=NATS_S,
        )
        stack.push_async_callback(connected.close)
        return connected

    async def blobs(self) -> Any:
        """Return the blob store."""
        from bend_server.blobs.objects import ObjectBlobs

        return await asyncio.to_thread(ObjectBlobs, self.settings.blobs)

    async def stores(self, stack: AsyncExitStack) -> Any:
        """Open the database; closed with the stack.

        One that is away, or still reads its log after a crash, is waited for as NATS is: ending
        here would cost the whole start of this process again, after a growing pause.
        """
        from bend_server.storage.opening import open_store

        loop = asyncio.get_running_loop()
        deadline = loop.time() + DATABASE_S
        told = False
        while True:
            try:
                opened = await open_store(self.settings.database, self.clock)
            except DependencyDown as error:
                if loop.time() >= deadline:
                    raise
                if not told:
                    told = True
                    _log.warning("database_awaited", error=str(error))
                await asyncio.sleep(DATABASE_PAUSE_S)
            else:
                stack.push_async_callback(opened.close)
                return opened

    async def serve(self, services: list[Service], stack: AsyncExitStack) -> RpcServer:
        """Listen, not yet serving; stopped with the stack."""
        running = await serve(
            services,
            address=self.place.host,
            port=self.place.port,
            tls=self.tls,
            authenticator=Authenticator(
                trust_domain=TRUST_DOMAIN, token_file=self.settings.token_file
            ),
            serving=False,
        )
        stack.push_async_callback(running.stop, CALLS_GRACE_S)
        return running


async def run_server(process: Process, stop: asyncio.Event) -> None:
    """Run the engine, the registry, or both, until `stop` is set or the engine fails."""
    async with AsyncExitStack() as stack:
        stores, queue, blobs = await _together(
            stop, process.stores(stack), process.queue(stack), process.blobs()
        )
        services: list[Service] = []
        engine: Any = None
        if process.role != "registry":
            engine, more = _engine(process, stores, queue, blobs)
            services += more
        if process.role != "engine":
            services += await _registry(process, stores, queue, stack)
        running = await process.serve(services, stack)
        if engine is not None:
            await engine.start()
            stack.push_async_callback(engine.stop)
            # Calls that are being served need the engine until they have ended.
            stack.push_async_callback(running.stop, CALLS_GRACE_S)
        await _serve_until(process, running, services, stop, engine)


def _engine(process: Process, stores: Any, queue: Any, blobs: Any) -> tuple[Any, list[Service]]:
    from bend import __version__
    from bend.v1 import (
        engine_service_pb2,
        executor_service_pb2,
        operations_service_pb2,
        registry_service_pb2,
    )
    from bend_server.engine.engine import Engine
    from bend_server.engine.options import EngineOptions
    from bend_server.engine.plans import StoredPlans, compile_aside
    from bend_server.rpc.chunk_tails import ChunkTails
    from bend_server.rpc.engine_service import Rooms, engine_service
    from bend_server.rpc.operations_service import Check, operations_service
    from bend_server.rpc.parameters import Schemas

    plans = StoredPlans(stores.engine, compile_aside)
    engine = Engine(
        stores.engine,
        queue,
        blobs,
        process.clock,
        process.chance,
        plans,
        EngineOptions(name=process.name, replica=process.replica),
    )
    rooms = Rooms(
        engine=engine,
        reads=stores.reads,
        workflows=stores.workflows,
        registry=stores.registry,
        blobs=blobs,
        plans=plans,
        chunks=ChunkTails(queue),
        clock=process.clock,
        schemas=Schemas(),
    )

    async def database() -> bool:
        await stores.reads.ping()
        return True

    async def connected() -> bool:
        return bool(queue.connected)

    async def owns() -> bool:
        return bool(engine.ready)

    described = [
        engine_service_pb2.DESCRIPTOR.services_by_name["EngineService"],
        registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"],
        executor_service_pb2.DESCRIPTOR.services_by_name["ExecutorService"],
        operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"],
    ]
    checks: dict[str, Check] = {"database": database, "queue": connected, "ownership": owns}
    return engine, [
        engine_service(rooms),
        operations_service(checks, described, __version__),
    ]


async def _registry(
    process: Process, stores: Any, queue: Any, stack: AsyncExitStack
) -> list[Service]:
    from bend_server.registry import Registry
    from bend_server.registry.pools import Pools
    from bend_server.rpc.pool_registry import pool_registry_service
    from bend_server.rpc.registry_service import registry_service

    registry = Registry(
        stores.registry,
        queue,
        process.clock,
        refuse_breaking=process.settings.breaking_contracts == "refuse",
    )
    await registry.start()
    stack.push_async_callback(registry.stop)
    pools = pool_registry_service(Pools(stores.pools, process.clock))
    return [registry_service(registry), pools]


async def run_executor(process: Process, stop: asyncio.Event) -> None:
    """Run an executor until `stop` is set."""
    from bend_server.executor.listeners import Listeners
    from bend_server.executor.options import ExecutorOptions
    from bend_server.executor.pools.desk import Desk
    from bend_server.executor.providers import secret_providers
    from bend_server.executor.room import ExecutorRoom
    from bend_server.rpc.connect import executor_service
    from bend_server.rpc.identity import NAMESPACE_DEFAULT
    from bend_server.rpc.push import dialer
    from bend_server.rpc.registrar import RegistryClient

    async with AsyncExitStack() as stack:
        queue, blobs = await _together(stop, process.queue(stack), process.blobs())
        place = process.place
        registrar = RegistryClient(
            place.registry,
            server_name=f"{place.registry_role}.{TRUST_DOMAIN}",
            certificate=process.tls.certificate,
            key=process.tls.key,
            roots=process.tls.roots,
        )
        stack.push_async_callback(registrar.close)
        warden = await _warden(process, queue, registrar)
        room = ExecutorRoom(
            queue,
            blobs,
            process.clock,
            process.chance,
            registrar,
            secret_providers(os.environ, process.settings.secrets_dir),
            ExecutorOptions(
                name=process.name,
                resume_key=_resume_key(process.settings.certs / "resume.key"),
                sole=place.sole,
            ),
            warden.admit,
        )
        services = [executor_service(room, Desk(warden))]
        running = await process.serve(services, stack)
        await room.start()
        listeners = Listeners(
            process.settings.listeners,
            NAMESPACE_DEFAULT,
            dialer(process.tls, TRUST_DOMAIN, process.name),
            room.attach,
            process.chance,
        )
        stack.push_async_callback(listeners.stop)
        # Streams are told to go while the server still carries them.
        stack.push_async_callback(room.stop)
        await listeners.start()
        await warden.start()
        # Before the streams: instances finish what they hold.
        stack.push_async_callback(warden.stop)
        await _serve_until(process, running, services, stop, None)


async def _warden(process: Process, queue: Any, registrar: Any) -> Any:
    """Make what keeps pools, after ending what an executor before this one left."""
    from bend_server.executor.pools.configuration import FollowedFile
    from bend_server.executor.pools.drivers import MARKS, Drivers, given_access, issued_access
    from bend_server.executor.pools.warden import Warden
    from bend_server.rpc.identity import NAMESPACE_DEFAULT

    settings, tls = process.settings, process.tls
    file = FollowedFile(settings.pools, NAMESPACE_DEFAULT)

    def issue(path: str) -> tuple[Path, Path]:
        if not (settings.certs / "ca.key").exists():
            # Making an authority here would make certificates that nobody believes.
            raise ValueError("there is no authority here: name `certificates` in the file of pools")
        # Loaded with the first pool: a tenth of the whole start.
        from bend_server.certificates import Authority

        leaf = Authority(settings.certs).leaf(path)
        return leaf.certificate, leaf.key

    if file.content.certificates:
        access = given_access(Path(file.content.certificates), settings.url)
    else:
        access = issued_access(issue, tls.roots, settings.url)
    drivers = Drivers(file, access, settings.home)
    left = await drivers.process.sweep()
    if left:
        _log.warning("pool_instances_ended", names=left, marks=MARKS)
    host, port = socket.gethostname(), process.place.port
    return Warden(
        queue,
        process.clock,
        process.chance,
        registrar,
        file,
        drivers,
        name=process.name,
        seat=f"{host}:{port}",
    )


def _resume_key(file: Path) -> bytes:
    """Return the key that executors share, at least 32 bytes."""
    key = file.read_bytes().strip()
    if len(key) < 32:
        raise ConfigurationError(f"{file} holds fewer than 32 bytes")
    return key


class _StoppedEarly(Exception):
    """The signal to stop came before the role had what it needs."""


async def _together(stop: asyncio.Event, *steps: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run the slow first steps side by side; the first fault, or `stop`, ends the others."""
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_until(stop))
        tasks = [group.create_task(step) for step in steps]
        await asyncio.wait(tasks)
        watch.cancel()
    return [task.result() for task in tasks]


async def _until(stop: asyncio.Event) -> None:
    await stop.wait()
    raise _StoppedEarly


async def _serve_until(
    process: Process,
    running: RpcServer,
    services: list[Service],
    stop: asyncio.Event,
    engine: Any,
) -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    for name in ("", *(service.name for service in services)):
        await running.set_serving(name, True)
    _log.info("role_started", role=process.role, port=running.port)
    while not stop.is_set():
        try:
            async with asyncio.timeout(WATCH_S):
                await stop.wait()
        except TimeoutError:
            if engine is not None and engine.failed is not None:
                # Memory can no longer be trusted; a fresh process recovers from SQL.
                raise engine.failed from None
    _log.info("role_stops", role=process.role)


Run = Callable[[Process, asyncio.Event], Awaitable[None]]
ROLES: dict[str, Run] = {
    "server": run_server,
    "engine": run_server,
    "registry": run_server,
    "executor": run_executor,
}


async def _run(process: Process) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watch = None
    if sys.platform != "linux":
        # Linux ends us with our parent by itself.
        watch = asyncio.create_task(_follow_parent(os.getppid()))
    try:
        await ROLES[process.role](process, stop)
    except* _StoppedEarly:
        _log.info("role_stops", role=process.role)
    finally:
        if watch is not None:
            watch.cancel()


async def _follow_parent(parent: int) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(PARENT_S)
    os._exit(FAULT_EXIT)


def main(argv: list[str] | None = None) -> int:
    """Run a role until SIGTERM; return the exit code."""
    flags = arguments(sys.argv[1:] if argv is None else argv, sorted(ROLES))
    try:
        settings = load()
        place = place_of(flags, settings)
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return CONFIGURATION_EXIT
    logs.configure(flags.role, settings.log_level)
    _log.info("settings", **settings.masked())
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(Process(flags.role, settings, place)))
    except BaseExceptionGroup as group:
        return _ended(group.exceptions[0])
    except Exception as error:  # noqa: BLE001 - the last stop of every fault
        return _ended(error)
    return 0


def _ended(error: BaseException) -> int:
    """Log why the process ends; return the exit code."""
    from bend_server.storage.faults import DatabaseTaken, OpenError

    if isinstance(error, ConfigurationError) or (
        isinstance(error, OpenError) and not isinstance(error, DatabaseTaken)
    ):
        _log.error("configuration_unusable", error=str(error))
        return CONFIGURATION_EXIT
    _log.error("role_failed", error=str(error), exc_info=error)
    return FAULT_EXIT


if __name__ == "__main__":
    sys.exit(main())
