"""What workflows of end-to-end tests call: a small HTTP service on loopback."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIGITS = b'{"id": 12345678901234567890123, "text": "\xc3\xbc"}'


class Service(BaseHTTPRequestHandler):
    """What the workflows call: /json, /large, /flaky (503 at first), /held (until released)."""

    protocol_version = "HTTP/1.1"
    released = threading.Event()
    failures: dict[str, int] = {}

    def do_GET(self) -> None:
        code, body, headers = 200, DIGITS, {}
        if self.path.startswith("/large"):
            body = b'{"x": "' + b"x" * 6_000_000 + b'"}'
        elif self.path.startswith("/flaky") and not self.failures.get(self.path):
            self.failures[self.path] = 1
            code, body, headers = 503, b'"busy"', {"Retry-After": "0"}
        elif self.path.startswith("/held"):
            self.released.wait(60)
        self.answer(code, body, headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.answer(200, body, {})

    def answer(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def service() -> Iterator[str]:
    """Serve; yield the address, `http://host:port`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        Service.released.set()
        server.shutdown()
        server.server_close()
