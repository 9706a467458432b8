"""Starts: many executions through the group commit."""

import asyncio
from collections.abc import Sequence
from typing import cast

from bend_server.core.errors import DependencyDown, DomainError, LimitExceeded
from bend_server.core.ids import make_id, public_id
from bend_server.core.model import ExecutionStatus, StartRow
from bend_server.core.plan import Plan
from bend_server.engine.commits import Commits
from bend_server.engine.gathering import StartCall, Starting
from bend_server.engine.live import Live
from bend_server.engine.options import EngineOptions
from bend_server.ports.clock import Chance, Clock
from bend_server.ports.engine import StartCommand, StartOutcome
from bend_server.ports.plans import PlanSource

ANSWER_S = 30.0
CHUNK = 256

# One object for all: a hundred thousand waiting executions should not hold as many copies.
_NO_LABELS = b"{}"
_RUNNING = int(ExecutionStatus.RUNNING)


class Starts:
    """Accepts executions; each is judged alone, by SQL."""

    def __init__(
        self,
        clock: Clock,
        chance: Chance,
        live: Live,
        commits: Commits,
        plans: PlanSource,
        options: EngineOptions,
    ) -> None:
        self._clock = clock
        self._live = live
        self._commits = commits
        self._plans = plans
        self._live_max = options.executions_live_max
        # A random start keeps ids apart from those an earlier process made in the same millisecond.
        self._counter = chance.u64() & 0xFFFF
        self._turn = 0

    async def start(self, commands: Sequence[StartCommand]) -> list[StartOutcome]:
        """Start many; answer in order, after the commit. Raises DependencyDown."""
        if not commands:
            return []
        plans = await self._find_plans(commands)
        call = StartCall(len(commands), asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(ANSWER_S):
                for place in range(0, len(commands), CHUNK):
                    await self._commits.room()
                    self._put(commands, place, plans, call)
                    self._commits.wake()
                await call.answer
        except TimeoutError as error:
            raise DependencyDown("the start was not committed in time") from error
        return cast("list[StartOutcome]", call.outcomes)

    async def _find_plans(
        self, commands: Sequence[StartCommand]
    ) -> dict[tuple[str, str, int], Plan | DomainError]:
        plans: dict[tuple[str, str, int], Plan | DomainError] = {}
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

    def _put(
        self,
        commands: Sequence[StartCommand],
        first: int,
        plans: dict[tuple[str, str, int], Plan | DomainError],
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
            if len(live.states) + len(live.held) >= self._live_max:
                error = LimitExceeded(
                    f"{self._live_max} executions are live already",
                    reason="OVERLOADED",
                    limit=self._live_max,
                )
                call.put(place, StartOutcome(0, "", False, 0, error))
                continue
            row = self._row(command, plan, now_us)
            live.held[row.id] = None
            gathering.starts.append(
                Starting(row, plan, current=command.current, call=call, place=place)
            )

    def _row(self, command: StartCommand, plan: Plan, now_us: int) -> StartRow:
        order = self._live.order
        self._turn += 1
        self._counter += 1
        partition = order[self._turn % len(order)]
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
            concurrency_key=None,
            parent=None,
            parent_task=None,
            root=None,
            rerun_of=None,
            request_id=command.request_id or None,
            request_hash=command.request_hash,
            actor=command.actor,
            input=command.input,
            labels=command.labels if len(command.labels) > 2 else _NO_LABELS,
            trace=command.trace,
            started_us=now_us,
            deadline_us=now_us + plan.timeout_us if plan.timeout_us else 0,
        )
