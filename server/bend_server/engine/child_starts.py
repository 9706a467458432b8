"""Starts of children: what a parent's task asks for is checked, bounded, and gathered.

A child's start row is in the commit of its parent's CHILD_STARTED, or a letter to the engine that
owns the child's concurrency key.
"""

from bend_server.core import limits, machine
from bend_server.core.errors import (
    Conflict,
    DependencyDown,
    DomainError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    WrongState,
)
from bend_server.core.ids import partition_of
from bend_server.core.model import Failure, StartRow, TaskStatus
from bend_server.core.plan import ExpressionError, NeedsBlob, Plan
from bend_server.core.scope import ExecutionScope
from bend_server.engine.children import Children
from bend_server.engine.commits import Commits
from bend_server.engine.gathering import Starting
from bend_server.engine.inputs import Verdict
from bend_server.engine.lanes import Work
from bend_server.engine.live import Live
from bend_server.engine.mailbox import Mailbox
from bend_server.engine.options import Counters
from bend_server.engine.queues import Queues, partition_of_key
from bend_server.engine.starts import Starts
from bend_server.engine.steps import Steps
from bend_server.language.cel_library import Programs
from bend_server.language.parameters import check_parameters
from bend_server.language.payloads import dump
from bend_server.language.schemas import Schema
from bend_server.ports.clock import Clock
from bend_server.ports.engine import StartOutcome
from bend_server.ports.plans import PlanSource
from bend_server.ports.store import EngineStore

TREES_MAX = 10_000
SCHEMAS_MAX = 512


class ChildCall:
    """Hears what came of a child's start."""

    __slots__ = ("child", "children", "work")

    def __init__(self, children: Children, work: Work, child: int) -> None:
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


class ChildStarts:
    """Starts children.

    Args:
        verdict: ends a try that the engine judges itself.
    """

    def __init__(
        self,
        store: EngineStore,
        plans: PlanSource,
        clock: Clock,
        live: Live,
        commits: Commits,
        steps: Steps,
        starts: Starts,
        queues: Queues,
        children: Children,
        mailbox: Mailbox,
        counters: Counters,
    ) -> None:
        self._store = store
        self._plans = plans
        self._clock = clock
        self._live = live
        self._commits = commits
        self._steps = steps
        self._starts = starts
        self._queues = queues
        self._children = children
        self._mailbox = mailbox
        self._counters = counters
        self._trees: dict[int, int] = {}
        self._schemas: dict[tuple[str, str, int], Schema] = {}
        self.verdict: Verdict

    def clear(self) -> None:
        """Forget how large trees are."""
        self._trees.clear()

    async def start(self, work: Work, body: object) -> None:
        """Start the child that a try asks for, or fail the try."""
        ready = work[0]
        generation = self._live.generation
        try:
            plan, data = await self._resolve(ready.state.start, body)
            await self._within_bounds(ready.state.start)
            await self._commits.room()
            self._has_room(ready.state.start)  # others may have started meanwhile
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
        """Raise LimitExceeded when a tree would become too deep; find out how large it is."""
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
            size = 1 + await self._store.tree_size(root)
            self._trees.setdefault(root, size)

    def _has_room(self, parent: StartRow) -> None:
        """Raise LimitExceeded when a tree would become too large.

        Starts of other engines since the first look are not counted.
        """
        if self._trees.get(parent.root or parent.id, 1) >= limits.TREE_EXECUTIONS_MAX:
            raise LimitExceeded(
                f"the tree has {limits.TREE_EXECUTIONS_MAX} executions already",
                limit=limits.TREE_EXECUTIONS_MAX,
            )

    def _begin(self, work: Work, plan: Plan, data: bytes) -> None:
        """Gather a child's start with its parent's event. No await in here."""
        ready = work[0]
        parent = ready.state.start
        timeout_us = ready.state.plan.tasks[ready.task].timeout_us
        key: str | None = None
        partition = partition_of(parent.id)
        if plan.concurrency is not None:
            probe = self._starts.child(parent, ready.task, partition, plan, data, None, timeout_us)
            try:
                key = plan.concurrency.key(ExecutionScope(machine.begin(plan, probe)))
            except (ExpressionError, NeedsBlob) as error:
                failure = Failure("INVALID_PARAMETERS", f"the child's concurrency key: {error}")
                self.verdict(work, TaskStatus.FAILED, failure)
                return
            partition = partition_of_key(plan.namespace, plan.workflow, key)
        row = self._starts.child(parent, ready.task, partition, plan, data, key, timeout_us)
        if not self._steps.begin_child(ready, row.id, row.public_id, self._clock.now_us()):
            return
        starting = Starting(
            row, plan, current=False, call=ChildCall(self._children, work, row.id), place=0
        )
        starting.whole = parent.id
        if partition in self._live.owned:
            self._queues.enter(starting)
            self._live.held[row.id] = None
            self._commits.gathering.starts.append(starting)
        else:
            self._mailbox.start(row)
        self._commits.wake()
        self._children.expect(row.id, parent.id, (ready.task, ready.item))
        root = row.root or parent.id
        self._trees[root] = self._trees.get(root, 1) + 1
        self._counters.add("children_started")
