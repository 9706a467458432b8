"""The http component against a real server on loopback, which the test's configuration opens."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from bend import Context, RetryableError, TerminalError
from bend_executors.http import HttpComponent
from bend_executors.http.component import retry_after_s, seconds, shown
from tests.components.calls import Call

Reply = tuple[int, dict[str, str], bytes]
Handler = Callable[[str, str, dict[str, str], bytes], Reply]


def context(timeout_s: float = 30.0) -> Context:
    return Context(Call(), execution_id="e-1", task="call", timeout_s=timeout_s)


async def with_server(handler: Handler, use: Callable[[int], Awaitable[Any]]) -> Any:
    """Serve HTTP/1.1 on a free loopback port while `use(port)` runs."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ", 2)
                headers: dict[str, str] = {}
                while (raw := (await reader.readline()).decode().strip()) != "":
                    key, _, value = raw.partition(":")
                    headers[key.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                code, extra, data = handler(method, path, headers, body)
                extra = {"content-length": str(len(data))} | extra
                head = "".join(f"{k}: {v}\r\n" for k, v in extra.items())
                writer.write(f"HTTP/1.1 {code} X\r\n{head}\r\n".encode() + data)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        return await use(server.sockets[0].getsockname()[1])
    finally:
        # Not `wait_closed`: since Python 3.12 it waits for the connections that a client keeps.
        server.close()


def call(handler: Handler, path: str = "/", allow: str = "127.0.0.0/8", **inputs: Any) -> Any:
    """Call the component once on a fresh server."""
    component = HttpComponent(allow)

    async def use(port: int) -> Any:
        return await component.request(context(), f"http://127.0.0.1:{port}{path}", **inputs)

    return asyncio.run(with_server(handler, use))


def json_reply(value: Any, code: int = 200) -> Reply:
    return code, {"content-type": "application/json"}, orjson.dumps(value)


def test_a_json_body_goes_and_comes_parsed() -> None:
    def handler(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        return json_reply(
            {
                "method": method,
                "path": path,
                "type": headers["content-type"],
                "key": headers["idempotency-key"],
                "body": orjson.loads(body),
            }
        )

    got = call(handler, "/v1/x", method="POST", query={"q": "a b"}, body={"n": 1, "big": 2**60})
    assert got == {
        "method": "POST",
        "path": "/v1/x?q=a+b",
        "type": "application/json",
        "key": "default/e-1/call/-1/0",
        "body": {"n": 1, "big": 2**60},
    }


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("text/plain; charset=latin-1", b"caf\xe9", {"text": "café"}),
        ("image/png", b"\x00\x01", {"base64": "AAE=", "content_type": "image/png"}),
        ("application/problem+json", b'{"a":1}', {"a": 1}),
        ("text/plain", b"", None),
    ],
)  # fmt: skip
def test_bodies_by_their_type(kind: str, data: bytes, expected: Any) -> None:
    assert call(lambda *_: (200, {"content-type": kind}, data)) == expected


def test_compressed_bodies_are_unpacked() -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert call(lambda *_: (200, headers, gzip.compress(b'{"a":1}'))) == {"a": 1}


@pytest.mark.parametrize(("code", "kind"), [(500, RetryableError), (503, RetryableError),
                         (408, RetryableError), (429, RetryableError), (404, TerminalError),
                         (400, TerminalError), (304, TerminalError)])  # fmt: skip
def test_other_codes_fail_with_their_number(code: int, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        call(lambda *_: json_reply({"why": "no"}, code))
    assert caught.value.reason == f"HTTP_{code}"  # type: ignore[attr-defined]
    assert caught.value.details["status_code"] == code  # type: ignore[attr-defined]


def test_retry_after_is_passed_on() -> None:
    with pytest.raises(RetryableError) as caught:
        call(lambda *_: (503, {"retry-after": "7"}, b""))
    assert caught.value.retry_after_s == 7.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after_s("soon") is None


def test_a_redirect_into_the_machine_is_refused() -> None:
    """A public service must not be able to send a task to a metadata address."""
    with pytest.raises(TerminalError) as caught:
        call(lambda *_: (302, {"location": "http://169.254.169.254/latest/meta-data"}, b""))
    assert caught.value.reason == "ADDRESS_REFUSED"


def test_loopback_is_refused_by_default() -> None:
    with pytest.raises(TerminalError) as caught:
        call(lambda *_: json_reply(1), allow="")
    assert caught.value.reason == "ADDRESS_REFUSED"


def test_endless_redirects_end() -> None:
    with pytest.raises(TerminalError) as caught:
        call(lambda *_: (302, {"location": "/again"}, b""))
    assert caught.value.reason == "TOO_MANY_REDIRECTS"


def test_a_refused_connection_is_tried_again() -> None:
    component = HttpComponent("127.0.0.0/8")

    async def closed_port() -> int:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = int(server.sockets[0].getsockname()[1])
        server.close()
        await server.wait_closed()
        return port

    async def use() -> None:
        await component.request(context(), f"http://127.0.0.1:{await closed_port()}/")

    with pytest.raises(RetryableError) as caught:
        asyncio.run(use())
    assert caught.value.reason == "HTTP_CONNECTION"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://x/", "no-url", "http://"])
def test_only_http_urls(url: str) -> None:
    with pytest.raises(TerminalError) as caught:
        asyncio.run(HttpComponent().request(context(), url))
    assert caught.value.reason == "INVALID_INPUT"


def test_a_broken_json_body_says_so() -> None:
    with pytest.raises(TerminalError) as caught:
        call(lambda *_: (200, {"content-type": "application/json"}, b'{"a":'))
    assert caught.value.reason == "INVALID_RESPONSE"


def test_long_numbers_keep_their_digits() -> None:
    body = b'{"id": 12345678901234567890123, "n": 1}'
    got = call(lambda *_: (200, {"content-type": "application/json"}, body))
    assert got == {"id": 12345678901234567890123, "n": 1}
    sent = call(lambda *args: (200, {"content-type": "application/json"}, args[3]), method="POST",
                body=got)  # fmt: skip
    assert sent == got


def test_errors_hide_what_may_be_secret() -> None:
    component = HttpComponent("")
    with pytest.raises(TerminalError) as caught:
        asyncio.run(component.request(context(), "ftp://ada:hunter2@x.example/p?token=hunter3#f"))
    assert "hunter" not in str(caught.value)
    assert shown("https://ada:pw@[::1]:8/a/b@c?k=v") == "https://[::1]:8/a/b@c"


@pytest.mark.parametrize(
    ("text", "expected"), [(3, 3.0), ("500ms", 0.5), ("5s", 5.0), ("1.5m", 90.0), ("7", 7.0)]
)
def test_a_connect_timeout_is_a_number_or_a_duration(text: Any, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["soon", "-1", "", 0, -1, float("nan"), float("inf")])
def test_a_wrong_connect_timeout_says_so(text: Any) -> None:
    with pytest.raises(TerminalError) as caught:
        seconds(text)
    assert caught.value.reason == "INVALID_INPUT"


def test_a_redirect_leaves_credentials_behind() -> None:
    """A service that redirects to another host must not get the first one's token."""
    seen: list[dict[str, str]] = []

    def handler(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        seen.append(headers)
        if path == "/first":
            port = headers["host"].rpartition(":")[2]
            return 302, {"location": f"http://localhost:{port}/second"}, b""
        return json_reply({"ok": True})

    got = call(
        handler, "/first", "127.0.0.0/8,localhost", headers={"authorization": "Bearer secret"}
    )
    assert got == {"ok": True}
    assert seen[0]["authorization"] == "Bearer secret"
    assert "authorization" not in seen[1]
