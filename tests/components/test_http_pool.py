"""Connections: kept, shared over HTTP/2, bounded, and given back whatever happens."""

import asyncio
import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from bend import RetryableError, TerminalError
from bend.errors import ConfigurationError
from bend_executors import configuration
from bend_executors.http import HttpComponent, options
from tests.components.calls import call
from tests.components.http_server import (
    Asked,
    Reply,
    framed,
    framed2,
    json_reply,
    opened,
    read_request,
    server_tls,
    serving,
)
from tests.kit.certificates import TestAuthority
from tests.kit.loops import eventually


async def many(http: HttpComponent, url: str, count: int, at_once: int, **more: Any) -> list[Any]:
    """Call `count` times, `at_once` in flight; return the outputs."""
    todo = iter(range(count))
    found: list[Any] = []

    async def work() -> None:
        for _ in todo:
            made = await call(http.request, {"url": url} | more)
            found.append(made.output)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return found


def test_five_thousand_calls_leave_nothing_behind() -> None:
    """Not connections, not waiting tasks, not circuits, and no memory."""

    async def use() -> None:
        async with serving(framed(lambda _: json_reply({"ok": 1}))) as port, opened() as http:
            url = f"http://127.0.0.1:{port}/"
            await many(http, url, 500, 16)
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            assert await many(http, url, 4500, 16) == [{"ok": 1}] * 4500
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            stats = http.stats()
            assert stats["connections"] == stats["idle"] <= 16
            assert stats["waiting"] == 0
            assert len(stats["circuits"]) == 1
            assert grown < 200_000, f"{grown} bytes"

    asyncio.run(use())


def test_connections_are_bounded_and_tasks_take_turns() -> None:
    open_now, most = 0, 0

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            await framed(lambda _: json_reply(1))(reader, writer)
        finally:
            open_now -= 1

    async def use() -> None:
        async with serving(counting) as port, opened(connections_per_host_max=3) as http:
            assert await many(http, f"http://127.0.0.1:{port}/", 60, 20) == [1] * 60
            assert most == 3

    asyncio.run(use())


def test_all_hosts_together_are_bounded_and_idle_ones_give_way() -> None:
    async def use() -> None:
        handler = framed(lambda _: json_reply(1))
        async with (
            serving(handler) as a,
            serving(handler) as b,
            serving(handler) as c,
            opened(connections_max=2) as http,
        ):
            for _ in range(3):
                for port in (a, b, c):
                    assert await many(http, f"http://127.0.0.1:{port}/", 4, 4) == [1] * 4
                    assert http.stats()["connections"] <= 2
            async with asyncio.TaskGroup() as group:
                for port in (a, b, c):
                    group.create_task(many(http, f"http://127.0.0.1:{port}/", 20, 5))
            assert http.stats()["connections"] <= 2
            assert http.stats()["hosts"] <= 2

    asyncio.run(use())


def test_an_idle_connection_that_its_server_closed_is_not_the_tasks_problem() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 204 X\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        # The next request arrives, and then the connection ends without an answer.
        await read_request(reader)

    async def use() -> None:
        async with serving(once) as port, opened() as http:
            for _ in range(4):
                await call(http.request, {"url": f"http://127.0.0.1:{port}/"})

    asyncio.run(use())


def test_idle_connections_are_closed_after_their_time() -> None:
    async def use() -> None:
        async with serving(framed(lambda _: json_reply(1))) as port, opened(idle_s=0.05) as http:
            await many(http, f"http://127.0.0.1:{port}/", 8, 4)
            await eventually(lambda: http.stats()["hosts"] == 0)
            assert http.stats()["connections"] == 0

    asyncio.run(use())


def test_cancelled_calls_give_their_connections_back() -> None:
    async def use() -> None:
        async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.read()

        async with serving(silent) as port, opened(connections_per_host_max=2) as http:
            values = {"url": f"http://127.0.0.1:{port}/"}
            calls = [asyncio.create_task(call(http.request, values)) for _ in range(6)]
            await eventually(lambda: http.stats()["waiting"] == 4)
            for one in calls:
                one.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert http.stats()["connections"] == http.stats()["waiting"] == 0
            assert http.stats()["hosts"] == 0

    asyncio.run(use())


def echo(asked: Asked) -> Reply:
    return json_reply({"path": asked.path, "size": len(asked.body)})


def test_http2_is_one_connection_for_all(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    tls = server_tls(*authority.issue(None), ["h2", "http/1.1"])

    async def use() -> None:
        async with (
            serving(framed2(echo), tls) as port,
            opened(ca_file=str(authority.ca)) as http,
        ):
            url = f"https://localhost:{port}/x?y=1"
            found = await many(http, url, 50, 10, method="POST", body="z" * 20_000)
            assert found == [{"path": "/x?y=1", "size": 20_000}] * 50
            assert http.stats()["connections"] == 1

    asyncio.run(use())


def test_an_http2_connection_that_its_server_closed_is_not_the_tasks_problem(
    tmp_path: Path,
) -> None:
    """Servers end idle connections, at a restart or after their own time."""
    authority = TestAuthority(tmp_path)
    tls = server_tls(*authority.issue(None), ["h2"])
    links = 0

    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal links
        links += 1
        await framed2(lambda asked: answer(asked, writer))(reader, writer)

    def answer(asked: Asked, writer: asyncio.StreamWriter) -> Reply:
        if asked.path == "/lost":
            # The request has arrived, and the connection ends without an answer.
            if links == 1:
                writer.transport.abort()
            return json_reply("again")
        if asked.path == "/last":
            asyncio.get_running_loop().call_soon(writer.close)
        return json_reply(1)

    async def use() -> None:
        async with serving(short, tls) as port, opened(ca_file=str(authority.ca)) as http:
            url = f"https://localhost:{port}"
            assert await many(http, f"{url}/", 3, 1) == [1] * 3
            assert await many(http, f"{url}/lost", 1, 1) == ["again"]
            assert links == 2
            for _ in range(3):
                assert await many(http, f"{url}/last", 1, 1) == [1]
            assert http.stats()["connections"] <= 1

    asyncio.run(use())


def test_an_http2_server_that_never_answers_or_dies_fails_the_call(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    tls = server_tls(*authority.issue(None), ["h2"])

    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def dying(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async def use(serve: Any) -> str:
        async with serving(serve, tls) as port, opened(ca_file=str(authority.ca)) as http:
            values = {"url": f"https://localhost:{port}/", "timeout_read": "100ms"}
            with pytest.raises(RetryableError) as caught:
                await call(http.request, values)
            return caught.value.reason

    assert asyncio.run(use(mute)) == "HTTP_TIMEOUT"
    assert asyncio.run(use(dying)) == "HTTP_CONNECTION"


def test_tls_without_http2_is_http1(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    tls = server_tls(*authority.issue(None), ["http/1.1"])

    async def use() -> None:
        async with (
            serving(framed(echo), tls) as port,
            opened(ca_file=str(authority.ca)) as http,
        ):
            found = await many(http, f"https://localhost:{port}/", 20, 5)
            assert found == [{"path": "/", "size": 0}] * 20

    asyncio.run(use())


def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    tls = server_tls(*TestAuthority(tmp_path).issue(None), ["h2"])

    async def use() -> None:
        async with serving(framed2(echo), tls) as port, opened() as http:
            await call(http.request, {"url": f"https://localhost:{port}/"})

    with pytest.raises(TerminalError) as caught:
        asyncio.run(use())
    assert caught.value.reason == "CERTIFICATE_REFUSED"


def test_plain_http_behind_an_https_url_is_a_broken_connection() -> None:
    async def use() -> None:
        async with serving(framed(echo)) as port, opened() as http:
            await call(http.request, {"url": f"https://localhost:{port}/"})

    with pytest.raises(RetryableError) as caught:
        asyncio.run(use())
    assert caught.value.reason == "HTTP_CONNECTION"


def test_a_host_that_never_ends_its_handshake_costs_each_task_its_own_time_only() -> None:
    """Tasks wait for each other's handshake; ten times their time would be a pile-up."""

    async def mute(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async def use() -> None:
        async with serving(mute) as port, opened() as http:
            # On a busy machine all takes longer: then the times to compare are longer ones.
            for connect_ms in (200, 4000):
                values = {
                    "url": f"https://localhost:{port}/",
                    "timeout_connect": f"{connect_ms}ms",
                }
                begin = asyncio.get_running_loop().time()
                calls = [call(http.request, values) for _ in range(10)]
                failed = await asyncio.gather(*calls, return_exceptions=True)
                assert [getattr(one, "reason", one) for one in failed] == ["HTTP_TIMEOUT"] * 10
                assert http.stats()["connections"] == http.stats()["hosts"] == 0
                times = (asyncio.get_running_loop().time() - begin) * 1000 / connect_ms
                if times < 7.5:
                    break
            assert times < 7.5

    asyncio.run(use())


def section(tmp_path: Path, text: str) -> configuration.Section:
    (tmp_path / "components.yaml").write_text(text, encoding="utf-8")
    return configuration.load({"BEND_HOME": str(tmp_path)}).section("http")


def test_the_operators_settings_are_read(tmp_path: Path) -> None:
    text = "http: {allow: [10.0.0.0/8], response_bytes_max: 10, breaker: {failures: 2, ratio: 1}}\n"
    found = options.read({"BEND_HTTP_ALLOW": "a.internal"}, section(tmp_path, text))
    assert found.allow.hosts == {"a.internal"}
    assert [str(network) for network in found.allow.networks] == ["10.0.0.0/8"]
    assert found.response_bytes_max == 10
    assert (found.breaker.failures, found.breaker.ratio) == (2, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http: {connections_max: 0}\n", "connections_max: at least 1"),
        ("http: {idle_s: 0}\n", "idle_s: more than 0"),
        ("http: {breaker: {ratio: 2}}\n", r"breaker\.ratio: more than 0"),
        ("http: {breaker: {colour: red}}\n", "unknown key 'colour'"),
    ],
)
def test_wrong_settings_name_their_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        options.read({}, section(tmp_path, text))


def test_the_settings_in_the_readme_are_the_defaults(tmp_path: Path) -> None:
    from tests.kit.documents import blocks

    root = Path(__file__).resolve().parents[2]
    readme = root / "executors" / "bend_executors" / "http" / "README.md"
    [shown] = [block for block in blocks(readme) if block.title == "components.json"]
    found = section(tmp_path, shown.text)
    read = options.read({}, found)
    found.done()
    usual = options.Options()
    for name in options.Options.__slots__:
        if name != "allow":
            assert getattr(read, name) == getattr(usual, name), name
