"""If these fail, a workflow's URL can reach the machine's own network."""

import asyncio
import ipaddress
import socket
from typing import Any

import pytest

from bend import TerminalError
from bend_executors.http.guard import Allowance, checked_address, embedded, is_public

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
        asyncio.run(checked_address(host.strip("[]"), 80, Allowance([])))
    assert caught.value.reason == "ADDRESS_REFUSED"


def answer(*addresses: str) -> Any:
    """Return a stand-in for getaddrinfo that answers these addresses."""

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    return getaddrinfo


def test_a_name_with_a_public_and_a_private_address_is_refused() -> None:
    async def resolve() -> str:
        asyncio.get_running_loop().getaddrinfo = answer("1.1.1.1", "10.0.0.9")  # type: ignore[method-assign]
        return await checked_address("rebind.example", 80, Allowance([]))

    with pytest.raises(TerminalError, match=r"10\.0\.0\.9"):
        asyncio.run(resolve())


def test_allowed_networks_and_hosts_are_open() -> None:
    allowance = Allowance.from_text("10.0.0.0/8, Billing.Internal., fd00::/8")

    async def resolve(host: str, address: str) -> str:
        asyncio.get_running_loop().getaddrinfo = answer(address)  # type: ignore[method-assign]
        return await checked_address(host, 80, allowance)

    assert asyncio.run(resolve("a.example", "10.2.3.4")) == "10.2.3.4"
    assert asyncio.run(resolve("billing.internal", "192.168.0.4")) == "192.168.0.4"
    with pytest.raises(TerminalError):
        asyncio.run(resolve("a.example", "192.168.0.4"))
