"""A stand-in for the Docker engine's HTTP API, as documented for version 1.43.

It keeps containers in memory, answers the calls that pools need, and records every request.
"""

import http.server
import json
import re
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

CREATED = 1_700_000_000


class FakeDocker:
    """Listens on loopback; `containers` are by id, `fault` (status, text) answers everything."""

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, list[str]], Any]] = []
        self.fault: tuple[int, str] | None = None
        self.images: set[str] = set()
        self.cpu_ns = 0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"tcp://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FakeDocker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def made(self) -> dict[str, Any]:
        """Return the body of the newest create call."""
        bodies = [body for _, path, _, body in self.requests if path == "/containers/create"]
        found: dict[str, Any] = bodies[-1]
        return found

    def by_name(self, name: str) -> dict[str, Any] | None:
        """Return a container by id or name."""
        for id_, one in self.containers.items():
            if name in {id_, one["Name"]}:
                return one
        return None

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """Return (status, JSON value or None)."""
        if self.fault is not None:
            return self.fault[0], {"message": self.fault[1]}
        if (method, path) == ("POST", "/containers/create"):
            return self._create(query["name"][0], body)
        if (method, path) == ("GET", "/containers/json"):
            return 200, self._list(json.loads(query["filters"][0]))
        match = re.fullmatch(r"/containers/([^/]+)(?:/(\w+))?", path)
        one = self.by_name(match[1]) if match else None
        if match is None or one is None:
            return 404, {"message": "No such container"}
        return self._on(one, method, match[2] or "", query)

    def _create(self, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body["Image"] not in self.images:
            return 404, {"message": f"No such image: {body['Image']}"}
        id_ = f"{len(self.containers) + 1:064x}"
        self.containers[id_] = {
            "Id": id_,
            "Name": name,
            "Labels": body["Labels"],
            "State": "created",
            "Status": "Created",
            "Created": CREATED,
        }
        return 201, {"Id": id_, "Warnings": []}

    def _list(self, filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        return [
            one
            for one in self.containers.values()
            if all(
                one["Labels"].get(label.partition("=")[0]) == label.partition("=")[2]
                for label in filters["label"]
            )
        ]

    def _on(
        self, one: dict[str, Any], method: str, action: str, query: dict[str, list[str]]
    ) -> tuple[int, Any]:
        if (method, action) == ("POST", "start"):
            one |= {"State": "running", "Status": "Up 1 second"}
            return 204, None
        if (method, action) == ("POST", "kill"):
            if one["State"] != "running":
                return 409, {"message": "Container is not running"}
            code = {"SIGTERM": 0, "SIGKILL": 137}[query["signal"][0]]
            one |= {"State": "exited", "Status": f"Exited ({code}) 1 second ago"}
            return 204, None
        if (method, action) == ("GET", "stats"):
            self.cpu_ns += 500_000_000
            seconds = self.cpu_ns // 500_000_000
            return 200, {
                "read": f"2026-01-01T00:00:{seconds:02d}.123456789Z",
                "cpu_stats": {"cpu_usage": {"total_usage": self.cpu_ns}},
                "memory_stats": {"usage": 3_000_000, "stats": {"inactive_file": 1_000_000}},
            }
        if method == "DELETE" and not action:
            del self.containers[one["Id"]]
            return 204, None
        return 400, {"message": "not known to the stand-in"}

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        docker = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                size = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                path = parts.path.removeprefix("/v1.43")
                query = parse_qs(parts.query)
                docker.requests.append((self.command, path, query, body))
                status, value = docker.answer(self.command, path, query, body)
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
