"""Channels to servers, each with what is known of its services: bounded, and renewed in time."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

import grpc
import grpc.aio

from bend import TerminalError
from bend_executors.grpc.descriptors import Catalog, Method, Names, parse_set
from bend_executors.grpc.options import Connection, Options
from bend_executors.grpc.reflection import files_of
from bend_executors.reach import checked_addresses, host_name

CATALOGS_MAX = 64


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
    """Return TLS with the connection's trust, else with gRPC's own roots."""
    if connection is None:
        return grpc.ssl_channel_credentials()
    return grpc.ssl_channel_credentials(connection.ca, connection.key, connection.certificate)


class Link:
    """One channel; closed when its time is over and nobody uses it any more."""

    def __init__(self, channel: grpc.aio.Channel, ends: float) -> None:
        self.channel = channel
        self.ends = ends
        self.users = 0
        self.gone = False
        self._catalogs: OrderedDict[str, Catalog] = OrderedDict()
        self._asking = asyncio.Lock()

    async def method(
        self,
        wanted: Names,
        given: bytes | None,
        timeout_s: float,
        metadata: list[tuple[str, str]],
    ) -> Method:
        """Return a method by a given descriptor set, else by asking the server, once a service."""
        key = sha256(given).hexdigest() if given is not None else wanted.service
        found = self._catalogs.get(key)
        if found is None:
            async with self._asking:
                found = self._catalogs.get(key)
                if found is None:
                    files = (
                        parse_set(given)
                        if given is not None
                        else await files_of(self.channel, wanted.service, timeout_s, metadata)
                    )
                    found = self._catalogs[key] = Catalog(files)
                    while len(self._catalogs) > CATALOGS_MAX:
                        self._catalogs.popitem(last=False)
        return found.method(wanted)

    def forget(self, service: str) -> None:
        """Drop what reflection said of a service: the server has another version now."""
        self._catalogs.pop(service, None)


class Links:
    """All channels, the least recently used one leaves first."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._links: OrderedDict[tuple[str, ...], Link] = OrderedDict()

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
        link = self._links.get(key)
        if link is None or link.ends < time.monotonic():
            made = await self._open(target, connection, tls=tls)
            # Another task may have opened one meanwhile; then this one is not needed.
            link = self._links.get(key)
            if link is None or link.ends < time.monotonic():
                await self._retire(key)
                link = self._links[key] = made
            else:
                await made.channel.close()
        self._links.move_to_end(key)
        link.users += 1
        try:
            while len(self._links) > self._options.channels_max:
                await self._retire(next(iter(self._links)))
            yield link
        finally:
            link.users -= 1
            if link.gone and not link.users:
                await link.channel.close()

    async def _retire(self, key: tuple[str, ...]) -> None:
        old = self._links.pop(key, None)
        if old is not None:
            old.gone = True
            if not old.users:
                await old.channel.close()

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
        return Link(channel, time.monotonic() + self._options.channel_s)

    async def close(self) -> None:
        """Close all channels."""
        for key in list(self._links):
            await self._retire(key)

    def stats(self) -> dict[str, int]:
        """Return how many channels there are, and how many calls use them."""
        return {
            "channels": len(self._links),
            "calls": sum(link.users for link in self._links.values()),
        }
