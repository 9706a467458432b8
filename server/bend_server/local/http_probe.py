"""The smallest HTTP client that the supervisor needs: one request, one bounded answer."""

import asyncio
import ssl
from pathlib import Path
from typing import NamedTuple

ANSWER_BYTES_MAX = 4 * 1024 * 1024


class Answer(NamedTuple):
    """Status and body; status 0: nobody answered in time."""

    status: int
    body: bytes


NOBODY = Answer(0, b"")


async def ask(
    path: str,
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    socket: Path | None = None,
    method: str = "GET",
    timeout_s: float = 2.0,
) -> Answer:
    """Ask a server on this machine.

    Args:
        path: path and query.
        port: its port on 127.0.0.1.
        tls: for HTTPS.
        socket: a unix socket instead of a port.
        method: GET or POST, without a body.
        timeout_s: seconds, for everything.

    Returns:
        The answer; NOBODY when there was none in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            if socket is not None:
                reader, writer = await asyncio.open_unix_connection(str(socket))
            else:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=tls, server_hostname="127.0.0.1" if tls else None
                )
            try:
                writer.write(
                    f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n"
                    "connection: close\r\n\r\n".encode()
                )
                await writer.drain()
                return await _read(reader)
            finally:
                writer.close()
    except (OSError, TimeoutError, ssl.SSLError, ValueError, IndexError):
        return NOBODY


async def _read(reader: asyncio.StreamReader) -> Answer:
    content = bytearray()
    while len(content) < ANSWER_BYTES_MAX:
        more = await reader.read(65536)
        if not more:
            break
        content += more
    head, _, body = bytes(content).partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ", 2)[1]), body)
