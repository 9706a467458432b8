"""An HTTP/2 client that reads while it sends: a gateway may answer before it has the whole body.

httpx fails then: it goes on sending into a stream that the answer has closed already.
"""

import socket
import ssl
from collections.abc import Mapping

import h2.config
import h2.connection
import h2.events
import httpx

READ_BYTES = 64 * 1024


def post(
    port: int, context: ssl.SSLContext, path: str, body: bytes, headers: Mapping[str, str]
) -> httpx.Response:
    """Send a request to 127.0.0.1 and return the first whole answer, however much was sent."""
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as link,
    ):
        assert link.selected_alpn_protocol() == "h2"
        return _Exchange(link, port, body).run(path, headers)


class _Exchange:
    """One request on one connection."""

    def __init__(self, link: ssl.SSLSocket, port: int, body: bytes) -> None:
        self._link = link
        self._authority = f"127.0.0.1:{port}"
        self._left = memoryview(body)
        self._length = len(body)
        self._connection = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8")
        )
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._answer = b""
        self._ended = False

    def run(self, path: str, headers: Mapping[str, str]) -> httpx.Response:
        connection = self._connection
        connection.initiate_connection()
        connection.send_headers(
            1,
            [
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", self._authority),
                (":path", path),
                ("content-length", str(self._length)),
                *headers.items(),
            ],
        )
        while not self._ended:
            self._send_what_fits()
            self._link.sendall(connection.data_to_send())
            data = self._link.recv(READ_BYTES)
            assert data, "the gateway closed the connection without an answer"
            for event in connection.receive_data(data):
                self._hear(event)
        return httpx.Response(self._status, headers=self._headers, content=self._answer)

    def _send_what_fits(self) -> None:
        """Send as much of the body as the windows allow now; more of it after the next read."""
        connection = self._connection
        while self._left:
            size = min(connection.local_flow_control_window(1), connection.max_outbound_frame_size)
            if not size:
                return
            connection.send_data(1, bytes(self._left[:size]))
            self._left = self._left[size:]
            if not self._left:
                connection.end_stream(1)

    def _hear(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            fields = [(str(name), str(value)) for name, value in event.headers]
            self._status = next(int(value) for name, value in fields if name == ":status")
            self._headers = [pair for pair in fields if not pair[0].startswith(":")]
        elif isinstance(event, h2.events.DataReceived):
            self._answer += event.data
            self._connection.acknowledge_received_data(event.flow_controlled_length, 1)
        elif isinstance(event, h2.events.StreamEnded):
            self._ended = True
        elif isinstance(event, h2.events.StreamReset) and not self._ended:
            # After a whole answer it only says that the rest of the body is not wanted.
            raise AssertionError(f"reset before a whole answer: {event.error_code}")
