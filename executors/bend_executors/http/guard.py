"""The guard: which addresses an http task may reach.

Workflows are written by many people and their URLs may come from data, so the component must not be
a way into the machine's own network. Each connection resolves its name, checks every address that
came back, and connects to exactly a checked one: a second look-up could answer otherwise.
"""

import asyncio
import ipaddress
import socket
from asyncio import get_running_loop
from collections.abc import Iterable

import httpcore

from bend import RetryableError, TerminalError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
TEREDO = ipaddress.IPv6Network("2001::/32")
# Azure answers its machines' secrets under an address that looks public; the other clouds use
# link-local or private ones.
METADATA = frozenset((ipaddress.ip_address("168.63.129.16"),))


class Allowance:
    """Hosts and networks that are open although the guard would refuse them."""

    def __init__(self, entries: Iterable[str]) -> None:
        self.hosts: set[str] = set()
        self.networks: list[Network] = []
        for entry in entries:
            text = entry.strip().lower()
            if not text:
                continue
            try:
                self.networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                self.hosts.add(text.rstrip("."))

    @classmethod
    def from_text(cls, text: str) -> "Allowance":
        """Read the form of BEND_HTTP_ALLOW: networks and host names, separated by commas."""
        return cls(text.split(","))

    def covers(self, host: str, address: Address) -> bool:
        """Tell whether an entry opens this host or this address."""
        if host.lower().rstrip(".") in self.hosts:
            return True
        return any(
            address in network for network in self.networks if network.version == address.version
        )


def embedded(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address carries, else the address itself.

    Mapped, 6to4, Teredo and NAT64 addresses all reach an IPv4 host.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in TEREDO and address.teredo is not None:
        return address.teredo[1]
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Tell whether an address is on the public internet: not private, loopback, metadata, …"""
    real = embedded(address)
    if real in METADATA or (isinstance(real, ipaddress.IPv6Address) and real.is_site_local):
        return False
    return real.is_global and not real.is_multicast and not real.is_reserved


async def checked_addresses(host: str, port: int, allowance: Allowance) -> list[str]:
    """Resolve a host and return the addresses that may be reached, in the resolver's order.

    Every address of the answer must be allowed: a name that points to both a public and a private
    address is refused, so that the choice of address is never a way round.

    Raises:
        TerminalError: ADDRESS_REFUSED.
        RetryableError: DNS_FAILED.
    """
    loop = get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise RetryableError("DNS_FAILED", f"{host} cannot be resolved: {error}") from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        if not is_public(address) and not allowance.covers(host, address):
            shown = host if host == str(address) else f"{host} ({address})"
            raise TerminalError(
                "ADDRESS_REFUSED",
                f"{shown} is not on the public internet; BEND_HTTP_ALLOW opens networks and hosts",
                details={"host": host, "address": str(address)},
            )
    return list(dict.fromkeys(str(address) for address in addresses))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """A network backend that connects to checked addresses only."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Check the host and connect to a checked address; TLS still verifies the name.

        A name may have addresses that nobody listens on (`localhost` is ::1 and 127.0.0.1): they
        are tried in order, and share the time.
        """
        loop = get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        try:
            async with asyncio.timeout(timeout):
                addresses = await checked_addresses(host, port, self._allowance)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"{host} was not resolved in time") from None
        for left in range(len(addresses), 0, -1):
            share = None if end is None else max(0.001, (end - loop.time()) / left)
            try:
                return await self._inner.connect_tcp(
                    addresses[-left], port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
        raise httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no task may reach a local socket."""
        del timeout, socket_options
        raise TerminalError("ADDRESS_REFUSED", f"unix socket {path} is not reachable by http")

    async def sleep(self, seconds: float) -> None:
        """Wait between connection attempts."""
        await self._inner.sleep(seconds)
