"""An engine whose executions move only when a test says so; its rows are committed like real ones.

It keeps the promises of ports.engine: answers after the commit, starts judged alone, wake-ups
merged.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

import orjson

from bend_server.core.errors import (
    AlreadyExists,
    Conflict,
    DomainError,
    NotFound,
    WrongState,
)
from bend_server.core.ids import make_id, partition_of, public_id
from bend_server.core.model import (
    ApprovalEnd,
    EventKind,
    EventRow,
    ExecutionStatus,
    FinishRow,
    ResultRow,
    StartRow,
    TaskStatus,
)
from bend_server.core.plan import Plan
from bend_server.language import compile_document
from bend_server.ports.clock import Clock
from bend_server.ports.control import BULK_RUNNING, ApprovalSummary, BulkRow
from bend_server.ports.engine import (
    BulkCommand,
    Decision,
    Ended,
    RunOpened,
    StartCommand,
    StartOutcome,
    TaskOverlay,
)
from bend_server.ports.store import Batch, Lease
from bend_server.storage.stores import Stores

LEASE_US = 3_600_000_000


class Plans:
    """Compiles revisions as the engine's source does."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._kept: dict[tuple[str, str, int], Plan] = {}

    def known(self, namespace: str, workflow: str, revision: int) -> Plan | None:
        return self._kept.get((namespace, workflow, revision))

    async def plan(self, namespace: str, workflow: str, revision: int) -> Plan:
        stored = await self._stores.reads.revision(namespace, workflow, revision)
        if stored is None:
            raise NotFound(
                f"no revision {revision} of workflow {workflow!r}", reason="WORKFLOW_NOT_FOUND"
            )
        definition = compile_document(stored.document, "application/json")
        made = definition.plan(namespace, revision, orjson.loads(stored.pins))
        self._kept[namespace, workflow, revision] = made
        return made


class ManualEngine:
    """Implements ports.engine.EngineUseCases over real stores."""

    def __init__(self, stores: Stores, clock: Clock) -> None:
        self._stores = stores
        self._clock = clock
        self._lease: Lease | None = None
        self._counter = 0
        self._seq: dict[int, int] = {}
        self._changed = asyncio.Condition()
        self._news: dict[int, list[list[TaskOverlay]]] = {}
        self._wakes: dict[int, list[asyncio.Event]] = {}
        self.overlay: dict[int, list[TaskOverlay]] = {}
        self.ready = True
        self.failure: DomainError | None = None
        self.calls = 0
        self.said: list[tuple[object, ...]] = []
        self.partition = 3
        # Of the executions that start: PENDING ones wait, under a key or for admission.
        self.born = int(ExecutionStatus.RUNNING)
        self.concurrency_key: str | None = None

    async def open(self) -> None:
        """Take a lease on all partitions."""
        self._lease = await self._stores.engine.acquire_lease("fake", 1, LEASE_US)
        await self._stores.engine.claim_partitions(self._lease, 64)

    async def commit(self, batch: Batch) -> frozenset[int]:
        assert self._lease is not None
        done = await self._stores.engine.commit(self._lease, frozenset((self.partition,)), batch)
        return done.started

    async def start_executions(self, commands: Sequence[StartCommand]) -> list[StartOutcome]:
        self.calls += 1
        return [await self._start(command) for command in commands]

    async def _start(self, command: StartCommand) -> StartOutcome:
        if self.failure is not None:
            return StartOutcome(0, "", False, 0, self.failure)
        store = self._stores.engine
        now_us = self._clock.now_us()
        if command.request_id:
            known = await store.find_request(command.namespace, command.request_id)
            if known is not None:
                if known.hash != command.request_hash:
                    error = AlreadyExists("other content", reason="REQUEST_ID_REUSED")
                    return StartOutcome(0, "", False, 0, error)
                return StartOutcome(known.execution, known.public_id, False, now_us)
        state = await store.workflow_state(command.namespace, command.workflow)
        if state is None:
            error = NotFound("no workflow", reason="WORKFLOW_NOT_FOUND")
            return StartOutcome(0, "", False, 0, error)
        self._counter += 1
        execution = make_id(now_us, self.partition, self._counter)
        name = command.execution_id or public_id(command.workflow, execution)
        row = StartRow(
            execution, name, command.namespace, command.workflow, command.revision,
            self.partition, 1, self.born, 5, self.concurrency_key, None, None, None, None,
            command.request_id or None, command.request_hash, command.actor, command.input,
            command.labels, command.trace, now_us, now_us + LEASE_US,
        )  # fmt: skip
        started = await self.commit(Batch(starts=[row], starts_current=[command.current]))
        if execution not in started:
            return StartOutcome(0, "", False, 0, self._why(command, state))
        return StartOutcome(execution, name, True, now_us)

    @staticmethod
    def _why(command: StartCommand, state: tuple[int, bool]) -> DomainError:
        if state[1]:
            return WrongState("archived", reason="WORKFLOW_ARCHIVED", workflow=command.workflow)
        if command.current and state[0] != command.revision:
            return Conflict("the revision is not the newest")
        return AlreadyExists("the id is taken", execution=command.execution_id)

    async def cancel(
        self, execution: int, *, reason: str, actor: str, request_id: str
    ) -> ExecutionStatus:
        stored = await self._stores.engine.load(execution)
        if stored is None:
            raise NotFound("no such execution")
        if stored.finish is not None:
            if stored.status == ExecutionStatus.CANCELLED:
                return ExecutionStatus.CANCELLED
            word = ExecutionStatus(stored.status).name
            raise WrongState(f"the execution is {word}", status=word)
        body = orjson.dumps({"reason": reason})
        await self.event(execution, EventKind.CANCEL_REQUESTED, actor=actor, body=body)
        return ExecutionStatus.RUNNING

    async def pause(
        self, execution: int, *, reason: str, actor: str, request_id: str = ""
    ) -> ExecutionStatus:
        self._note("pause", execution, reason, actor, request_id)
        return ExecutionStatus.PAUSED

    async def resume(self, execution: int, *, actor: str, request_id: str = "") -> ExecutionStatus:
        self._note("resume", execution, actor, request_id)
        return ExecutionStatus.RUNNING

    async def retry(
        self, execution: int, *, reason: str, actor: str, request_id: str = ""
    ) -> RunOpened:
        self._note("retry", execution, reason, actor, request_id)
        return RunOpened(ExecutionStatus.RUNNING, 2)

    async def reset(
        self, execution: int, *, task: str, reason: str, actor: str, request_id: str = ""
    ) -> RunOpened:
        self._note("reset", execution, task, reason, actor, request_id)
        return RunOpened(ExecutionStatus.RUNNING, 2)

    async def signal(
        self, execution: int, *, name: str, payload: bytes, actor: str, request_id: str = ""
    ) -> bool:
        self._note("signal", execution, name, payload, actor, request_id)
        return True

    async def decide_approval(self, decision: Decision, *, request_id: str = "") -> ApprovalSummary:
        self._note("decide", *decision, request_id)
        end = ApprovalEnd(
            decision.execution, decision.task, decision.item, decision.try_,
            2 if decision.approved else 3, decision.actor, self._clock.now_us(), decision.comment,
        )  # fmt: skip
        await self.commit(Batch(approval_ends=[end]))
        found = await self._stores.reads.approval(
            "default", decision.execution, decision.task, decision.item, decision.try_
        )
        assert found is not None
        return found

    async def bulk(self, command: BulkCommand) -> BulkRow:
        self._note("bulk", *command)
        self._counter += 1
        now_us = self._clock.now_us()
        row = BulkRow(
            make_id(now_us, self.partition, self._counter), command.namespace, self.partition,
            command.action, b"{}", command.reason, command.actor, int(command.dry_run),
            BULK_RUNNING, 0, 0, 0, b"", b"[]", command.request_id or None, now_us, now_us,
        )  # fmt: skip
        return (await self._stores.engine.put_bulk(row))[0]

    def _note(self, *said: object) -> None:
        """Remember a control call, or refuse it as the test wishes."""
        if self.failure is not None:
            raise self.failure
        self.said.append(said)

    def next_seq(self, execution: int) -> int:
        seq = self._seq.get(execution, 0)
        self._seq[execution] = seq + 1
        return seq

    async def event(
        self, execution: int, kind: EventKind, *, actor: str = "", body: bytes = b"{}"
    ) -> None:
        """Commit an event row."""
        row = EventRow(
            execution, self.next_seq(execution), 1, int(kind), -1, -1, actor, body,
            self._clock.now_us(),
        )  # fmt: skip
        await self.commit(Batch(events=[row]))
        await self.say(execution)

    async def result(
        self,
        execution: int,
        task: int,
        *,
        changed: Sequence[TaskOverlay] = (),
        **changes: object,
    ) -> ResultRow:
        """Commit one result row, completed unless said otherwise; `changed` is what it began."""
        now_us = self._clock.now_us()
        row = ResultRow(
            execution=execution, seq=self.next_seq(execution), run=1, task=task, item=-1, try_=1,
            iteration=0, attempt=1, status=int(TaskStatus.COMPLETED), output=b'{"ok":true}',
            blob=None, error=None, retry_at_us=None, worker="w1", run_id=77, chunks=0,
            started_us=now_us, finished_us=now_us,
        )  # fmt: skip
        row = row._replace(**changes)  # type: ignore[arg-type]
        await self.commit(Batch(results=[row]))
        await self.say(execution, changed)
        return row

    async def finish(self, execution: int, **changes: object) -> None:
        """Commit the end."""
        row = FinishRow(
            execution, 1, self.next_seq(execution), int(ExecutionStatus.COMPLETED),
            b'{"answer":42}', None, None, self._clock.now_us(),
        )  # fmt: skip
        await self.commit(Batch(finishes=[row._replace(**changes)]))  # type: ignore[arg-type]
        await self.say(execution)

    async def say(self, execution: int, changed: Sequence[TaskOverlay] = ()) -> None:
        """Wake who waits for or watches an execution."""
        for news in self._news.get(execution, ()):
            news.extend([entry] for entry in changed)
        for wake in self._wakes.get(execution, ()):
            wake.set()
        async with self._changed:
            self._changed.notify_all()

    async def _finish_of(self, execution: int) -> FinishRow | None:
        assert partition_of(execution) == self.partition
        stored = await self._stores.engine.load(execution)
        return None if stored is None else stored.finish

    async def wait(self, execution: int, timeout_s: float) -> Ended | None:
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                while (finish := await self._finish_of(execution)) is None:
                    await self._changed.wait()
                return Ended(execution, finish)
        except TimeoutError:
            return None

    async def ended(self, executions: Sequence[int]) -> AsyncIterator[list[Ended]]:
        left = set(executions)
        while left:
            async with self._changed:
                done = []
                while not done:
                    for execution in sorted(left):
                        finish = await self._finish_of(execution)
                        if finish is not None:
                            # Every other end is told as another engine would: SQL has the row.
                            done.append(Ended(execution, finish if execution % 2 else None))
                    if not done:
                        await self._changed.wait()
            left -= {entry.execution for entry in done}
            yield done

    async def watch(self, execution: int) -> AsyncIterator[list[TaskOverlay]]:
        news: list[list[TaskOverlay]] = []
        wake = asyncio.Event()
        wake.set()
        self._news.setdefault(execution, []).append(news)
        self._wakes.setdefault(execution, []).append(wake)
        try:
            while True:
                await wake.wait()
                wake.clear()
                taken, news[:] = list(news), []
                yield [entry for group in taken for entry in group]
        finally:
            self._news[execution].remove(news)
            self._wakes[execution].remove(wake)

    def watchers(self, execution: int) -> int:
        """Return how many watches are open."""
        return len(self._wakes.get(execution, ()))

    def waiting(self, execution: int) -> list[TaskOverlay]:
        return self.overlay.get(execution, [])
