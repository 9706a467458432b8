"""What happens once a commit is durable, and only then."""

from bend_server.core import machine
from bend_server.core.effects import BlobWait, Effects, Timer, TimerKind
from bend_server.core.errors import (
    AlreadyExists,
    Conflict,
    DependencyDown,
    DomainError,
    NotFound,
    WrongState,
)
from bend_server.core.ids import started_ms
from bend_server.core.model import EventKind, ExecutionStatus
from bend_server.engine.children import Children
from bend_server.engine.commits import Commits
from bend_server.engine.dispatch import Dispatch
from bend_server.engine.gate import Gate
from bend_server.engine.gathering import Gathering, Starting
from bend_server.engine.jobs import Jobs
from bend_server.engine.live import Live
from bend_server.engine.mailbox import Mailbox
from bend_server.engine.options import Counters
from bend_server.engine.overlay import Overlay
from bend_server.engine.parking import Parking
from bend_server.engine.queues import Queues
from bend_server.engine.steps import Steps
from bend_server.engine.timers import Timers
from bend_server.engine.waits import Waits
from bend_server.engine.watch import Watches
from bend_server.engine.windows import Windows
from bend_server.ports.blobs import Blobs
from bend_server.ports.clock import Clock
from bend_server.ports.engine import StartOutcome
from bend_server.ports.queue import Queue
from bend_server.ports.store import Committed, EngineStore

PENDING = int(ExecutionStatus.PENDING)
PARKABLE = (TimerKind.RETRY, TimerKind.WAKE)
NEAR_US = 60_000_000
"""Deadlines nearer than this get the wheel's precision."""


class Settlement:
    """Answers, publishes and acks what a commit made durable."""

    def __init__(
        self,
        store: EngineStore,
        queue: Queue,
        blobs: Blobs,
        clock: Clock,
        live: Live,
        commits: Commits,
        steps: Steps,
        dispatch: Dispatch,
        windows: Windows,
        timers: Timers,
        waits: Waits,
        watches: Watches,
        parking: Parking,
        overlay: Overlay,
        gate: Gate,
        children: Children,
        queues: Queues,
        mailbox: Mailbox,
        jobs: Jobs,
        counters: Counters,
    ) -> None:
        self._store = store
        self._queue = queue
        self._blobs = blobs
        self._clock = clock
        self._live = live
        self._commits = commits
        self._steps = steps
        self._dispatch = dispatch
        self._windows = windows
        self._timers = timers
        self._waits = waits
        self._watches = watches
        self._parking = parking
        self._overlay = overlay
        self._gate = gate
        self._children = children
        self._queues = queues
        self._mailbox = mailbox
        self._jobs = jobs
        self._counters = counters

    def __call__(self, gathering: Gathering, committed: Committed) -> None:
        """Act on one commit."""
        now_us = self._clock.now_us()
        effects = gathering.effects
        if gathering.starts:
            self._start(gathering.starts, committed.started, now_us)
        if effects.results:
            close = self._windows.close
            for row in effects.results:
                close((row[0], row[3], row[4], row[5]))
            workers = self._overlay.workers
            if workers:
                for row in effects.results:
                    workers.pop((row[0], row[3], row[4], row[5]), None)
            self._gate.settled(gathering)
        if effects.finishes:
            self._finish(effects)
        for future in gathering.done:
            if not future.done():
                future.set_result(None)
        if gathering.parks:
            self._parking.parked(gathering.parks)
        if effects.events or gathering.letters:
            self._follow_rare(gathering, now_us)
        if effects.changes or self._parking.pausing:
            self._parking.follow(effects, now_us)
        self.follow(effects, now_us)
        ack = self._queue.ack
        for token in gathering.acks:
            ack(token)
        self._watches.committed(effects)

    def _follow_rare(self, gathering: Gathering, now_us: int) -> None:
        for event in gathering.effects.events:
            if event.kind == EventKind.WAITING:
                self._parking.look(event.execution, now_us)
        if gathering.letters:
            self._mailbox.sent(gathering.letters)

    def follow(self, effects: Effects, now_us: int) -> None:
        """Act on effects whose rows are durable (or that have none)."""
        if effects.ready:
            self._dispatch.push(effects.ready, now_us)
        if effects.timers:
            self._add_timers(effects.timers, now_us)
        if effects.cancels:
            self._dispatch.cancel(effects.cancels)
        for wait in effects.blobs:
            self._jobs.spawn(self._load(wait))
        if effects.children:
            self._children.wishes(effects.children)
        self._dispatch.pump()

    def _add_timers(self, timers: list[Timer], now_us: int) -> None:
        wheel = self._timers
        for timer in timers:
            if timer.kind == TimerKind.EXECUTION and timer.due_us - now_us > NEAR_US:
                wheel.add_deadline(timer.due_us, timer.execution)
                continue
            if timer.kind not in PARKABLE or not self._parking.consider(timer, now_us):
                wheel.add(timer.due_us, timer)

    def _finish(self, effects: Effects) -> None:
        live = self._live
        states = live.states
        wheel = self._timers
        for row in effects.finishes:
            state = states.get(row.execution)
            live.finished(row)
            if state is None:
                continue
            start = state.start
            if state.deadline_us:
                wheel.drop_deadline(state.deadline_us, row.execution)
            if start.concurrency_key is not None:
                self._queues.ended(start)
            if start.parent is not None:
                self._children.ended(start, row)
        self._counters.add("finished", len(effects.finishes))
        self._waits.finished(effects.finishes)

    def _start(self, starts: list[Starting], started: frozenset[int], now_us: int) -> None:
        live = self._live
        later = Gathering()
        effects = later.effects
        refused: list[Starting] = []
        for starting in starts:
            row = starting.row
            live.held.pop(row.id, None)
            if row.id not in started:
                refused.append(starting)
                if row.concurrency_key is not None or row.status == PENDING:
                    self._queues.refused(row)
                continue
            if row.status == PENDING:
                self._queues.started(row)
                starting.call.put(
                    starting.place, StartOutcome(row.id, row.public_id, True, row.started_us)
                )
                continue
            state = machine.begin(starting.plan, row)
            live.states[row.id] = state
            try:
                if starting.doomed:
                    self._steps.doom(state, starting.doomed, now_us, effects)
                else:
                    self._steps.start(state, now_us, effects)
            except Exception as error:  # noqa: BLE001 (only this execution pays)
                later.strip(row.id)
                self._commits.broken(state, error)
            starting.call.put(
                starting.place, StartOutcome(row.id, row.public_id, True, row.started_us)
            )
        self._counters.add("started", len(starts) - len(refused))
        if effects.rows():
            # A root was skipped or failed at once: what follows waits until that is durable.
            self._commits.gathering.absorb(later)
            self._commits.wake()
        else:
            self.follow(effects, now_us)
        if refused:
            self._jobs.spawn(self._explain(refused))

    async def _explain(self, refused: list[Starting]) -> None:
        """Find out why starts wrote nothing, and answer them."""
        for starting in refused:
            try:
                outcome = await self._reason(starting)
            except DomainError as error:
                starting.call.fail(error)
                return
            starting.call.put(starting.place, outcome)

    async def _reason(self, starting: Starting) -> StartOutcome:
        row = starting.row
        if row.request_id is not None:
            known = await self._store.find_request(row.namespace, row.request_id)
            if known is not None:
                if known.hash == row.request_hash:
                    started_us = started_ms(known.execution) * 1000
                    return StartOutcome(known.execution, known.public_id, False, started_us)
                return _refusal(
                    AlreadyExists(
                        f"request id {row.request_id} was used for another start",
                        reason="REQUEST_ID_REUSED",
                        request_id=row.request_id,
                    )
                )
        if await self._store.find_public(row.namespace, row.public_id) is not None:
            return _refusal(
                AlreadyExists(
                    f"execution {row.public_id} exists already",
                    reason="EXECUTION_EXISTS",
                    execution=row.public_id,
                )
            )
        current = await self._store.workflow_state(row.namespace, row.workflow)
        if current is None:
            return _refusal(
                NotFound(
                    f"there is no workflow {row.workflow}",
                    reason="WORKFLOW_NOT_FOUND",
                    workflow=row.workflow,
                )
            )
        if current[1]:
            return _refusal(
                WrongState(
                    f"workflow {row.workflow} is archived",
                    reason="WORKFLOW_ARCHIVED",
                    workflow=row.workflow,
                )
            )
        return _refusal(
            Conflict(
                f"workflow {row.workflow} changed while the start was on its way: "
                f"revision {row.revision} is not the current one ({current[0]})",
                workflow=row.workflow,
                revision=row.revision,
                current=current[0],
            )
        )

    async def _load(self, wait: BlobWait) -> None:
        """Fetch what a condition or an execution's output needs, then decide."""
        generation = self._live.generation
        data: bytes | None
        try:
            data = await self._blobs.get(wait.key)
        except NotFound:
            data = None
        except DependencyDown:
            self._counters.add("blob_loads_failed")
            self._timers.add(self._clock.now_us() + 1_000_000, wait)
            return
        state = self._live.states.get(wait.state.start.id)
        if generation == self._live.generation and state is wait.state:
            self._steps.blob_loaded(state, wait, data, self._clock.now_us())

    def load_again(self, wait: BlobWait) -> None:
        """Try to fetch a blob once more; called by its timer."""
        self._jobs.spawn(self._load(wait))


def _refusal(error: DomainError) -> StartOutcome:
    return StartOutcome(0, "", False, 0, error)
