"""Channels to servers, each with what is known of its services: bounded, and renewed in time."""

import asyncio
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

import grpc
import grpc.aio

from bend import TerminalError
from bend_executors.grpc.descriptors import Catalog, Method, Names, parse_set
from bend_executors.grpc.options import Connection, Options
from bend_executors.grpc.reflection import files_of
from bend_executors.reach import checked_addresses, host_name

CATALOGS_MAX = 256
CATALOG_BYTES_MAX = 16 * 1024 * 1024


def place(target: str) -> tuple[str, int]:
    """Return (host, port) of `host:port`. Raises TerminalError INVALID_INPUT, ADDRESS_REFUSED."""
    host, colon, port = target.rpartition(":")
    sound = colon and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536
    if not sound or (":" in host and not host.startswith("[")):
        raise TerminalError(
            "INVALID_INPUT",
            f"target: {target[:200]!r} is not host:port",
            details={"field": "target"},
        )
    return host_name(host), int(port)


def credentials(connection: Connection | None) -> grpc.ChannelCredentials:
    """Return TLS with the connection's trust, else with the system's roots."""
    if connection is None:
        return grpc.ssl_channel_credentials(system_roots())
    return grpc.ssl_channel_credentials(
        connection.ca or system_roots(), connection.key, connection.certificate
    )


@cache
def system_roots() -> bytes | None:
    """Return the system's roots as PEM; None, for gRPC's own, where they are in no file.

    gRPC prefers the roots of its package, which know nothing of a company's own authority.
    """
    file = ssl.get_default_verify_paths().cafile
    if not file:
        return None
    try:
        return Path(file).read_bytes() or None
    except OSError:
        return None


class Catalogs:
    """What is known of services: bounded in number and bytes, for all channels together."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[int, str], Catalog] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: tuple[int, str]) -> Catalog | None:
        """Return a description that was kept."""
        found = self._found.get(key)
        if found is not None:
            self._found.move_to_end(key)
        return found

    def keep(self, key: tuple[int, str], catalog: Catalog) -> None:
        """Keep a description; the least recently used ones leave."""
        self.forget(key)
        self._found[key] = catalog
        self._size += catalog.size
        while len(self._found) > CATALOGS_MAX or (
            self._size > CATALOG_BYTES_MAX and len(self._found) > 1
        ):
            self.forget(next(iter(self._found)))

    def forget(self, key: tuple[int, str]) -> None:
        """Drop a description."""
        old = self._found.pop(key, None)
        if old is not None:
            self._size -= old.size

    def leave(self, number: int) -> None:
        """Drop all of one channel."""
        for key in [key for key in self._found if key[0] == number]:
            self.forget(key)


class Link:
    """One channel; closed when its time is over and nobody uses it any more."""

    def __init__(
        self, number: int, channel: grpc.aio.Channel, ends: float, catalogs: Catalogs
    ) -> None:
        self.number = number
        self.channel = channel
        self.ends = ends
        self.users = 0
        self.gone = False
        self._catalogs = catalogs
        self._asking = asyncio.Lock()

    async def method(
        self,
        wanted: Names,
        given: bytes | None,
        timeout_s: float,
        metadata: list[tuple[str, str]],
    ) -> Method:
        """Return a method by a given descriptor set, else by asking the server, once a service.

        Raises TimeoutError, also when other tasks' asking takes the time.
        """
        name = sha256(given).hexdigest() if given is not None else wanted.service
        key = (self.number, name)
        found = self._catalogs.get(key)
        if found is None:
            async with asyncio.timeout(timeout_s), self._asking:
                found = self._catalogs.get(key)
                if found is None:
                    files = (
                        parse_set(given)
                        if given is not None
                        else await files_of(self.channel, wanted.service, timeout_s, metadata)
                    )
                    found = Catalog(files)
                    self._catalogs.keep(key, found)
        return found.method(wanted)

    def forget(self, service: str) -> None:
        """Drop what reflection said of a service: the server has another version now."""
        self._catalogs.forget((self.number, service))


class Links:
    """All channels, the least recently used one leaves first."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._links: OrderedDict[tuple[str, ...], Link] = OrderedDict()
        self._catalogs = Catalogs()
        self._count = 0

    @asynccontextmanager
    async def link(
        self, namespace: str, target: str, connection: Connection | None, *, tls: bool
    ) -> AsyncIterator[Link]:
        """Give a channel. Raises what the guard raises: ADDRESS_REFUSED, DNS_FAILED.

        A channel belongs to one namespace and way of trust; its addresses are checked anew after
        `channel_s`.
        """
        name = connection.name if connection is not None else ""
        key = (namespace, target, name, str(tls))
        link, old = self._links.get(key), None
        if link is None or link.ends < time.monotonic():
            made = await self._open(target, connection, tls=tls)
            # Another task may have opened one meanwhile; then this one is not needed.
            link = self._links.get(key)
            if link is None or link.ends < time.monotonic():
                old, link = link, made
                self._links[key] = made
            else:
                old = made
        self._links.move_to_end(key)
        link.users += 1
        try:
            if old is not None:
                await self._leave(old)
            while len(self._links) > self._options.channels_max:
                await self._leave(self._links.pop(next(iter(self._links))))
            yield link
        finally:
            link.users -= 1
            if link.gone and not link.users:
                await link.channel.close()

    async def _leave(self, link: Link) -> None:
        """Close a channel that is no longer offered, at once or after its last call."""
        link.gone = True
        self._catalogs.leave(link.number)
        if not link.users:
            await link.channel.close()

    async def _open(self, target: str, connection: Connection | None, *, tls: bool) -> Link:
        host, port = place(target)
        if connection is None:
            found = await checked_addresses(host, port, self._options.allow)
            # gRPC takes addresses of one family; nearly every host with both has IPv4.
            fourth = [address for address in found if ":" not in address]
            address = (
                "ipv4:" + ",".join(f"{one}:{port}" for one in fourth)
                if fourth
                else "ipv6:" + ",".join(f"[{one}]:{port}" for one in found)
            )
        else:
            address = f"dns:///{target}"
        shown = f"[{host}]" if ":" in host else host
        options = [
            ("grpc.default_authority", f"{shown}:{port}"),
            ("grpc.max_receive_message_length", self._options.response_bytes_max),
            ("grpc.max_send_message_length", self._options.request_bytes_max),
            ("grpc.enable_http_proxy", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_metadata_size", 16 * 1024),
            ("grpc.primary_user_agent", "bend-grpc/1.0"),
        ]
        if tls:
            options.append(("grpc.ssl_target_name_override", host))
            channel = grpc.aio.secure_channel(address, credentials(connection), options)
        else:
            channel = grpc.aio.insecure_channel(address, options)
        self._count += 1
        ends = time.monotonic() + self._options.channel_s
        return Link(self._count, channel, ends, self._catalogs)

    async def close(self) -> None:
        """Close all channels."""
        while self._links:
            await self._leave(self._links.popitem()[1])

    def stats(self) -> dict[str, int]:
        """Return how many channels there are, and how many calls use them."""
        return {
            "channels": len(self._links),
            "calls": sum(link.users for link in self._links.values()),
        }
