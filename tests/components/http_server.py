"""A server for tests of the http component: HTTP/1.1, or HTTP/2 behind TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h2.connection
import h2.events
import orjson
from h2.config import H2Configuration

from bend_executors.http import HttpComponent, Options
from bend_executors.reach import Allowance

LOOPBACK = Allowance(["127.0.0.0/8", "::1/128"])


class Asked(NamedTuple):
    """A request that came; names of headers are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Reply = tuple[int, dict[str, str], bytes]
Handler = Callable[[Asked], Reply]
Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def json_reply(value: Any, code: int = 200) -> Reply:
    """Return a JSON answer."""
    return code, {"content-type": "application/json"}, orjson.dumps(value)


async def read_request(reader: asyncio.StreamReader) -> Asked | None:
    """Read one request; None when the connection ended."""
    line = await reader.readline()
    if not line:
        return None
    method, path, _ = line.decode().split(" ", 2)
    headers: dict[str, str] = {}
    while (raw := (await reader.readline()).decode().strip()) != "":
        key, _, value = raw.partition(":")
        headers[key.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body)


def framed(handler: Handler) -> Raw:
    """Return what serves a handler with content-length, connections kept."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (asked := await read_request(reader)) is not None:
            code, extra, data = handler(asked)
            extra = {"content-length": str(len(data))} | extra
            head = "".join(f"{k}: {v}\r\n" for k, v in extra.items())
            data = b"" if asked.method == "HEAD" else data
            writer.write(f"HTTP/1.1 {code} X\r\n{head}\r\n".encode() + data)
            await writer.drain()

    return serve


@asynccontextmanager
async def serving(serve: Raw, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a free loopback port; gives the port."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # Cancelled when the test's loop ends with connections that a client kept.
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        # Not `wait_closed`: since Python 3.12 it waits for the connections that a client keeps.
        server.close()


@asynccontextmanager
async def opened(**options: Any) -> AsyncIterator[HttpComponent]:
    """Give a component that may reach loopback; its connections are closed after."""
    made = HttpComponent(Options(**({"allow": LOOPBACK} | options)))
    try:
        yield made
    finally:
        await made.close()


def server_tls(certificate: Path, key: Path, protocols: list[str]) -> ssl.SSLContext:
    """Return a server's TLS context that offers these protocols by ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(protocols)
    return context


def framed2(handler: Handler) -> Raw:
    """Return what serves a handler over HTTP/2."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = h2.connection.H2Connection(
            H2Configuration(client_side=False, header_encoding="utf-8")
        )
        link.initiate_connection()
        writer.write(link.data_to_send())
        asked: dict[int, tuple[dict[str, str], bytearray]] = {}
        while data := await reader.read(65536):
            for event in link.receive_data(data):
                number = getattr(event, "stream_id", 0)
                if isinstance(event, h2.events.RequestReceived):
                    asked[number] = (dict(event.headers), bytearray())  # type: ignore[arg-type]
                elif isinstance(event, h2.events.DataReceived):
                    asked[number][1].extend(event.data)
                    link.acknowledge_received_data(event.flow_controlled_length, number)
                elif isinstance(event, h2.events.StreamEnded):
                    headers, body = asked.pop(number)
                    method, path = headers[":method"], headers[":path"]
                    code, extra, sent = handler(Asked(method, path, headers, bytes(body)))
                    link.send_headers(number, [(":status", str(code)), *extra.items()])
                    link.send_data(number, sent, end_stream=True)
            writer.write(link.data_to_send())
            await writer.drain()

    return serve
