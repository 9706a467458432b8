"""A stand-in for the Docker engine's HTTP API, as documented for version 1.43.

It keeps containers in memory, answers the calls that pools need, and records every request.
"""

import json
import re
from typing import Any

from tests.kit.fakes.json_api import FakeJsonApi, Query

CREATED = 1_700_000_000


class FakeDocker(FakeJsonApi):
    """Listens on loopback; `containers` are by id, `fault` (status, text) answers everything."""

    prefix = "/v1.43"

    def __init__(self) -> None:
        super().__init__()
        self.containers: dict[str, dict[str, Any]] = {}
        self.fault: tuple[int, str] | None = None
        self.images: set[str] = set()
        self.cpu_ns = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"tcp://{self.address}"

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

    def answer(self, method: str, path: str, query: Query, body: Any) -> tuple[int, Any]:
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
