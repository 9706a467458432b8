"""The http component against a real server on loopback, which the test's configuration opens."""

import asyncio
import gzip
import zlib
from typing import Any

import orjson
import pytest

from bend import RetryableError, TerminalError
from bend.components import component_of
from bend_executors.http import HttpComponent
from bend_executors.http.durations import retry_after_s, seconds
from bend_executors.http.target import parse, shown
from bend_executors.reach import Allowance
from tests.components.calls import call, documented
from tests.components.http_server import (
    LOOPBACK,
    Asked,
    Handler,
    Reply,
    framed,
    json_reply,
    opened,
    serving,
)


def ask(handler: Handler, path: str = "/", *, allow: Allowance = LOOPBACK, **inputs: Any) -> Any:
    """Call the component once on a fresh server; return its output."""
    bounds = inputs.pop("options", {})

    async def use() -> Any:
        async with serving(framed(handler)) as port, opened(allow=allow, **bounds) as http:
            values = {"url": f"http://127.0.0.1:{port}{path}"} | inputs
            return (await call(http.request, values)).output

    return asyncio.run(use())


def refusal(handler: Handler, path: str = "/", **inputs: Any) -> TerminalError | RetryableError:
    """Call the component once; return the error that it raised."""
    with pytest.raises((TerminalError, RetryableError)) as caught:
        ask(handler, path, **inputs)
    assert isinstance(caught.value, TerminalError | RetryableError)
    return caught.value


def test_a_json_body_goes_and_comes_parsed() -> None:
    def handler(asked: Asked) -> Reply:
        return json_reply(
            {
                "method": asked.method,
                "path": asked.path,
                "type": asked.headers["content-type"],
                "key": asked.headers["idempotency-key"],
                "body": orjson.loads(asked.body),
            }
        )

    got = ask(handler, "/v1/x", method="POST", query={"q": "a b"}, body={"n": 1, "big": 2**60})
    assert got == {
        "method": "POST",
        "path": "/v1/x?q=a+b",
        "type": "application/json",
        "key": "default/e-1/t/-1/0",
        "body": {"n": 1, "big": 2**60},
    }


NO_TEXT = {"base64": "YQ==", "content_type": "text/plain"}


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("text/plain; charset=latin-1", b"caf\xe9", {"text": "café"}),
        ("text/plain; charset=windows-1252", b"\x80", {"text": "€"}),
        ("text/plain; charset=Shift_JIS", b"\x82\xa0", {"text": "あ"}),
        # Python has codecs by these names, and they are no charsets.
        ("text/plain; charset=punycode", b"a", NO_TEXT),
        ("text/plain; charset=idna", b"a", NO_TEXT),
        ("text/plain; charset=undefined", b"a", NO_TEXT),
        ("text/plain; charset=zip", b"a", NO_TEXT),
        ("image/png", b"\x00\x01", {"base64": "AAE=", "content_type": "image/png"}),
        ("application/problem+json", b'{"a":1}', {"a": 1}),
        ("text/plain", b"", None),
    ],
)
def test_bodies_by_their_type(kind: str, data: bytes, expected: Any) -> None:
    assert ask(lambda _: (200, {"content-type": kind}, data)) == expected


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzip.compress(b'{"a":1}')),
        ("gzip", gzip.compress(b'{"a"') + gzip.compress(b":1}")),
        ("deflate", zlib.compress(b'{"a":1}')),
        ("deflate", zlib.compress(b'{"a":1}')[2:-4]),
        ("identity", b'{"a":1}'),
    ],
)
def test_compressed_bodies_are_unpacked(coding: str, data: bytes) -> None:
    headers = {"content-type": "application/json", "content-encoding": coding}
    assert ask(lambda _: (200, headers, data)) == {"a": 1}


def test_a_small_body_that_unpacks_to_a_huge_one_is_refused() -> None:
    bomb = gzip.compress(b"0" * 20_000_000)
    headers = {"content-type": "text/plain", "content-encoding": "gzip"}
    error = refusal(lambda _: (200, headers, bomb), response_bytes_max=100_000)
    assert error.reason == "RESPONSE_TOO_LARGE"


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("br", b"what is this"),
        ("gzip", b"what is this"),
        ("gzip", gzip.compress(b"cut")[:-1]),
        ("gzip", gzip.compress(b"garbage follows") + b"???"),
        ("gzip", gzip.compress(b"") * 1000),
    ],
)
def test_a_body_that_cannot_be_unpacked_says_so(coding: str, data: bytes) -> None:
    headers = {"content-type": "text/plain", "content-encoding": coding}
    assert refusal(lambda _: (200, headers, data)).reason == "INVALID_RESPONSE"


def test_sizes_are_bounded_both_ways() -> None:
    big = b'"' + b"x" * 5000 + b'"'
    kind = {"content-type": "application/json"}
    assert refusal(lambda _: (200, kind, big), response_bytes_max=1000).reason == (
        "RESPONSE_TOO_LARGE"
    )
    bounds = {"request_bytes_max": 1000, "response_bytes_max": 6000}
    assert len(ask(lambda _: (200, kind, big), response_bytes_max=99_999, options=bounds)) == 5000
    error = refusal(lambda _: json_reply(1), method="POST", body="x" * 1001, options=bounds)
    assert error.reason == "REQUEST_TOO_LARGE"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (500, RetryableError),
        (503, RetryableError),
        (408, RetryableError),
        (425, RetryableError),
        (429, RetryableError),
        (404, TerminalError),
        (400, TerminalError),
        (304, TerminalError),
    ],
)
def test_other_codes_fail_with_their_number(code: int, kind: type[Exception]) -> None:
    error = refusal(lambda _: json_reply({"why": "no"}, code) if code != 304 else (304, {}, b""))
    assert type(error) is kind
    assert error.reason == f"HTTP_{code}"
    assert isinstance(error.details, dict)
    assert error.details["status_code"] == code


def test_retry_after_is_passed_on() -> None:
    assert refusal(lambda _: (503, {"retry-after": "7"}, b"")).retry_after_s == 7.0
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after_s("1e300") == 86_400.0
    assert retry_after_s("nan") is None
    assert retry_after_s(f"Thu, 01 Jan {'9' * 20} 00:00:00 GMT") is None
    assert retry_after_s("soon") is None


def test_a_head_request_has_no_body_and_the_next_call_works() -> None:
    async def use() -> None:
        async with serving(framed(lambda _: json_reply(7))) as port, opened() as http:
            url = f"http://127.0.0.1:{port}/"
            assert (await call(http.request, {"url": url, "method": "HEAD"})).output is None
            assert (await call(http.request, {"url": url})).output == 7

    asyncio.run(use())


def test_a_redirect_into_the_machine_is_refused() -> None:
    """A public service must not be able to send a task to a metadata address."""
    location = {"location": "http://169.254.169.254/latest/meta-data"}
    assert refusal(lambda _: (302, location, b"")).reason == "ADDRESS_REFUSED"


@pytest.mark.parametrize(
    "location",
    ["http://user:pw@127.0.0.1/", "ftp://127.0.0.1/", "http://:80", "//\\evil", "http://a b/"],
)
def test_a_redirect_to_a_hidden_host_is_refused(location: str) -> None:
    error = refusal(lambda _: (302, {"location": location}, b""))
    assert error.reason == "REDIRECT_REFUSED"


@pytest.mark.parametrize("location", ["http://0x7f000001/", "http://2130706433/", "http://127.1/"])
def test_a_redirect_in_odd_notation_is_refused(location: str) -> None:
    assert refusal(lambda _: (302, {"location": location}, b"")).reason == "ADDRESS_REFUSED"


def test_endless_redirects_end() -> None:
    assert refusal(lambda _: (302, {"location": "/again"}, b"")).reason == "TOO_MANY_REDIRECTS"


@pytest.mark.parametrize(("code", "method"), [(302, "GET"), (303, "GET"), (307, "POST")])
def test_a_redirect_keeps_or_drops_the_body_as_the_standard_says(code: int, method: str) -> None:
    seen: list[Asked] = []

    def handler(asked: Asked) -> Reply:
        seen.append(asked)
        return (code, {"location": "/b"}, b"") if asked.path == "/a" else json_reply(1)

    assert ask(handler, "/a", method="POST", body={"x": 1}) == 1
    assert seen[1].method == method
    assert bool(seen[1].body) == (method == "POST")
    assert ("content-type" in seen[1].headers) == (method == "POST")


def test_a_redirect_leaves_credentials_behind() -> None:
    """A service that redirects to another host must not get the first one's token."""
    seen: list[dict[str, str]] = []

    def handler(asked: Asked) -> Reply:
        seen.append(asked.headers)
        if asked.path == "/first":
            port = asked.headers["host"].rpartition(":")[2]
            return 302, {"location": f"http://localhost:{port}/second"}, b""
        return json_reply({"ok": True})

    secret = {"Authorization": "Bearer secret", "Cookie": "a=b", "X-Api-Key": "k", "Accept": "a/b"}
    assert ask(handler, "/first", headers=secret) == {"ok": True}
    assert seen[0]["authorization"] == "Bearer secret"
    assert seen[0]["x-api-key"] == "k"
    assert not {"authorization", "cookie", "x-api-key"} & seen[1].keys()
    assert seen[1]["accept"] == "a/b"


def test_user_and_password_of_a_url_become_a_header() -> None:
    async def use() -> Any:
        async with serving(framed(lambda a: json_reply(a.headers))) as port, opened() as http:
            url = f"http://ada:p%40w@127.0.0.1:{port}/"
            return (await call(http.request, {"url": url})).output

    assert asyncio.run(use())["authorization"] == "Basic YWRhOnBAdw=="


def test_loopback_is_refused_by_default() -> None:
    assert refusal(lambda _: json_reply(1), allow=Allowance([])).reason == "ADDRESS_REFUSED"


def test_a_refused_connection_is_tried_again() -> None:
    async def use() -> None:
        async with serving(framed(lambda _: json_reply(1))) as port:
            pass
        async with opened() as http:
            await call(http.request, {"url": f"http://127.0.0.1:{port}/"})

    with pytest.raises(RetryableError) as caught:
        asyncio.run(use())
    assert caught.value.reason == "HTTP_CONNECTION"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://x/",
        "no-url",
        "http://",
        "http://a\r\nb/",
        "http://a/\r\nhost: b",
        "http://good.example\\@127.0.0.1/",
        "http://good.example\\.evil.example/",
        "http://a@b@c/",
        "http://a:0/",
        "http://a:99999/",
        "http://[::1/",
        "http://a b/",
        "http://a%00b/",
    ],
)
def test_only_http_urls(url: str) -> None:
    with pytest.raises(TerminalError) as caught:
        asyncio.run(call(HttpComponent().request, {"url": url}))
    assert caught.value.reason == "INVALID_INPUT"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nhost: evil"),
        ("x", "a\nb"),
        ("x", "a\0"),
        ("x\r\ny", "a"),
        ("x y", "a"),
        ("", "a"),
        ("Host", "evil"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "upgrade"),
        ("Expect", "100-continue"),
    ],
)
def test_headers_that_would_smuggle_a_request_are_refused(name: str, value: str) -> None:
    error = refusal(lambda _: json_reply(1), headers={name: value})
    assert error.reason == "INVALID_INPUT"
    assert "evil" not in error.message


def test_paths_and_queries_are_encoded_once() -> None:
    target = parse("http://Straße.example/a b/ü?q=x y&z=%20#part", {"n": True, "k": "a&b"})
    assert target.host == "xn--strae-oqa.example"
    assert target.path == "/a%20b/%C3%BC?q=x%20y&z=%20&n=true&k=a%26b"


def test_a_broken_json_body_says_so() -> None:
    error = refusal(lambda _: (200, {"content-type": "application/json"}, b'{"a":'))
    assert error.reason == "INVALID_RESPONSE"


def test_long_numbers_keep_their_digits() -> None:
    body = b'{"id": 12345678901234567890123, "n": 1}'
    kind = {"content-type": "application/json"}
    got = ask(lambda _: (200, kind, body))
    assert got == {"id": 12345678901234567890123, "n": 1}
    assert ask(lambda asked: (200, kind, asked.body), method="POST", body=got) == got


def test_errors_hide_what_may_be_secret() -> None:
    url = "ftp://ada:hunter2@x.example/p?token=hunter3#f"
    with pytest.raises(TerminalError) as caught:
        asyncio.run(call(HttpComponent().request, {"url": url}))
    assert "hunter" not in str(caught.value)
    assert shown("https://ada:pw@[::1]:8/a/b@c?k=v") == "https://[::1]:8/a/b@c"
    assert parse("https://ada:pw@[::1]:8/a/b@c?k=v").shown == "https://[::1]:8/a/b@c"


@pytest.mark.parametrize(
    ("text", "expected"), [(3, 3.0), ("500ms", 0.5), ("5s", 5.0), ("1.5m", 90.0), ("7", 7.0)]
)
def test_a_timeout_is_a_number_or_a_duration(text: Any, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["soon", "-1", "", 0, -1, float("nan"), float("inf")])
def test_a_wrong_timeout_says_so(text: Any) -> None:
    with pytest.raises(TerminalError, match="timeout_read") as caught:
        seconds(text, "timeout_read")
    assert caught.value.reason == "INVALID_INPUT"


def test_the_examples_of_the_readme_run() -> None:
    tasks = documented("http")
    assert len(tasks) >= 3

    async def use(port: int, task: dict[str, Any]) -> None:
        values = {k: v for k, v in task.items() if k not in {"id", "type", "timeout"}}
        path = values["url"].split("/", 3)[3]
        values["url"] = f"http://127.0.0.1:{port}/{path}"
        async with opened() as http:
            made = await call(http.request, values)
        assert made.output is not None
        assert component_of(http.request).version == "1.1.0"

    async def all_of_them() -> None:
        def handler(asked: Asked) -> Reply:
            if "events" in asked.path:
                return 200, {"content-type": "text/event-stream"}, b'data: {"n": 1}\n\n'
            return json_reply({"asked": asked.path})

        async with serving(framed(handler)) as port:
            for task in tasks:
                assert task["type"] == "http"
                await use(port, task)

    asyncio.run(all_of_them())
