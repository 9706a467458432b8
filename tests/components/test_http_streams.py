"""Bodies in pieces, times by phase, and servers that break the protocol."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bend import RetryableError, TerminalError
from bend_executors.http.events import EVENT_BYTES_MAX, Events, Lines, Splitter, Text
from bend_executors.http.wire import Wire
from tests.components.calls import Call, call
from tests.components.http_server import opened, read_request, serving
from tests.kit.loops import eventually

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def answering(*parts: bytes, then: asyncio.Event | None = None) -> Any:
    """Return what answers each request with these bytes, the rest after an event, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for at, part in enumerate(parts):
            if at and then is not None:
                await then.wait()
            writer.write(part)
            await writer.drain()

    return serve


async def get(serve: Any, **inputs: Any) -> Call:
    async with serving(serve) as port, opened() as http:
        return await call(http.request, {"url": f"http://127.0.0.1:{port}/"} | inputs)


def test_events_are_partial_outputs_while_the_stream_is_open() -> None:
    """The second event is sent only after the first one was seen: nothing waits for the end."""

    async def use() -> Call:
        seen = asyncio.Event()

        class Watching(Call):
            def __init__(self) -> None:
                super().__init__()
                self.partials = Told(seen)

        class Told(list[Any]):
            def __init__(self, event: asyncio.Event) -> None:
                super().__init__()
                self._event = event

            def append(self, value: Any) -> None:
                super().append(value)
                self._event.set()

        first = SSE + chunk(b'event: token\ndata: {"text": "Hel"}\nid: 1\n\n')
        rest = (
            chunk(b"data: lo\ndata: you\n\ndata: [DONE]\n\n") + chunk(b"data: cut") + b"0\r\n\r\n"
        )
        serve = answering(first, rest, then=seen)
        async with serving(serve) as port, opened() as http:
            return await call(
                http.request, {"url": f"http://127.0.0.1:{port}/"}, sink=Watching(), timeout_s=60
            )

    made = asyncio.run(use())
    expected = [
        {"event": "token", "data": {"text": "Hel"}, "id": "1"},
        {"event": "message", "data": "lo\nyou", "id": "1"},
        {"event": "message", "data": "[DONE]", "id": "1"},
    ]
    assert list(made.partials) == expected
    assert made.output == expected


@pytest.mark.parametrize(("collect", "expected"), [("last", {"n": 2}), ("count", 2)])
def test_lines_of_json_are_partial_outputs(collect: str, expected: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n"
    made = asyncio.run(get(answering(head, b'{"n": 1}\n\n{"n"', b": 2}"), collect=collect))
    assert made.partials == [{"n": 1}, {"n": 2}]
    assert made.output == expected


def test_text_comes_in_pieces_only_when_asked() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
    parts = (head, chunk(b"caf\xc3"), chunk(b"\xa9"), b"0\r\n\r\n")
    whole = asyncio.run(get(answering(*parts)))
    assert (whole.output, whole.partials) == ({"text": "café"}, [])
    pieces = asyncio.run(get(answering(*parts), stream=True))
    assert "".join(piece["text"] for piece in pieces.partials) == "café"
    assert pieces.output == pieces.partials


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
def test_events_split_anywhere_are_the_same(ends: bytes) -> None:
    text = b"\xef\xbb\xbf: hello\nevent:a\ndata: 1\n\ndata\ndata: x\nretry: 5\n\n".replace(
        b"\n", ends
    )
    expected = [{"event": "a", "data": "1"}, {"event": "message", "data": "\nx"}]
    for size in range(1, len(text) + 1):
        events, found = Events(), []
        for at in range(0, len(text), size):
            found += events.feed(text[at : at + size])
        assert found + events.end() == expected, size


def feed(pieces: Any, data: bytes) -> None:
    """Give the same bytes ten times."""
    for _ in range(10):
        pieces.feed(data)


@pytest.mark.parametrize("pieces", [Events(), Lines()])
def test_an_endless_event_is_refused(pieces: Any) -> None:
    with pytest.raises(TerminalError) as caught:
        feed(pieces, b"data: " + b"x" * (EVENT_BYTES_MAX // 4))
    assert caught.value.reason == "RESPONSE_TOO_LARGE"


def test_many_data_lines_are_one_event_and_bounded_together() -> None:
    with pytest.raises(TerminalError):
        feed(Events(), b"data: " + b"x" * (EVENT_BYTES_MAX // 4) + b"\n")


def test_pieces_of_text_are_small_and_lines_are_whole() -> None:
    assert [len(piece["text"]) for piece in Text("no such").feed(b"x" * 40_000)] == [
        16384, 16384, 7232]  # fmt: skip
    splitter = Splitter(cr=True)
    assert splitter.feed(b"a\r") == [b"a"]
    assert splitter.feed(b"\nb\n") == [b"b"]


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Read and never answer."""
    while await reader.read(1):
        pass


async def deaf(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Never even read."""
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("serve", "inputs", "phase"),
    [
        (silent, {"timeout_read": "50ms"}, "read"),
        (silent, {"timeout_total": "50ms"}, "total"),
        (deaf, {"timeout_write": "50ms", "method": "POST", "body": "x" * 30_000_000}, "write"),
        (answering(SSE + chunk(b"data: 1\n\n"), b"", then=asyncio.Event()),
         {"timeout_read": "80ms"}, "read"),
    ],
)  # fmt: skip
def test_each_phase_has_its_time(serve: Any, inputs: dict[str, Any], phase: str) -> None:
    with pytest.raises(RetryableError, match=f"{phase} timed out") as caught:
        asyncio.run(get(serve, **inputs))
    assert caught.value.reason == "HTTP_TIMEOUT"


def test_waiting_for_a_connection_has_its_time() -> None:
    async def use() -> None:
        async with serving(silent) as port, opened(connections_per_host_max=1) as http:
            url = f"http://127.0.0.1:{port}/"
            first = asyncio.create_task(call(http.request, {"url": url}))
            await eventually(lambda: http.stats()["connections"] == 1)
            with pytest.raises(RetryableError, match="pool timed out"):
                await call(http.request, {"url": url, "timeout_pool": "30ms"})
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert http.stats()["connections"] == 0

    asyncio.run(use())


def test_a_reader_that_is_slow_gets_all_of_a_large_body() -> None:
    body = b"x" * 3_000_000
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n\r\n"
    made = asyncio.run(get(answering(head.encode() + body), timeout_read="5s"))
    assert made.output == {"text": body.decode()}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 400_000,
        b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
)
def test_servers_that_break_the_protocol_fail_the_call(answer: bytes) -> None:
    with pytest.raises(RetryableError) as caught:
        asyncio.run(get(answering(answer), timeout_total="5s"))
    assert caught.value.reason == "HTTP_CONNECTION"


def test_interim_answers_are_no_answer() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    last = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n7"
    assert asyncio.run(get(answering(early + last))).output == 7


def test_a_second_answer_that_nobody_asked_for_ends_the_connection() -> None:
    """Else the next task would get the answer that was meant for this one."""
    one = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n"

    def twice(number: int) -> Callable[..., Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await read_request(reader) is not None:
                writer.write(one + b"1" + (one + b"2") * (number - 1))
                await writer.drain()

        return serve

    async def use(number: int) -> tuple[list[Any], int]:
        async with serving(twice(number)) as port, opened() as http:
            values = {"url": f"http://127.0.0.1:{port}/"}
            found = [(await call(http.request, values)).output for _ in range(3)]
            return found, http.stats()["connections"]

    assert asyncio.run(use(1)) == ([1, 1, 1], 1)
    assert asyncio.run(use(2)) == ([1, 1, 1], 0)


def test_a_code_is_the_reason_though_its_body_never_ends() -> None:
    head = b"HTTP/1.1 404 No\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\nno such"
    with pytest.raises(TerminalError) as caught:
        asyncio.run(get(answering(head)))
    assert caught.value.reason == "HTTP_404"
    assert caught.value.details == {"status_code": 404, "body": "no such"}


class Given(asyncio.Transport):
    """A transport that takes everything."""

    def write(self, data: Any) -> None:
        """Drop it."""

    def abort(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
        b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: t\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-A: b\r\ncontent-length: 5\r\n\r\nhello",
    ],
)
def test_an_answer_is_the_same_wherever_the_network_cuts_it(raw: bytes) -> None:
    async def read(cuts: tuple[int, ...]) -> tuple[int, bool, bytes, str]:
        wire = Wire(asyncio.get_running_loop())
        wire.connection_made(Given())
        sending = asyncio.ensure_future(
            wire.send(b"GET / HTTP/1.1\r\n\r\n", None, head_only=False, read_s=0, write_s=0)
        )
        await asyncio.sleep(0)
        for begin, end in zip((0, *cuts), (*cuts, len(raw)), strict=True):
            wire.data_received(raw[begin:end])
        await sending
        body = b""
        while (part := await wire.part()) is not None:
            body += part
        return wire.status, wire.reusable(), body, dict(wire.headers)["x-a"]

    async def all_cuts() -> None:
        for at in range(1, len(raw)):
            assert await read((at,)) == (200, True, b"hello", "b"), at
        assert await read(tuple(range(1, len(raw)))) == (200, True, b"hello", "b")

    asyncio.run(all_cuts())
