"""A stand-in for the API server of a Kubernetes cluster: pods, and their metrics."""

import http.server
import json
import re
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

CREATED = "2026-01-01T00:00:00Z"


class FakeCluster:
    """Listens on loopback; `pods` are by name; `fault` (status, reason) answers everything."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, list[str]], Any]] = []
        self.fault: tuple[int, str] | None = None
        self.namespaces = {"default"}
        self.metrics = True
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FakeCluster":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def end(self, name: str, code: int) -> None:
        """Let a pod's container end by itself."""
        self.pods[name]["status"] = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [
                {
                    "name": "component",
                    "image": "x",
                    "imageID": "x",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"terminated": {"exitCode": code, "reason": "Error"}},
                }
            ],
        }

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """Return (status, JSON value)."""
        if self.fault is not None:
            return self.fault[0], {"kind": "Status", "reason": self.fault[1]}
        if path.startswith("/apis/metrics.k8s.io/"):
            return (200, self._usage()) if self.metrics else (404, {"kind": "Status"})
        match = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods(?:/([^/]+))?", path)
        if match is None or match[1] not in self.namespaces:
            return 404, {"kind": "Status", "reason": "NotFound"}
        if method == "GET":
            wanted = dict(one.split("=") for one in query["labelSelector"][0].split(","))
            found = [
                pod
                for pod in self.pods.values()
                if wanted.items() <= pod["metadata"]["labels"].items()
            ]
            return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found}
        if method == "POST":
            body["metadata"] |= {"namespace": match[1], "creationTimestamp": CREATED}
            body["status"] = {"phase": "Running"}
            self.pods[body["metadata"]["name"]] = body
            return 201, body
        return self._delete(match[2], int(query["gracePeriodSeconds"][0]))

    def _delete(self, name: str, grace_s: int) -> tuple[int, Any]:
        pod = self.pods.get(name)
        if pod is None:
            return 404, {"kind": "Status", "reason": "NotFound"}
        if grace_s:
            pod["metadata"]["deletionTimestamp"] = CREATED
        else:
            del self.pods[name]
        return 200, pod

    def _usage(self) -> dict[str, Any]:
        usage = {"cpu": "250m", "memory": "64Mi"}
        return {
            "items": [
                {"metadata": {"name": name}, "containers": [{"name": "component", "usage": usage}]}
                for name in self.pods
            ]
        }

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        cluster = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                parts = urlsplit(self.path)
                size = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                query = parse_qs(parts.query)
                cluster.requests.append((self.command, parts.path, query, body))
                status, value = cluster.answer(self.command, parts.path, query, body)
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the server's names

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler
