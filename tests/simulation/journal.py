"""What really happened, written down outside of the system under test, and compared with SQL."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import orjson

from bend.internal.v1 import frames_pb2
from bend.v1 import executor_service_pb2
from bend_server.core.ids import partition_of
from bend_server.core.machine import fold
from bend_server.core.model import ITEM_NONE, FinishRow, Phase, ResultRow, TaskStatus
from bend_server.engine.cache import WORKER
from bend_server.ports.store import Batch, Lease
from bend_server.storage.memory import MemoryDatabase, Record
from tests.simulation.workloads import NAMESPACE, PLANS, unit_of


class Violation(Exception):
    """The system broke a promise."""


class Entry(NamedTuple):
    """One hand-over that the component took, and what it answered: an output or a reason."""

    execution: str
    task: str
    attempt: int
    output: bytes | None
    reason: str


def _key(result: frames_pb2.QueuedResult) -> tuple[int, int, int, int]:
    return result.execution, result.task, result.item, getattr(result, "try")


def _outputs(parts: list[Any]) -> Iterable[Any]:
    """Yield the outputs of the component in what an input holds; waits and lists are flat."""
    for part in parts:
        if isinstance(part, list):
            yield from _outputs(part)
        elif isinstance(part, dict) and "run" in part:
            yield part


def _results(data: bytes) -> Iterable[frames_pb2.QueuedResult]:
    return frames_pb2.ResultFrame.FromString(data).results


class Blobs(Protocol):
    """Where large outputs are."""

    def peek(self, key: str) -> bytes:
        """Return a blob."""
        ...


class Journal:
    """The component's journal and the observers of SQL and of the queue.

    Args:
        alarm: told what is wrong, at the moment when it happens.
    """

    def __init__(
        self, database: MemoryDatabase, blobs: Blobs, alarm: Callable[[Violation], None]
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._alarm = alarm
        self.entries: dict[int, Entry] = {}
        self.taken: Counter[tuple[str, str, int]] = Counter()
        self.started: dict[str, int] = {}
        self.commits = 0

    def took(self, handed: executor_service_pb2.Task) -> None:
        """Observe a hand-over: all that it follows from must be committed by now."""
        execution, task, attempt = handed.execution_id, handed.task, handed.attempt
        item = handed.item - 1
        self.taken[execution, unit_of(task, item, handed.iteration), attempt] += 1
        number = self._database.public_ids.get((NAMESPACE, execution))
        if number is None:
            self._alarm(Violation(f"{execution} was handed out before its start was committed"))
            return
        record = self._database.executions[number]
        plan = PLANS[record.start.workflow]
        index = plan.index[task]
        rows = list(record.results.values())
        ended = {row.task for row in rows if row.retry_at_us is None and row.item == ITEM_NONE}
        early = [plan.tasks[i].id for i in plan.tasks[index].dependencies if i not in ended]
        if early:
            self._alarm(Violation(f"{execution}/{task} was handed out before {early} committed"))
        mine = [row for row in rows if (row.task, row.item) == (index, item)]
        made = max((row.attempt for row in mine), default=0)
        if attempt > made + 1:
            self._alarm(Violation(f"{execution}/{task}: attempt {attempt} follows {made}"))
        self._check_input(execution, task, orjson.loads(handed.input))

    def _check_input(self, execution: str, task: str, body: Any) -> None:
        for output in _outputs(body["from"]):
            entry = self.entries.get(int(output["run"]))
            if entry is None or entry.output != orjson.dumps(output):
                self._alarm(Violation(f"{execution}/{task}: its input has what nobody gave"))
            elif not self._serves(entry.execution, execution):
                self._alarm(Violation(f"{execution}/{task}: its input is of {entry.execution}"))

    def _serves(self, source: str, execution: str) -> bool:
        """Return whether an output of one execution may be in another's input: its child's."""
        number = self._database.public_ids.get((NAMESPACE, source))
        while number is not None:
            start = self._database.executions[number].start
            if start.public_id == execution:
                return True
            number = start.parent
        return False

    def answered(self, run_id: int, entry: Entry) -> None:
        """Note an answer, before it is sent."""
        self.entries[run_id] = entry

    def accepted(self, request: str, execution: int) -> None:
        """Observe the answer to a start: it is committed, and the only one of its request."""
        known = self.started.setdefault(request, execution)
        if known != execution:
            self._alarm(Violation(f"request {request} started {known} and {execution}"))
        if execution not in self._database.executions:
            self._alarm(Violation(f"{request} was answered before {execution} was committed"))

    def told(self, execution: int, finish: FinishRow | None) -> None:
        """Observe that somebody was told of an end: it is committed, and just that end."""
        stored = self._database.executions[execution].finish
        if stored is None or (finish is not None and finish != stored):
            self._alarm(Violation(f"the end of {execution} was told before it was committed"))

    def committed(self, lease: Lease, batch: Batch) -> None:
        """Observe a commit at the moment when it was applied: only the owner may write."""
        self.commits += 1
        executions = {start.id for start in batch.starts}
        executions.update(row.execution for row in batch.results)
        executions.update(row.execution for row in batch.events)
        executions.update(row.execution for row in batch.finishes)
        for execution in executions:
            owner = self._database.owners[partition_of(execution)]
            if owner != lease.id:
                self._alarm(
                    Violation(
                        f"engine {lease.engine} (lease {lease.id}) wrote rows of {execution}, "
                        f"whose partition belongs to lease {owner}"
                    )
                )

    def acked(self, data: bytes, others: Iterable[bytes]) -> None:
        """Observe the ack of a result frame: all of it must be in SQL, or no longer matter.

        Args:
            others: what else the stream holds: a result that reached an engine which does not own
                it is published again to the owner's lane, and may be acked then.
        """
        frame = frames_pb2.ResultFrame.FromString(data)
        for result in frame.results:
            record = self._database.executions.get(result.execution)
            if record is None or record.finish is not None:
                continue
            tries = [
                row.try_
                for row in record.results.values()
                if (row.task, row.item) == (result.task, result.item - 1)
            ]
            if getattr(result, "try") <= max(tries, default=0):
                continue
            if not any(_key(result) in map(_key, _results(other)) for other in others):
                self._alarm(
                    Violation(
                        f"the result of task {result.task} try {getattr(result, 'try')} of "
                        f"{record.start.public_id} was acked before it was committed"
                    )
                )

    def check(self) -> None:
        """Compare SQL with what happened, when all has come to rest."""
        for request, execution in self.started.items():
            if execution not in self._database.executions:
                raise Violation(f"execution {execution} of {request} was answered and is lost")
        for record in self._database.executions.values():
            self._check_execution(record)

    def _check_execution(self, record: Record) -> None:
        public_id = record.start.public_id
        plan = PLANS[record.start.workflow]
        if record.finish is None:
            raise Violation(f"{public_id} has not ended")
        stored = record.stored()
        state = fold(plan, stored.start, stored.results, stored.events, stored.finish)
        if state.status != record.status or not state.terminal:
            raise Violation(f"{public_id}: status {record.status}, its rows say {state.status}")
        open_tasks = [
            task.id
            for task in plan.tasks
            if task.phase == Phase.MAIN and not state.task_terminal(task.index)
        ]
        if open_tasks:
            raise Violation(f"{public_id} has ended with open tasks: {open_tasks}")
        for row in stored.results:
            if row.worker == "":
                continue
            unit = unit_of(plan.tasks[row.task].id, row.item, row.iteration)
            self._check_row(public_id, unit, row)

    def _check_row(self, public_id: str, task: str, row: ResultRow) -> None:
        if row.status != TaskStatus.COMPLETED:
            return
        if row.worker == WORKER:
            if all(row.output != entry.output for entry in self.entries.values()):
                raise Violation(f"{public_id}/{task}: the cache gave what no component gave")
            return
        entry = self.entries.get(row.run_id)
        output = row.output if row.blob is None else self._blobs.peek(row.blob)
        if entry is None or entry.output != output:
            raise Violation(f"{public_id}/{task}: SQL has an output that no component gave")
        if (entry.execution, entry.task, entry.attempt) != (public_id, task, row.attempt):
            raise Violation(f"{public_id}/{task}: SQL has the output of {entry}")

    def repeats(self) -> int:
        """Return how many hand-overs repeated an attempt."""
        return sum(count - 1 for count in self.taken.values())
