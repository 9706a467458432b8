"""Resolve, check, and connect to what was checked."""

import asyncio
import ipaddress
import socket
import ssl
from asyncio import get_running_loop
from collections.abc import Callable
from typing import TypeVar

from bend import RetryableError, TerminalError
from bend_executors.reach.addresses import Allowance, is_public

P = TypeVar("P", bound=asyncio.Protocol)


async def checked_addresses(host: str, port: int, allowance: Allowance) -> list[str]:
    """Resolve a host and return the addresses that may be reached, in the resolver's order.

    Every address of the answer must be allowed: a name that points to both a public and a private
    address is refused, so that the choice of address is never a way round.

    Raises:
        TerminalError: ADDRESS_REFUSED.
        RetryableError: DNS_FAILED.
    """
    fixed = allowance.fixed_address(host)
    if fixed is not None:
        return [fixed]
    loop = get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise RetryableError("DNS_FAILED", f"{host} cannot be resolved: {error}") from None
    if not found:
        raise RetryableError("DNS_FAILED", f"{host} has no address")
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


async def dial(
    host: str,
    port: int,
    allowance: Allowance,
    protocol: Callable[[], P],
    *,
    tls: ssl.SSLContext | None,
    timeout_s: float,
) -> tuple[asyncio.Transport, P]:
    """Connect to a checked address of a host; TLS still verifies the host's name.

    A name may have addresses that nobody listens on (`localhost` is ::1 and 127.0.0.1): they are
    tried in order, and share the time.

    Raises:
        TerminalError: ADDRESS_REFUSED.
        RetryableError: DNS_FAILED.
        TimeoutError: not resolved or not connected in time.
        OSError: the last address's refusal; ssl.SSLError is one.
    """
    loop = get_running_loop()
    end = loop.time() + timeout_s
    async with asyncio.timeout(timeout_s):
        addresses = await checked_addresses(host, port, allowance)
    for left in range(len(addresses), 1, -1):
        try:
            share = max(0.001, (end - loop.time()) / left)
            return await _connect(protocol, addresses[-left], port, host, tls, share)
        except ssl.SSLError:
            raise
        except (OSError, TimeoutError):
            continue
    share = max(0.001, end - loop.time())
    return await _connect(protocol, addresses[-1], port, host, tls, share)


async def _connect(
    protocol: Callable[[], P],
    address: str,
    port: int,
    host: str,
    tls: ssl.SSLContext | None,
    timeout_s: float,
) -> tuple[asyncio.Transport, P]:
    async with asyncio.timeout(timeout_s):
        return await get_running_loop().create_connection(
            protocol, address, port, ssl=tls, server_hostname=host if tls is not None else None
        )
