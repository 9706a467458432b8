"""Starts: many executions through the group commit."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import orjson

from bend.internal.v1 import control_pb2
from bend_server.core import machine
from bend_server.core.errors import (
    Conflict,
    DependencyDown,
    DomainError,
    InvalidInput,
    LimitExceeded,
)
from bend_server.core.ids import make_id, public_id, started_ms
from bend_server.core.model import ExecutionStatus, StartRow
from bend_server.core.plan import ExpressionError, NeedsBlob, Plan
from bend_server.core.scope import ExecutionScope
from bend_server.engine.commits import Commits
from bend_server.engine.gathering import StartCall, Starting
from bend_server.engine.jobs import Jobs
from bend_server.engine.live import Live
from bend_server.engine.options import EngineOptions
from bend_server.engine.queues import Queues, address, partition_of_key
from bend_server.ports.clock import Chance, Clock
from bend_server.ports.engine import StartCommand, StartOutcome
from bend_server.ports.plans import PlanSource

ANSWER_S = 30.0
CHUNK = 256

# One object for all: a hundred thousand waiting executions should not hold as many copies.
_NO_LABELS = b"{}"
_RUNNING = int(ExecutionStatus.RUNNING)

Plans = dict[tuple[str, str, int], Plan | DomainError]
Send = Callable[[control_pb2.EngineCommand], Awaitable[control_pb2.EngineCommandResult]]


class Starts:
    """Accepts executions; each is judged alone, by SQL."""

    def __init__(
        self,
        clock: Clock,
        chance: Chance,
        live: Live,
        commits: Commits,
        plans: PlanSource,
        queues: Queues,
        jobs: Jobs,
        options: EngineOptions,
    ) -> None:
        self._clock = clock
        self._live = live
        self._commits = commits
        self._plans = plans
        self._queues = queues
        self._jobs = jobs
        self._admitted_max = options.executions_admitted_max
        self._live_max = options.executions_live_max
        # A random start keeps ids apart from those an earlier process made in the same millisecond.
        self._counter = chance.u64() & 0xFFFF
        self._turn = 0
        self.send: Send

    async def start(
        self, commands: Sequence[StartCommand], *, here: bool = False
    ) -> list[StartOutcome]:
        """Start many; answer in order, after the commit. Raises DependencyDown.

        A start whose concurrency key belongs to another engine goes there, or raises Conflict when
        it has to be `here`.
        """
        if not commands:
            return []
        plans = await self._find_plans(commands)
        call = StartCall(len(commands), asyncio.get_running_loop().create_future())
        keyed = self._keyed(commands, plans, call)
        for place, (key, partition) in list(keyed.items()):
            if partition in self._live.owned:
                continue
            if here:
                raise Conflict("the concurrency key belongs to another engine", key=key)
            del keyed[place]
            self._jobs.spawn(self._forward(commands[place], partition, call, place))
        try:
            async with asyncio.timeout(ANSWER_S):
                for place in range(0, len(commands), CHUNK):
                    await self._commits.room()
                    self._put(commands, place, plans, keyed, call)
                    self._commits.wake()
                await call.answer
        except TimeoutError as error:
            raise DependencyDown("the start was not committed in time") from error
        return cast("list[StartOutcome]", call.outcomes)

    async def _find_plans(self, commands: Sequence[StartCommand]) -> Plans:
        plans: Plans = {}
        for command in commands:
            key = (command.namespace, command.workflow, command.revision)
            if key in plans:
                continue
            known = self._plans.known(*key)
            if known is not None:
                plans[key] = known
                continue
            try:
                plans[key] = await self._plans.plan(*key)
            except DependencyDown:
                raise
            except DomainError as error:
                plans[key] = error
        return plans

    def _keyed(
        self, commands: Sequence[StartCommand], plans: Plans, call: StartCall
    ) -> dict[int, tuple[str, int]]:
        """Return the concurrency key and its partition of each start that has one, by place."""
        if not any(isinstance(plan, Plan) and plan.concurrency for plan in plans.values()):
            return {}
        keyed: dict[int, tuple[str, int]] = {}
        now_us = self._clock.now_us()
        for place, command in enumerate(commands):
            plan = plans[command.namespace, command.workflow, command.revision]
            if isinstance(plan, DomainError) or plan.concurrency is None:
                continue
            state = machine.begin(plan, self._row(command, plan, now_us, 0))
            try:
                key = plan.concurrency.key(ExecutionScope(state))
            except (ExpressionError, NeedsBlob) as error:
                message = f"the concurrency key cannot be evaluated: {error}"
                refused = InvalidInput(message, reason="INVALID_PARAMETERS", path="concurrency")
                call.put(place, StartOutcome(0, "", False, 0, refused))
                continue
            keyed[place] = key, partition_of_key(plan.namespace, plan.workflow, key)
        return keyed

    async def _forward(
        self, command: StartCommand, partition: int, call: StartCall, place: int
    ) -> None:
        """Have the owner of a concurrency key start an execution."""
        start = control_pb2.EngineCommand.Start(
            namespace=command.namespace,
            workflow=command.workflow,
            revision=command.revision,
            current=command.current,
            input=command.input,
            labels=command.labels,
            request_id=command.request_id,
            request_hash=command.request_hash or b"",
            execution_id=command.execution_id,
            trace=command.trace,
            rerun_of=command.rerun_of,
        )
        try:
            result = await self.send(
                control_pb2.EngineCommand(
                    execution=address(partition), actor=command.actor, start=start
                )
            )
        except DependencyDown as error:
            call.fail(error)
        except DomainError as error:
            call.put(place, StartOutcome(0, "", False, 0, error))
        else:
            started_us = started_ms(result.execution) * 1000
            outcome = StartOutcome(result.execution, result.public_id, result.created, started_us)
            call.put(place, outcome)

    def _put(
        self,
        commands: Sequence[StartCommand],
        first: int,
        plans: Plans,
        keyed: dict[int, tuple[str, int]],
        call: StartCall,
    ) -> None:
        """Add one chunk to the next commit; no await in here, so that ownership cannot move."""
        live = self._live
        if not live.order:
            raise DependencyDown("this engine owns no partition now")
        now_us = self._clock.now_us()
        gathering = self._commits.gathering
        for place in range(first, min(first + CHUNK, len(commands))):
            command = commands[place]
            plan = plans[command.namespace, command.workflow, command.revision]
            if isinstance(plan, DomainError):
                call.put(place, StartOutcome(0, "", False, 0, plan))
                continue
            busy = len(live.states) + len(live.held)
            if busy + self._queues.waiting >= self._live_max:
                error = LimitExceeded(
                    f"{self._live_max} executions are live already",
                    reason="OVERLOADED",
                    limit=self._live_max,
                )
                call.put(place, StartOutcome(0, "", False, 0, error))
                continue
            key: str | None = None
            if plan.concurrency is not None:
                if place not in keyed:
                    continue  # answered already, or by another engine
                key, partition = keyed[place]
                if partition not in live.owned:
                    moved = Conflict("the concurrency key moved to another engine", key=key)
                    call.put(place, StartOutcome(0, "", False, 0, moved))
                    continue
            else:
                self._turn += 1
                partition = live.order[self._turn % len(live.order)]
            row = self._row(command, plan, now_us, partition, key)
            starting = Starting(row, plan, current=command.current, call=call, place=place)
            if key is not None:
                self._queues.enter(starting)
            elif busy >= self._admitted_max:
                self._queues.queue(starting)
            live.held[row.id] = None
            gathering.starts.append(starting)

    def child(
        self,
        parent: StartRow,
        task: int,
        partition: int,
        plan: Plan,
        data: bytes,
        key: str | None,
        timeout_us: int,
    ) -> StartRow:
        """Return the row of a child that is about to start; its task's timeout bounds it, too."""
        now_us = self._clock.now_us()
        wish = StartCommand(
            namespace=plan.namespace,
            workflow=plan.workflow,
            revision=plan.revision,
            current=False,
            input=data,
            labels=orjson.dumps(dict(plan.labels)),
            request_id="",
            request_hash=None,
            execution_id="",
            actor=parent.actor,
            trace=parent.trace,
        )
        row = self._row(wish, plan, now_us, partition, key)
        bound_us = now_us + timeout_us
        return row._replace(
            parent=parent.id,
            parent_task=task,
            root=parent.root or parent.id,
            deadline_us=min(row.deadline_us or bound_us, bound_us),
        )

    def _row(
        self,
        command: StartCommand,
        plan: Plan,
        now_us: int,
        partition: int,
        key: str | None = None,
    ) -> StartRow:
        self._counter += 1
        execution = make_id(now_us, partition, self._counter)
        return StartRow(
            id=execution,
            public_id=command.execution_id or public_id(command.workflow, execution),
            namespace=plan.namespace,
            workflow=plan.workflow,
            revision=command.revision,
            partition=partition,
            run=1,
            status=_RUNNING,
            priority=plan.priority,
            concurrency_key=key,
            parent=None,
            parent_task=None,
            root=None,
            rerun_of=command.rerun_of or None,
            request_id=command.request_id or None,
            request_hash=command.request_hash,
            actor=command.actor,
            input=command.input,
            labels=command.labels if len(command.labels) > 2 else _NO_LABELS,
            trace=command.trace,
            started_us=now_us,
            deadline_us=now_us + plan.timeout_us if plan.timeout_us else 0,
        )
