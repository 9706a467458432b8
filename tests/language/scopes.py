"""A Scope of plain values, for tests of expressions and templates."""

import json
from collections.abc import Mapping

from bend_server.core.plan import NeedsBlob


class FakeScope:
    """Offers an input, outputs by task index, own facts and blobs."""

    def __init__(
        self,
        input: object = None,
        outputs: Mapping[int, object] | None = None,
        own: Mapping[int, Mapping[str, object]] | None = None,
        blobs: Mapping[int, tuple[str, int]] | None = None,
    ) -> None:
        self.input = json.dumps({} if input is None else input).encode()
        self.item: bytes | None = None
        self.index = -1
        self.iteration = 0
        self.before: bytes | None = None
        self.read: list[int] = []
        self._outputs = {
            task: json.dumps(value).encode() for task, value in (outputs or {}).items()
        }
        self._own = own or {}
        self._blobs = blobs or {}

    def workflow(self) -> Mapping[str, object]:
        return {
            "id": "demo-1",
            "name": "demo",
            "revision": 3,
            "started_at": "2026-01-02T03:04:05Z",
            "labels": {"team": "red"},
        }

    def last(self) -> bytes | None:
        return self.before

    def output(self, task: int) -> bytes | None:
        self.read.append(task)
        if task in self._blobs and task not in self._outputs:
            raise NeedsBlob(task, self._blobs[task][0])
        return self._outputs.get(task)

    def own(self, task: int) -> Mapping[str, object]:
        facts: dict[str, object] = {
            "status": "completed" if task in self._outputs else "skipped",
            "error": None,
            "attempt": 1,
            "started_at": "2026-01-02T03:04:05Z",
            "finished_at": "2026-01-02T03:04:06Z",
        }
        return {**facts, **self._own.get(task, {})}

    def blob(self, task: int) -> tuple[str, int] | None:
        return self._blobs.get(task)
