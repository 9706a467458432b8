"""Component services that listen: the operator's file of addresses, and the connections to them.

    listeners:
      vision: {address: "vision.internal:9000", component: vision, namespace: default, instances: 1}

`component` is the name in the service's certificate, `/component/<name>`, by default the
listener's. `instances` is how many processes stand behind the address: so many connections are
kept, each to another process.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import structlog

from bend_server.core import limits
from bend_server.core.errors import DomainError
from bend_server.executor.operator_files import FollowedFile, read_file
from bend_server.ports.clock import Chance
from bend_server.ports.links import LinkBroken, WorkerLink

LOOK_S = 2.0
BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 10.0
# A connection that lasted so long was well: the next failure is the first one again.
WELL_S = 5.0
KEYS = frozenset(("address", "component", "namespace", "instances"))
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
ADDRESS = re.compile(r"([^\s:\[\]]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})")

_log = structlog.get_logger(__name__)


class Listener(NamedTuple):
    """One address, and who has to answer there."""

    name: str
    address: str
    component: str
    namespace: str
    instances: int


class DialledLink(WorkerLink, Protocol):
    """A link that we opened; its hello says which process answered."""

    @property
    def instance_id(self) -> str:
        """The process at the other end."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


def read_listeners(path: Path, namespace: str) -> frozenset[Listener]:
    """Read the file; a missing one names nobody.

    Args:
        path: of the file.
        namespace: of listeners that name none.

    Raises:
        ConfigurationError: names the file and what is wrong in it.
    """
    return read_file(path, lambda document: _parsed(document, namespace))


def _parsed(document: Any, namespace: str) -> frozenset[Listener]:
    if document is None:
        return frozenset()
    if not isinstance(document, dict) or set(document) != {"listeners"}:
        raise ValueError("a map with the one key `listeners` is wanted")
    listeners = document["listeners"] or {}
    if not isinstance(listeners, dict) or len(listeners) > limits.LISTENERS_MAX:
        raise ValueError(f"listeners is a map of at most {limits.LISTENERS_MAX}")
    return frozenset(_listener(str(name), one, namespace) for name, one in listeners.items())


def _listener(name: str, one: Any, namespace: str) -> Listener:
    if not isinstance(one, dict) or set(map(str, one)) - KEYS:
        raise ValueError(f"listener {name!r} is a map of {', '.join(sorted(KEYS))}")
    address = ADDRESS.fullmatch(str(one.get("address", "")))
    if not address or not 1 <= int(address[2]) <= 65_535:
        raise ValueError(f"listener {name!r}: address must be host:port")
    component = str(one.get("component", name))
    if not NAME.fullmatch(component):
        raise ValueError(f"listener {name!r}: {component!r} is no name of a component's identity")
    instances = one.get("instances", 1)
    if type(instances) is not int or not 1 <= instances <= limits.LISTENER_INSTANCES_MAX:
        raise ValueError(f"listener {name!r}: instances is 1 to {limits.LISTENER_INSTANCES_MAX}")
    return Listener(name, address[0], component, str(one.get("namespace", namespace)), instances)


class Listeners:
    """Keeps connections to all services of the file, which is read again when it changes.

    Args:
        path: of the file.
        namespace: of listeners that name none.
        dial: opens a link. Raises LinkBroken.
        attach: serves a link until it ends; ExecutorRoom.attach.
        chance: jitter.
    """

    def __init__(
        self,
        path: Path,
        namespace: str,
        dial: Callable[[Listener], Awaitable[DialledLink]],
        attach: Callable[[WorkerLink], Awaitable[None]],
        chance: Chance,
    ) -> None:
        self._path = path
        self._namespace = namespace
        self._dial = dial
        self._attach = attach
        self._chance = chance
        self._keepers: dict[Listener, list[asyncio.Task[None]]] = {}
        self._connected: set[str] = set()
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the file, and begin to dial. Raises ConfigurationError."""
        file = FollowedFile(self._path, lambda path: read_listeners(path, self._namespace))
        self._keep(file.content)
        self._follower = asyncio.get_running_loop().create_task(self._follow(file))

    async def stop(self) -> None:
        """Close all connections. Idempotent."""
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            self._keep(frozenset())

    async def _follow(self, file: FollowedFile[frozenset[Listener]]) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if file.refresh():
                self._keep(file.content)

    def _keep(self, wanted: frozenset[Listener]) -> None:
        for listener in self._keepers.keys() - wanted:
            for task in self._keepers.pop(listener):
                task.cancel()
        loop = asyncio.get_running_loop()
        for listener in sorted(wanted - self._keepers.keys()):
            self._keepers[listener] = [
                loop.create_task(self._serve(listener)) for _ in range(listener.instances)
            ]

    async def _serve(self, listener: Listener) -> None:
        """Keep one connection, with full jitter between tries."""
        loop = asyncio.get_running_loop()
        tries = 0
        while True:
            began = loop.time()
            try:
                await self._once(listener)
                error = "closed"
            except (LinkBroken, DomainError) as fault:
                error = str(fault)
            except Exception as fault:  # noqa: BLE001 - one service must not end another's
                _log.exception("listener_failed", listener=listener.name)
                error = type(fault).__name__
            tries = 1 if loop.time() - began > WELL_S else tries + 1
            if tries in (1, 5) or tries % 20 == 0:
                _log.warning("listener_away", listener=listener.name, error=error, tries=tries)
            ceiling = min(BACKOFF_S_MAX, BACKOFF_S_FIRST * 2 ** min(tries, 10))
            await asyncio.sleep(self._chance.uniform(0, ceiling))

    async def _once(self, listener: Listener) -> None:
        link = await self._dial(listener)
        try:
            if link.instance_id in self._connected:
                raise LinkBroken(f"{listener.address}: {link.instance_id} is connected already")
            self._connected.add(link.instance_id)
            try:
                _log.info("listener_answers", listener=listener.name, instance=link.instance_id)
                await self._attach(link)
            finally:
                self._connected.discard(link.instance_id)
        finally:
            await link.close()
