"""What expressions see of an execution: `core.plan.Scope` over the state."""

from collections.abc import Mapping

import orjson

from bend_server.core.model import TaskStatus
from bend_server.core.plan import NeedsBlob
from bend_server.core.state import BlobOutput, ExecutionState
from bend_server.core.times import rfc3339


class ExecutionScope:
    """A view of one execution (and of one item of a task, for inputs of a for_each)."""

    __slots__ = ("index", "item", "iteration", "state")

    def __init__(
        self,
        state: ExecutionState,
        item: bytes | None = None,
        index: int = -1,
        iteration: int = 0,
    ) -> None:
        self.state = state
        self.item = item
        self.index = index
        self.iteration = iteration

    @property
    def input(self) -> bytes:
        """The parameters, JSON."""
        return self.state.start.input

    def workflow(self) -> Mapping[str, object]:
        """Return id, name, revision, started_at (RFC 3339) and labels of the execution."""
        start = self.state.start
        return {
            "id": start.public_id,
            "name": start.workflow,
            "revision": start.revision,
            "started_at": rfc3339(start.started_us),
            "labels": orjson.loads(start.labels) if start.labels else {},
        }

    def output(self, task: int) -> bytes | None:
        """Return a task's output as JSON; None when it has none (not completed).

        Raises NeedsBlob when the output is in the blob store and not loaded.
        """
        output = self.state.output(task)
        if isinstance(output, BlobOutput):
            if output.data is None:
                raise NeedsBlob(task, output.key)
            return output.data
        return output

    def blob(self, task: int) -> tuple[str, int] | None:
        """Return key and size of an output in the blob store; the size is 0 until it is loaded."""
        output = self.state.output(task)
        if not isinstance(output, BlobOutput):
            return None
        return output.key, 0 if output.data is None else len(output.data)

    def own(self, task: int) -> Mapping[str, object]:
        """Return a task's own facts: status (lower case), error, attempt, start and end."""
        state = self.state
        error = None if state.errors is None else state.errors.get(task)
        times = state.times
        started_us, finished_us = (0, 0) if times is None else times[2 * task : 2 * task + 2]
        return {
            "status": TaskStatus(state.statuses[task]).name.lower(),
            "error": None if error is None else orjson.loads(error),
            "attempt": state.attempt(task),
            "started_at": rfc3339(started_us) if started_us else None,
            "finished_at": rfc3339(finished_us) if finished_us else None,
        }
