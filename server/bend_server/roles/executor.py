"""The role `executor`: streams of components, connections to those that listen, and pools."""

import asyncio
import os
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from bend.errors import ConfigurationError
from bend_server.certificates import Authority
from bend_server.executor.listeners import Listeners
from bend_server.executor.options import ExecutorOptions
from bend_server.executor.pools.configuration import FollowedFile
from bend_server.executor.pools.desk import Desk
from bend_server.executor.pools.drivers import MARKS, Drivers, given_access, issued_access
from bend_server.executor.pools.warden import Warden
from bend_server.executor.providers import secret_providers
from bend_server.executor.room import ExecutorRoom
from bend_server.ports.queue import Queue
from bend_server.roles.process import TRUST_DOMAIN, Process
from bend_server.roles.serving import serve_until, together
from bend_server.rpc.connect import executor_service
from bend_server.rpc.identity import NAMESPACE_DEFAULT
from bend_server.rpc.push import dialer
from bend_server.rpc.registrar import RegistryClient

RESUME_KEY_BYTES_MIN = 32

_log = structlog.get_logger(__name__)


async def run(process: Process, stop: asyncio.Event) -> None:
    """Run an executor until `stop` is set."""
    async with AsyncExitStack() as stack:
        queue, blobs = await together(stop, process.queue(stack), process.blobs())
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
        await serve_until(stop, running, services, process.role)


async def _warden(process: Process, queue: Queue, registrar: RegistryClient) -> Warden:
    """Make what keeps pools, after ending what an executor before this one left."""
    settings, tls = process.settings, process.tls
    file = FollowedFile(settings.pools, NAMESPACE_DEFAULT)

    def issue(path: str) -> tuple[Path, Path]:
        if not (settings.certs / "ca.key").exists():
            # Making an authority here would make certificates that nobody believes.
            raise ValueError("there is no authority here: name `certificates` in the file of pools")
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
    if len(key) < RESUME_KEY_BYTES_MIN:
        raise ConfigurationError(f"{file} holds fewer than {RESUME_KEY_BYTES_MIN} bytes")
    return key
