"""A stand-in for an HTTP API that speaks JSON: it listens on loopback and records every request."""

import http.server
import json
import threading
from abc import ABC, abstractmethod
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

Query = dict[str, list[str]]


class FakeJsonApi(ABC):
    """Answers by `answer`, which each stand-in has; `prefix` is taken off each path."""

    prefix = ""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, Query, Any]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def address(self) -> str:
        """Where it listens, host:port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @abstractmethod
    def answer(self, method: str, path: str, query: Query, body: Any) -> tuple[int, Any]:
        """Return (status, JSON value; None: no body)."""

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                size = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                path = parts.path.removeprefix(api.prefix)
                query = parse_qs(parts.query)
                api.requests.append((self.command, path, query, body))
                status, value = api.answer(self.command, path, query, body)
                data = b"" if value is None else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the server's names

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler
