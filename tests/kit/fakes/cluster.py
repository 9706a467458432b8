"""A stand-in for the API server of a Kubernetes cluster: pods, and their metrics."""

import re
from typing import Any

from tests.kit.fakes.json_api import FakeJsonApi, Query

CREATED = "2026-01-01T00:00:00Z"


class FakeCluster(FakeJsonApi):
    """Listens on loopback; `pods` are by name; `fault` (status, reason) answers everything."""

    def __init__(self) -> None:
        super().__init__()
        self.pods: dict[str, dict[str, Any]] = {}
        self.fault: tuple[int, str] | None = None
        self.namespaces = {"default"}
        self.metrics = True

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.address}"

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

    def answer(self, method: str, path: str, query: Query, body: Any) -> tuple[int, Any]:
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
