"""The server that the http benchmarks call: a process of its own, with one fixed answer.

`python -m bend_server.bench.http_target [CERTIFICATE KEY]` prints its port and serves HTTP/1.1,
with a certificate HTTP/2, until its standard input ends.
"""

import asyncio
import ssl
import sys
from typing import Any

import h2.connection
import h2.events
import uvloop
from h2.config import H2Configuration

BODY = b'{"ok":true,"note":"one answer of a benchmark","number":12345678}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)
) + BODY
HEAD_END = b"\r\n\r\n"


class Plain(asyncio.Protocol):
    """HTTP/1.1 requests without a body; the least that a server can do."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport: Any = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request."""
        data = self._rest + data
        count = data.count(HEAD_END)
        self._rest = data[data.rfind(HEAD_END) + 4 :] if count else data
        self._transport.write(ANSWER * count)


class Sealed(asyncio.Protocol):
    """HTTP/2 requests without a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport and begin."""
        self._transport: Any = transport
        self._link = h2.connection.H2Connection(H2Configuration(client_side=False))
        self._link.initiate_connection()
        transport.write(self._link.data_to_send())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        for event in self._link.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                number = event.stream_id
                self._link.send_headers(
                    number, [(":status", "200"), ("content-type", "application/json")]
                )
                self._link.send_data(number, BODY, end_stream=True)
        self._transport.write(self._link.data_to_send())


async def serve(certificate: str, key: str) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    tls = None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        tls.set_alpn_protocols(["h2"])
    server = await loop.create_server(Sealed if tls else Plain, "127.0.0.1", 0, ssl=tls)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(*(sys.argv[1:3] or ("", ""))))
