"""Stand-ins of the services that the workflow `auto_threat_response` calls, on loopback.

The workflow names them with one port, so each has an address of its own.
"""

import contextlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 8080
HOSTS = {"threat-intel": "127.0.0.2", "api-gateway": "127.0.0.3", "audit-trail": "127.0.0.4"}
RISKS = {"198.51.100.7": 0.9, "192.0.2.1": 0.1}


class Services:
    """The three of them; `calls` has the bodies that each host got."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def answer(self, host: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer as the service of that host."""
        self.calls[host].append(body)
        if host == "threat-intel":
            return {"ip": body["indicator"], "features": [RISKS[body["indicator"]]]}
        return {"taken": len(self.calls[host])}


@contextlib.contextmanager
def services() -> Iterator[Services]:
    """Serve all of them. Raises OSError where an address cannot be had."""
    made = Services()
    with contextlib.ExitStack() as stack:
        for host, address in HOSTS.items():
            server = ThreadingHTTPServer((address, PORT), _handler(made, host))
            stack.callback(server.server_close)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
        yield made


def _handler(made: Services, host: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            data = json.dumps(made.answer(host, json.loads(self.rfile.read(length)))).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler
