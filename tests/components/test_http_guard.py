"""If these fail, a workflow's URL can reach the machine's own network."""

import asyncio
import ipaddress
import socket
from typing import Any

import httpcore
import pytest

from bend import TerminalError
from bend_executors.http.guard import (
    Allowance,
    GuardedBackend,
    checked_addresses,
    embedded,
    is_public,
)

REFUSED = [
    "127.0.0.1",
    "127.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "fec0::1",
    "::7f00:1",
    "168.63.129.16",
    "::ffff:168.63.129.16",
    "fd00:ec2::254",
]
ODD_NOTATIONS = ["0x7f000001", "2130706433", "127.1", "0177.0.0.1", "localhost", "[::1]"]


@pytest.mark.parametrize("text", REFUSED)
def test_private_addresses_are_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700::1111"])
def test_public_addresses_are(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


def test_the_ipv4_address_inside_an_ipv6_one_is_judged() -> None:
    assert str(embedded(ipaddress.ip_address("64:ff9b::a9fe:a9fe"))) == "169.254.169.254"


@pytest.mark.parametrize("host", ODD_NOTATIONS)
def test_odd_notations_are_resolved_before_they_are_judged(host: str) -> None:
    with pytest.raises(TerminalError) as caught:
        asyncio.run(checked_addresses(host.strip("[]"), 80, Allowance([])))
    assert caught.value.reason == "ADDRESS_REFUSED"


def answer(*addresses: str) -> Any:
    """Return a stand-in for getaddrinfo that answers these addresses."""

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    return getaddrinfo


def test_a_name_with_a_public_and_a_private_address_is_refused() -> None:
    async def resolve() -> list[str]:
        asyncio.get_running_loop().getaddrinfo = answer("1.1.1.1", "10.0.0.9")  # type: ignore[method-assign]
        return await checked_addresses("rebind.example", 80, Allowance([]))

    with pytest.raises(TerminalError, match=r"10\.0\.0\.9"):
        asyncio.run(resolve())


def test_allowed_networks_and_hosts_are_open() -> None:
    allowance = Allowance.from_text("10.0.0.0/8, Billing.Internal., fd00::/8")

    async def resolve(host: str, address: str) -> list[str]:
        asyncio.get_running_loop().getaddrinfo = answer(address)  # type: ignore[method-assign]
        return await checked_addresses(host, 80, allowance)

    assert asyncio.run(resolve("a.example", "10.2.3.4")) == ["10.2.3.4"]
    assert asyncio.run(resolve("billing.internal", "192.168.0.4")) == ["192.168.0.4"]
    with pytest.raises(TerminalError):
        asyncio.run(resolve("a.example", "192.168.0.4"))


def test_a_name_that_does_not_resolve_in_time_is_a_timeout() -> None:
    async def hanging(*_: object, **__: object) -> list[Any]:
        await asyncio.Event().wait()
        return []

    async def use() -> None:
        asyncio.get_running_loop().getaddrinfo = hanging  # type: ignore[method-assign]
        await GuardedBackend(Allowance([])).connect_tcp("slow.example", 80, 0.05)

    with pytest.raises(httpcore.ConnectTimeout, match=r"slow\.example"):
        asyncio.run(use())


def test_the_next_address_is_tried_and_only_checked_ones() -> None:
    """`localhost` is ::1 first on many machines, and a server may listen on 127.0.0.1 alone."""

    async def use() -> str:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            loop = asyncio.get_running_loop()
            real = loop.getaddrinfo
            asked: list[str] = []

            async def two(host: str, port: int, **more: Any) -> list[tuple[Any, ...]]:
                asked.append(host)
                if host == "two.example":
                    return await answer("127.0.0.2", "127.0.0.1")(host, port)
                return list(await real(host, port, **more))

            loop.getaddrinfo = two  # type: ignore[method-assign]
            backend = GuardedBackend(Allowance.from_text("127.0.0.0/8"))
            stream = await backend.connect_tcp("two.example", port, 5.0)
            peer = stream.get_extra_info("server_addr")
            await stream.aclose()
            assert asked.count("two.example") == 1
            return str(peer[0])

    assert asyncio.run(use()) == "127.0.0.1"
