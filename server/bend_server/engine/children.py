"""Sub-workflows: children are started, their ends reach their parents, and cancels reach them.

A child's start row is in the commit of its parent's CHILD_STARTED. Its end is told to the parent
once it is durable; whatever is lost on the way is found by looking children up in SQL: after a
takeover, and from time to time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import orjson
import structlog

from bend_server.core import limits, machine
from bend_server.core.effects import ChildWish
from bend_server.core.errors import (
    Conflict,
    DependencyDown,
    DomainError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    WrongState,
)
from bend_server.core.ids import partition_of, started_ms
from bend_server.core.model import (
    EXECUTION_TERMINAL,
    ExecutionStatus,
    Failure,
    FinishRow,
    Outcome,
    StartRow,
    TaskStatus,
)
from bend_server.core.plan import ExpressionError, NeedsBlob, Plan
from bend_server.core.scope import ExecutionScope
from bend_server.core.state import ExecutionState, Unit
from bend_server.engine.adoption import Adoption
from bend_server.engine.commits import Commits
from bend_server.engine.gathering import Starting
from bend_server.engine.inputs import Verdict
from bend_server.engine.jobs import Jobs
from bend_server.engine.lanes import Work
from bend_server.engine.live import Live
from bend_server.engine.options import Counters
from bend_server.engine.queues import Queues, partition_of_key
from bend_server.engine.starts import Starts
from bend_server.engine.steps import Steps
from bend_server.language.cel_library import Programs
from bend_server.language.parameters import check_parameters
from bend_server.language.payloads import dump
from bend_server.language.schemas import Schema
from bend_server.ports.clock import Clock
from bend_server.ports.control import ChildRow
from bend_server.ports.engine import StartOutcome
from bend_server.ports.plans import PlanSource
from bend_server.ports.store import EngineStore

log = structlog.get_logger()

LOOK_S = 30.0
PAGE = 1000
TREES_MAX = 10_000
SCHEMAS_MAX = 512
WISH_TRIES = 10
WISH_PAUSE_S = 1.0

_COMPLETED = int(ExecutionStatus.COMPLETED)
_REASONS = {
    int(ExecutionStatus.FAILED): "CHILD_FAILED",
    int(ExecutionStatus.CANCELLED): "CHILD_CANCELLED",
    int(ExecutionStatus.TIMED_OUT): "CHILD_TIMED_OUT",
}
Retry = Callable[[int, int, str, str], Awaitable[None]]
Cancel = Callable[[int, str, str, str], Awaitable[ExecutionStatus]]


class ChildCall:
    """Hears what came of a child's start."""

    __slots__ = ("child", "children", "work")

    def __init__(self, children: "Children", work: Work, child: int) -> None:
        self.children = children
        self.work = work
        self.child = child

    def put(self, place: int, outcome: StartOutcome) -> None:
        """Take the outcome; a refusal fails the parent's task."""
        if outcome.error is not None:
            self.children.refused(self.work, outcome.error)

    def fail(self, error: Exception) -> None:
        """Hear that nobody knows: memory is dropped, and recovery finds out."""
        self.children.lost(self.child)


class Children:
    """Knows the open children of the executions in memory.

    Args:
        verdict: ends a try that the engine judges itself.
        cancel: cancels an execution, wherever its owner is.
        retry: opens a new run of a child.
    """

    def __init__(
        self,
        store: EngineStore,
        plans: PlanSource,
        clock: Clock,
        live: Live,
        commits: Commits,
        steps: Steps,
        adoption: Adoption,
        starts: Starts,
        queues: Queues,
        jobs: Jobs,
        counters: Counters,
    ) -> None:
        self._store = store
        self._plans = plans
        self._clock = clock
        self._live = live
        self._commits = commits
        self._steps = steps
        self._adoption = adoption
        self._starts = starts
        self._queues = queues
        self._jobs = jobs
        self._counters = counters
        # Parent and unit of each child whose end is awaited.
        self._units: dict[int, tuple[int, Unit]] = {}
        self._trees: dict[int, int] = {}
        self._schemas: dict[tuple[str, str, int], Schema] = {}
        self.verdict: Verdict
        self.cancel: Cancel
        self.retry: Retry

    def clear(self) -> None:
        """Forget everything."""
        self._units.clear()
        self._trees.clear()

    def forget(self, partitions: frozenset[int]) -> None:
        """Forget the children of parents that go elsewhere."""
        for child in [
            child
            for child, (parent, _) in self._units.items()
            if partition_of(parent) in partitions
        ]:
            del self._units[child]

    # Starting

    async def start(self, work: Work, body: object) -> None:
        """Start the child that a try asks for, or fail the try."""
        ready = work[0]
        generation = self._live.generation
        try:
            plan, data = await self._resolve(ready.state.start, body)
            await self._within_bounds(ready.state.start)
            await self._commits.room()
        except (DependencyDown, Conflict) as error:
            failure = Failure("DEPENDENCY_DOWN", error.message, retryable=True)
        except DomainError as error:
            failure = Failure(error.reason, error.message)
        else:
            if generation == self._live.generation:
                self._begin(work, plan, data)
            return
        if generation == self._live.generation:
            self.verdict(work, TaskStatus.FAILED, failure)

    async def _resolve(self, parent: StartRow, body: object) -> tuple[Plan, bytes]:
        """Return the child's plan and its checked parameters. Raises DomainError."""
        name = body.get("workflow") if isinstance(body, dict) else None
        if not isinstance(body, dict) or not isinstance(name, str):
            raise InvalidInput("the input names no workflow")
        current = await self._store.workflow_state(parent.namespace, name)
        if current is None:
            raise NotFound(
                f"there is no workflow {name}", reason="WORKFLOW_NOT_FOUND", workflow=name
            )
        if current[1]:
            raise WrongState(
                f"workflow {name} is archived", reason="WORKFLOW_ARCHIVED", workflow=name
            )
        revision = body.get("revision") or current[0]
        if not isinstance(revision, int):
            raise InvalidInput(f"revision {revision!r} is no number")
        plan = await self._plans.plan(parent.namespace, name, revision)
        given = body.get("input")
        data = dump({} if given is None else given)
        if data[:1] != b"{":
            raise InvalidInput("input is no object", reason="INVALID_PARAMETERS")
        return plan, check_parameters(data, self._schema(plan))

    def _schema(self, plan: Plan) -> Schema | None:
        if plan.input_schema is None:
            return None
        key = (plan.namespace, plan.workflow, plan.revision)
        schema = self._schemas.get(key)
        if schema is None:
            if len(self._schemas) >= SCHEMAS_MAX:
                self._schemas.clear()
            schema = self._schemas[key] = Schema(plan.input_schema, Programs())
        return schema

    async def _within_bounds(self, parent: StartRow) -> None:
        """Raise LimitExceeded when a tree would become too deep or too large."""
        depth = 1
        above = parent.parent
        while above is not None:
            depth += 1
            if depth > limits.CHILD_DEPTH_MAX:
                raise LimitExceeded(
                    f"children would nest deeper than {limits.CHILD_DEPTH_MAX}",
                    limit=limits.CHILD_DEPTH_MAX,
                )
            state = self._live.states.get(above)
            if state is not None:
                above = state.start.parent
            else:
                rows = await self._store.children([above])
                above = rows[0].parent if rows else None
        root = parent.root or parent.id
        if root not in self._trees:
            if len(self._trees) >= TREES_MAX:
                del self._trees[next(iter(self._trees))]
            self._trees[root] = await self._store.tree_size(root)
        if self._trees[root] >= limits.TREE_EXECUTIONS_MAX:
            raise LimitExceeded(
                f"the tree has {limits.TREE_EXECUTIONS_MAX} executions already",
                limit=limits.TREE_EXECUTIONS_MAX,
            )

    def _begin(self, work: Work, plan: Plan, data: bytes) -> None:
        """Gather a child's start with its parent's event. No await in here."""
        ready = work[0]
        parent = ready.state.start
        key: str | None = None
        partition = partition_of(parent.id)
        if plan.concurrency is not None:
            probe = self._starts.child(parent, ready.task, partition, plan, data, None)
            try:
                key = plan.concurrency.key(ExecutionScope(machine.begin(plan, probe)))
            except (ExpressionError, NeedsBlob) as error:
                failure = Failure("INVALID_PARAMETERS", f"the child's concurrency key: {error}")
                self.verdict(work, TaskStatus.FAILED, failure)
                return
            partition = partition_of_key(plan.namespace, plan.workflow, key)
            if partition not in self._live.owned:
                failure = Failure(
                    "OWNERSHIP_MOVED",
                    f"the concurrency key {key} of workflow {plan.workflow} belongs to another "
                    "engine, where this one cannot start children",
                    retryable=True,
                )
                self.verdict(work, TaskStatus.FAILED, failure)
                return
        row = self._starts.child(parent, ready.task, partition, plan, data, key)
        if not self._steps.begin_child(ready, row.id, row.public_id, self._clock.now_us()):
            return
        starting = Starting(row, plan, current=False, call=ChildCall(self, work, row.id), place=0)
        self._queues.enter(starting)
        self._live.held[row.id] = None
        self._commits.gathering.starts.append(starting)
        self._commits.wake()
        self._units[row.id] = (parent.id, (ready.task, ready.item))
        root = row.root or parent.id
        self._trees[root] = self._trees.get(root, 0) + 1
        self._counters.add("children_started")

    def refused(self, work: Work, error: DomainError) -> None:
        """Fail a try whose child wrote nothing."""
        self.verdict(work, TaskStatus.FAILED, Failure(error.reason, error.message))

    def lost(self, child: int) -> None:
        """Forget a child whose start was not committed."""
        self._live.held.pop(child, None)
        self._units.pop(child, None)

    # Ends

    def ended(self, start: StartRow, finish: FinishRow) -> None:
        """Tell the parent that a child has ended; called once that is durable."""
        row = ChildRow(
            start.id,
            start.parent or 0,
            start.parent_task or 0,
            finish.status,
            finish.run,
            finish.output,
            finish.blob,
            finish.error,
            finish.finished_us,
        )
        parent = self._live.states.get(row.parent)
        if parent is not None:
            self._apply(parent, row)
        elif self._live.owns(row.parent):
            self._jobs.spawn(self._tell(row))

    async def _tell(self, row: ChildRow) -> None:
        """Bring a parent that is not in memory back, and tell it."""
        try:
            parent = await self._adoption.load(row.parent)
        except DomainError as error:
            log.warning("parent_not_told", child=row.execution, reason=error.reason)
            return
        if parent is not None:
            self._apply(parent, row)

    def _apply(self, parent: ExecutionState, row: ChildRow) -> None:
        entry = self._units.get(row.execution)
        unit = entry[1] if entry is not None else _unit_of(parent, row.execution)
        if unit is None:
            return
        child = parent.child(*unit)
        if child is None or child.id != row.execution:
            self._units.pop(row.execution, None)
            return
        if row.run < child.run:
            # The end of the run before: the wish to retry is on its way, or was lost.
            wish = ChildWish("retry", child.id, parent.start.id, *unit, child.try_, "", "")
            self._jobs.spawn(self._fulfil(wish))
            return
        self._units.pop(row.execution, None)
        now_us = self._clock.now_us()
        self._steps.apply(parent, _outcome(unit, child.try_, row, now_us), now_us)

    # What a recovery has to look after

    def adopted(self, states: Iterable[ExecutionState]) -> None:
        """Look after the children, and the parents, of executions that came from SQL."""
        asked: list[int] = []
        orphans: dict[int, int] = {}
        for state in states:
            control = state.control
            if control is not None:
                for unit, child in control.children.items():
                    if state.open_try(*unit) == child.try_:
                        self._units[child.id] = (state.start.id, unit)
                        asked.append(child.id)
            if state.start.parent is not None:
                orphans[state.start.id] = state.start.parent
        if asked or orphans:
            self._jobs.spawn(self._look(asked, orphans))

    async def run(self) -> None:
        """Look awaited children up, once a period."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look(list(self._units), {})

    async def _look(self, asked: list[int], orphans: dict[int, int]) -> None:
        """Ask SQL for children that are not in memory, and for parents of those that are."""
        live = self._live
        try:
            wanted = [one for one in asked if one not in live.states and one not in live.held]
            for place in range(0, len(wanted), PAGE):
                page = wanted[place : place + PAGE]
                rows = {row.execution: row for row in await self._store.children(page)}
                for child in page:
                    await self._found(child, rows.get(child))
            lonely = {
                child: parent for child, parent in orphans.items() if parent not in live.states
            }
            parents = list(dict.fromkeys(lonely.values()))
            for place in range(0, len(parents), PAGE):
                statuses = await self._store.statuses(parents[place : place + PAGE])
                for child, parent in lonely.items():
                    if statuses.get(parent) in EXECUTION_TERMINAL and child in live.states:
                        await self.cancel(child, "the parent has ended", "", "")
        except DomainError as error:
            log.warning("children_not_looked_up", reason=error.reason)

    async def _found(self, child: int, row: ChildRow | None) -> None:
        entry = self._units.get(child)
        live = self._live
        if entry is None or child in live.states or child in live.held:
            return
        parent = live.states.get(entry[0])
        if parent is None:
            if not live.owns(entry[0]):
                del self._units[child]
                return
            parent = await self._adoption.load(entry[0])
            if parent is None:
                self._units.pop(child, None)
                return
        if row is None:
            known = parent.child(*entry[1])
            self._units.pop(child, None)
            if known is not None and known.id == child:
                failure = Failure("CHILD_FAILED", "the child was never started")
                outcome = _failed(entry[1], known.try_, failure, self._clock.now_us())
                self._steps.apply(parent, outcome, self._clock.now_us())
        elif row.status in EXECUTION_TERMINAL:
            self._apply(parent, row)

    # Wishes

    def wishes(self, wishes: list[ChildWish]) -> None:
        """Do to children what their parents decided."""
        for wish in wishes:
            if wish.verb == "retry":
                self._units[wish.child] = (wish.parent, (wish.task, wish.item))
            self._jobs.spawn(self._fulfil(wish))

    async def _fulfil(self, wish: ChildWish) -> None:
        """Carry a wish out; what is not possible now is tried again, then left to the look-up."""
        for turn in range(WISH_TRIES):
            try:
                if wish.verb == "cancel":
                    await self.cancel(wish.child, wish.reason or "the parent ends", wish.actor, "")
                else:
                    await self._retry(wish)
                return
            except (WrongState, NotFound):
                return
            except DomainError as error:
                if turn + 1 == WISH_TRIES:
                    log.warning("child_not_reached", child=wish.child, reason=error.reason)
            await asyncio.sleep(WISH_PAUSE_S)

    async def _retry(self, wish: ChildWish) -> None:
        parent = await self._adoption.load(wish.parent)
        known = None if parent is None else parent.child(wish.task, wish.item)
        if known is not None and known.id == wish.child:
            await self.retry(wish.child, known.run, wish.reason or "the parent retries", wish.actor)

    async def give_up(self, child: int) -> None:
        """A child that cannot be retried fails its parent's try with what it ended with."""
        entry = self._units.get(child)
        rows = await self._store.children([child])
        if entry is None or not rows:
            return
        parent = await self._adoption.load(entry[0])
        known = None if parent is None else parent.child(*entry[1])
        if parent is not None and known is not None and known.id == child:
            self._units.pop(child, None)
            now_us = self._clock.now_us()
            self._steps.apply(parent, _outcome(entry[1], known.try_, rows[0], now_us), now_us)


def _unit_of(parent: ExecutionState, child: int) -> Unit | None:
    if parent.control is None:
        return None
    return next(
        (unit for unit, known in parent.control.children.items() if known.id == child), None
    )


def _outcome(unit: Unit, try_: int, row: ChildRow, now_us: int) -> Outcome:
    """Return what a child's end means for the try that it serves."""
    if row.status != _COMPLETED:
        error = orjson.loads(row.error) if row.error else {}
        failure = Failure(
            _REASONS.get(row.status, "CHILD_FAILED"),
            error.get("message", "") or f"the child ended {ExecutionStatus(row.status).name}",
            details=orjson.dumps({"child": str(row.execution), "error": error}),
        )
        return _failed(unit, try_, failure, now_us)
    output = b"null" if row.output is None and row.blob is None else row.output
    return Outcome(
        *unit,
        try_,
        TaskStatus.COMPLETED,
        output,
        row.blob,
        None,
        "",
        0,
        0,
        started_ms(row.execution) * 1000,
        row.finished_us or now_us,
    )


def _failed(unit: Unit, try_: int, failure: Failure, now_us: int) -> Outcome:
    return Outcome(*unit, try_, TaskStatus.FAILED, None, None, failure, "", 0, 0, 0, now_us)
