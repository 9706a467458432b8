"""What owners do when asked: pause, resume, retry, reset, signal, decide, start.

Each command is durable before it is answered. Those with a request id leave a row in the commit of
their effects; a repetition is answered from it.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial

import orjson

from bend.internal.v1 import control_pb2
from bend_server.core.errors import (
    AlreadyExists,
    DependencyDown,
    InvalidInput,
    LimitExceeded,
    NotFound,
    NotPermitted,
    WrongState,
)
from bend_server.core.model import EXECUTION_TERMINAL, ExecutionStatus, StartRow
from bend_server.core.state import ExecutionState
from bend_server.core.waits import SignalTaken
from bend_server.engine.adoption import Adoption
from bend_server.engine.commits import Commits
from bend_server.engine.live import Live
from bend_server.engine.steps import Steps
from bend_server.ports.clock import Clock
from bend_server.ports.control import APPROVAL_PENDING, ApprovalSummary, RequestRow
from bend_server.ports.engine import Decision, StartCommand, StartOutcome
from bend_server.ports.store import EngineStore

COMMAND_S = 10.0
REQUEST_TTL_US = 7 * 86_400 * 1_000_000
APPROVED, REJECTED = 2, 3
_HASH = 32
_USER = "user/"

Command = control_pb2.EngineCommand
Result = control_pb2.EngineCommandResult
Verb = Callable[[Command], Awaitable[Result]]
StartHere = Callable[[list[StartCommand]], Awaitable[list[StartOutcome]]]


class Controls:
    """Carries out commands on executions that belong here.

    All verbs raise Conflict when the execution moved to another engine meanwhile, DependencyDown,
    NotFound, and WrongState with the reason in words.

    Args:
        start_here: starts executions whose partition belongs here.
        must_wait: whether an execution that has ended has to wait for a slot of its key; raises
            WrongState when it may not.
    """

    def __init__(
        self,
        store: EngineStore,
        clock: Clock,
        live: Live,
        commits: Commits,
        steps: Steps,
        adoption: Adoption,
    ) -> None:
        self._store = store
        self._clock = clock
        self._live = live
        self._commits = commits
        self._steps = steps
        self._adoption = adoption
        self._busy: dict[str, asyncio.Event] = {}
        self.start_here: StartHere
        self.must_wait: Callable[[StartRow], bool]
        self._verbs: dict[str, Verb] = {
            "pause": self._pause,
            "resume": self._resume,
            "retry": self._retry,
            "reset": self._reset,
            "signal": self._signal,
            "decision": self._decide,
            "start": self._start,
        }

    async def carry_out(self, command: Command) -> Result:
        """Do what a command says."""
        verb = self._verbs.get(command.WhichOneof("command") or "")
        if verb is None:
            raise InvalidInput("this engine does not know the command")
        try:
            return await verb(command)
        except (WrongState, LimitExceeded):
            # Memory runs ahead of SQL: what it refuses for must be durable, too.
            await self.durable()
            raise

    async def durable(self) -> None:
        """Wait until what is gathered is committed. Raises DependencyDown, LeaseLost."""
        try:
            async with asyncio.timeout(COMMAND_S):
                await self._commits.after()
        except TimeoutError as error:
            raise DependencyDown("the command was not committed in time") from error

    async def retry_child(
        self, child: int, run: int, reason: str, actor: str, timeout_us: int
    ) -> bool:
        """Open a child's run `run`, because its parent does the task again, with its timeout.

        False: the child cannot do anything again: it has completed, was compensated, or is unknown.
        """

        def verb(state: ExecutionState) -> bool:
            if state.run >= run or (state.terminal and not self._has_turn(state)):
                return False
            now_us, queued = self._clock.now_us(), state.terminal and self.must_wait(state.start)
            return self._steps.retry(state, reason, actor, now_us, timeout_us, queued=queued)

        state, opened = await self._adoption.reopen(child, verb)
        if opened:
            await self.durable()
        return opened or (state is not None and (not state.terminal or state.run >= run))

    def _has_turn(self, state: ExecutionState) -> bool:
        """Return whether a child that has ended may run again, now or later."""
        try:
            self.must_wait(state.start)
        except WrongState:
            return False
        return True

    async def _pause(self, command: Command) -> Result:
        state = await self._loaded(command.execution)
        now_us = self._clock.now_us()
        if not self._steps.pause(state, command.pause, command.actor, now_us) and not state.paused:
            raise _refusal(state, "cannot be paused")
        await self.durable()
        return Result(status=state.status, run=state.run)

    async def _resume(self, command: Command) -> Result:
        state = await self._loaded(command.execution)
        if state.quarantined:
            raise _refusal(state, "is quarantined and cannot go on")
        went_on = self._steps.unpause(state, command.actor, self._clock.now_us())
        if not went_on and (state.terminal or state.status == ExecutionStatus.PENDING):
            raise _refusal(state, "cannot go on")
        await self.durable()
        return Result(status=state.status, run=state.run)

    async def _retry(self, command: Command) -> Result:
        return await self._once(
            command, "retry", command.retry.encode(), partial(self._open_run, command, None)
        )

    async def _reset(self, command: Command) -> Result:
        task = command.reset.task
        content = orjson.dumps([task, command.reset.reason])
        return await self._once(command, "reset", content, partial(self._open_run, command, task))

    async def _open_run(self, command: Command, task: str | None) -> bytes:
        """Open a new run; return the answer as it is stored: the run."""
        now_us = self._clock.now_us()

        def verb(state: ExecutionState) -> bool:
            if state.start.parent is not None:
                root = state.start.root or state.start.parent
                raise WrongState(
                    "the execution is a child: it is retried and reset through its root",
                    root=root,
                    execution=state.public_id,
                )
            queued = state.terminal and self.must_wait(state.start)
            if task is None:
                return self._steps.retry(state, command.retry, command.actor, now_us, queued=queued)
            index = state.plan.index.get(task)
            if index is None:
                raise InvalidInput(f"the workflow has no task {task}", task=task)
            return self._steps.reset(
                state, index, command.reset.reason, command.actor, now_us, queued=queued
            )

        state, opened = await self._adoption.reopen(command.execution, verb)
        if state is None:
            raise _unknown(command.execution)
        if not opened:
            what = "be retried" if task is None else "be reset"
            raise _refusal(
                state,
                f"was compensated and can only be rerun: it cannot {what}"
                if state.compensated
                else f"cannot {what}",
            )
        return b"%d" % state.run

    async def _signal(self, command: Command) -> Result:
        name, payload = command.signal.name, command.signal.payload
        content = orjson.dumps([name, payload.decode(errors="replace")])
        return await self._once(command, "signal", content, partial(self._give, command))

    async def _give(self, command: Command) -> bytes:
        state = await self._loaded(command.execution)
        name, payload = command.signal.name, command.signal.payload or b"null"
        taken = self._steps.signal(state, name, payload, command.actor, self._clock.now_us())
        if taken is None:
            raise DependencyDown("the execution was taken out of service")
        if taken == SignalTaken.ENDED:
            raise _refusal(state, "takes no signals")
        if taken == SignalTaken.FULL:
            raise LimitExceeded(
                f"too many signals {name} are kept for the execution already", signal=name
            )
        return b"1" if taken == SignalTaken.DELIVERED else b"0"

    async def _once(
        self, command: Command, verb: str, content: bytes, act: Callable[[], Awaitable[bytes]]
    ) -> Result:
        """Carry a command out, once per request id; `act` returns what the answer says.

        `act` must not await between its effects and its return: the request's row goes into the
        same commit.
        """
        if not command.request_id:
            return await self._answer(command, verb, await act())
        namespace = await self._namespace(command.execution)
        key = f"{verb}/{command.execution}/{command.request_id}"
        digest = hashlib.sha256(content).digest()
        while key in self._busy:
            await self._busy[key].wait()
        done = self._busy[key] = asyncio.Event()
        try:
            known = await self._store.find_request(namespace, key)
            if known is not None:
                if known.hash[:_HASH] != digest:
                    raise AlreadyExists(
                        f"request id {command.request_id} was used for another {verb}",
                        reason="REQUEST_ID_REUSED",
                        request_id=command.request_id,
                    )
                return await self._answer(command, verb, known.hash[_HASH:])
            answer = await act()
            expires_us = self._clock.now_us() + REQUEST_TTL_US
            self._commits.gathering.requests.append(
                RequestRow(namespace, key, digest + answer, command.execution, "", expires_us)
            )
            return await self._answer(command, verb, answer)
        finally:
            del self._busy[key]
            done.set()

    async def _answer(self, command: Command, verb: str, answer: bytes) -> Result:
        await self.durable()
        if verb == "signal":
            return Result(status=ExecutionStatus.RUNNING, delivered=answer == b"1")
        state = self._live.states.get(command.execution)
        if state is not None:
            return Result(status=state.status, run=int(answer))
        known = await self._store.statuses([command.execution])  # it may wait for its turn
        status = known.get(command.execution, ExecutionStatus.RUNNING)
        return Result(status=status, run=int(answer))

    async def _decide(self, command: Command) -> Result:
        key = command.decision.key
        asked = (command.execution, key.task, key.item - 1, getattr(key, "try"))
        decision = Decision(
            *asked,
            command.decision.approved,
            command.decision.comment,
            command.decision.data,
            command.actor,
        )
        known = await self._store.find_approval(*asked)
        if known is None:
            raise NotFound("there is no such approval", reason="APPROVAL_NOT_FOUND")
        if _was_decided(known, decision):
            return Result(status=ExecutionStatus.RUNNING)
        if not _may_decide(known, decision.actor):
            raise NotPermitted(
                f"{decision.actor} is not among those who may decide", actor=decision.actor
            )
        state = await self._loaded(command.execution)
        if not self._steps.decide(state, decision, self._clock.now_us()):
            await self.durable()
            known = await self._store.find_approval(*asked)
            if known is None or not _was_decided(known, decision):
                raise WrongState("nothing waits for the decision any more")
            return Result(status=state.status)
        await self.durable()
        return Result(status=state.status, run=state.run)

    async def _start(self, command: Command) -> Result:
        start = command.start
        wish = StartCommand(
            namespace=start.namespace,
            workflow=start.workflow,
            revision=start.revision,
            current=start.current,
            input=start.input,
            labels=start.labels,
            request_id=start.request_id,
            request_hash=start.request_hash or None,
            execution_id=start.execution_id,
            actor=command.actor,
            trace=start.trace,
            rerun_of=start.rerun_of,
        )
        (outcome,) = await self.start_here([wish])
        if outcome.error is not None:
            raise outcome.error
        return Result(
            status=ExecutionStatus.RUNNING,
            execution=outcome.execution,
            public_id=outcome.public_id,
            created=outcome.created,
        )

    async def _loaded(self, execution: int) -> ExecutionState:
        """Return the state of an execution that has not ended."""
        state = await self._adoption.load(execution)
        if state is not None:
            return state
        known = await self._store.statuses([execution])
        status = known.get(execution)
        if status is None:
            raise _unknown(execution)
        name = ExecutionStatus(status).name
        if status not in EXECUTION_TERMINAL:
            raise DependencyDown("the execution is being loaded; try again")
        raise WrongState(f"the execution is {name} already", status=name)

    async def _namespace(self, execution: int) -> str:
        state = self._live.states.get(execution)
        if state is not None:
            return state.start.namespace
        stored = await self._store.load(execution)
        if stored is None:
            raise _unknown(execution)
        return stored.start.namespace


def _unknown(execution: int) -> NotFound:
    return NotFound("there is no such execution", execution=execution)


def _refusal(state: ExecutionState, what: str) -> WrongState:
    name = ExecutionStatus(state.status).name
    return WrongState(f"the execution is {name}: it {what}", status=name)


def _was_decided(known: ApprovalSummary, decision: Decision) -> bool:
    """Return whether this very decision was taken. Raises WrongState for any other end."""
    if known.status == APPROVAL_PENDING:
        return False
    wanted = APPROVED if decision.approved else REJECTED
    if known.status != wanted or known.decided_by != decision.actor:
        ended = {APPROVED: "approved", REJECTED: "rejected"}.get(known.status, "closed")
        by = f" by {known.decided_by}" if known.decided_by else ""
        raise WrongState(f"the approval was {ended}{by} already", status=ended)
    return True


def _may_decide(known: ApprovalSummary, actor: str) -> bool:
    names = orjson.loads(known.assignees) if known.assignees else []
    plain = actor.removeprefix("/")  # identities are paths of a SPIFFE id
    return not names or not {actor, plain, plain.removeprefix(_USER)}.isdisjoint(names)
