"""If these fail, a workflow's URL can reach the machine's own network."""

import asyncio
import ipaddress
import socket
from pathlib import Path
from typing import Any

import pytest

from bend import RetryableError, TerminalError
from bend.errors import ConfigurationError
from bend_executors import configuration
from bend_executors.reach import (
    Allowance,
    checked_addresses,
    dial,
    embedded,
    host_name,
    is_public,
)
from bend_executors.reach.settings import read_allowance
from tests.components.calls import call
from tests.components.http_server import framed, json_reply, opened, serving
from tests.kit.loops import in_loop

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
    "100.100.100.200",
    "192.0.0.192",
    "64:ff9b:1::1",
    "2002:a9fe:a9fe::",
    "64:ff9b::a00:1",
    "2606:4700::5efe:a00:1",
    "2606:4700::200:5efe:a9fe:a9fe",
    "2001:db8::1",
    "100::1",
    "198.18.0.1",
    "240.0.0.1",
]
ODD_NOTATIONS = [
    "0x7f000001",
    "2130706433",
    "127.1",
    "0177.0.0.1",
    "127.0.0.01",
    "0x7f.0.0.1",
    "1.1.1.1.1",
    "0300.0250.1",
    "127.0.0.1.0x",
    "fe80::1%eth0",
]


@pytest.mark.parametrize("text", REFUSED)
def test_private_addresses_are_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "93.184.216.34", "2606:4700::1111"])
def test_public_addresses_are(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


def test_the_ipv4_address_inside_an_ipv6_one_is_judged() -> None:
    assert str(embedded(ipaddress.ip_address("64:ff9b::a9fe:a9fe"))) == "169.254.169.254"


@pytest.mark.parametrize("host", ODD_NOTATIONS)
def test_odd_notations_are_refused_before_anybody_reads_them(host: str) -> None:
    with pytest.raises(TerminalError) as caught:
        host_name(host)
    assert caught.value.reason == "ADDRESS_REFUSED"


@pytest.mark.parametrize("host", ["localhost", "::1", "127.0.0.1", "::ffff:7f00:1"])
def test_the_machine_itself_is_refused(host: str) -> None:
    with pytest.raises(TerminalError) as caught:
        asyncio.run(checked_addresses(host_name(host), 80, Allowance([])))
    assert caught.value.reason == "ADDRESS_REFUSED"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Example.COM.", "example.com"),
        ("[2606:4700:0::1111]", "2606:4700::1111"),
        ("1.1.1.1", "1.1.1.1"),
        ("\uff11.1.1.\uff11", "1.1.1.1"),
        ("ⓔxample.com", "example.com"),
        ("my_service", "my_service"),
    ],
)
def test_hosts_have_one_form(text: str, expected: str) -> None:
    assert host_name(text) == expected


@pytest.mark.parametrize("text", ["", "a..b", "a/b", "a%41", "x" * 64, "[::1", "[name]", "a,b"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(TerminalError) as caught:
        host_name(text)
    assert caught.value.reason == "INVALID_INPUT"


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
        await dial("slow.example", 80, Allowance([]), asyncio.Protocol, tls=None, timeout_s=0.05)

    with pytest.raises(TimeoutError):
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
            transport, _ = await dial(
                "two.example",
                port,
                Allowance.from_text("127.0.0.0/8"),
                asyncio.Protocol,
                tls=None,
                timeout_s=60.0,
            )
            peer = transport.get_extra_info("peername")
            transport.close()
            assert asked.count("two.example") == 1
            return str(peer[0])

    assert asyncio.run(use()) == "127.0.0.1"


def test_a_host_entry_never_opens_a_metadata_address() -> None:
    """Who answers for an opened name could point it at the machine's credentials."""
    metadata = ipaddress.ip_address("169.254.169.254")
    assert not Allowance(["billing.internal"]).covers("billing.internal", metadata)
    assert Allowance(["169.254.169.254"]).covers("billing.internal", metadata)


def test_a_name_that_is_rebound_between_calls_is_refused() -> None:
    """The resolver answers an open address first and a closed one later: the check and the
    connection use one answer, and each new connection is checked again."""
    answers = iter(["127.0.0.1", "169.254.169.254"])

    async def use() -> None:
        loop = asyncio.get_running_loop()

        async def rebinding(host: str, port: int, **more: Any) -> list[tuple[Any, ...]]:
            return list(await answer(next(answers))(host, port, **more))

        async with serving(framed(lambda _: json_reply("in"))) as port, opened() as http:
            loop.getaddrinfo = rebinding  # type: ignore[method-assign]
            url = f"http://rebind.example:{port}/"
            assert (await call(http.request, {"url": url, "method": "HEAD"})).output is None
            # HEAD closes its connection; the next call dials again.
            await call(http.request, {"url": url})

    with pytest.raises(TerminalError, match=r"169\.254\.169\.254"):
        asyncio.run(use())
    assert next(answers, None) is None


def test_a_name_without_an_address_is_tried_again() -> None:
    async def use() -> None:
        asyncio.get_running_loop().getaddrinfo = answer()  # type: ignore[method-assign]
        await checked_addresses("nothing.example", 80, Allowance([]))

    with pytest.raises(RetryableError) as caught:
        asyncio.run(use())
    assert caught.value.reason == "DNS_FAILED"


@in_loop
async def test_a_host_with_a_fixed_address_is_never_resolved() -> None:
    open_ = Allowance((), {"Billing.internal.": "127.0.0.9"})
    assert await checked_addresses("billing.INTERNAL", 80, open_) == ["127.0.0.9"]
    with pytest.raises(TerminalError, match="not on the public internet"):
        await checked_addresses("127.0.0.9", 80, open_)


def test_a_fixed_address_that_is_none_names_its_place(tmp_path: Path) -> None:
    (tmp_path / "components.yaml").write_text("http: {hosts: {a: nowhere}}", encoding="utf-8")
    section = configuration.load({"BEND_HOME": str(tmp_path)}).section("http")
    with pytest.raises(ConfigurationError, match=r"http\.hosts: 'nowhere'"):
        read_allowance({}, section)
