"""Commands to owners, and what executors and other engines ask and tell."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

from google.protobuf.message import DecodeError

from bend.internal.v1 import control_pb2
from bend_server.core import machine
from bend_server.core.errors import (
    AlreadyExists,
    Conflict,
    DependencyDown,
    DomainError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    NotPermitted,
    WrongState,
)
from bend_server.core.model import EXECUTION_TERMINAL, ExecutionStatus
from bend_server.engine.adoption import Adoption
from bend_server.engine.commits import Commits
from bend_server.engine.controls import Controls
from bend_server.engine.live import Live
from bend_server.engine.options import Counters
from bend_server.engine.overlay import Overlay
from bend_server.engine.results import ID_MAX
from bend_server.engine.steps import Steps
from bend_server.engine.waits import Waits
from bend_server.engine.watch import Watches
from bend_server.ports.clock import Clock
from bend_server.ports.queue import Handler, Queue, QueueDown, Subscription
from bend_server.ports.store import EngineStore

FORWARD_S = 5.0
FORWARDS_MAX = 5
FORWARD_PAUSE_S = 0.3
STATUSES_MAX = 1000
FAILED_PRECONDITION = 9
UNAVAILABLE = 14
# google.rpc.Code of what an owner answers.
_KINDS: dict[int, type[DomainError]] = {
    3: InvalidInput,
    5: NotFound,
    6: AlreadyExists,
    7: NotPermitted,
    8: LimitExceeded,
    FAILED_PRECONDITION: WrongState,
    10: Conflict,
}

_State = control_pb2.OpenKeysResponse.State
OwnerSlot = Callable[[int], Awaitable[int | None]]
Result = control_pb2.EngineCommandResult


class Commands:
    """Carries commands out, here or at the owner."""

    def __init__(
        self,
        store: EngineStore,
        queue: Queue,
        clock: Clock,
        live: Live,
        commits: Commits,
        steps: Steps,
        adoption: Adoption,
        waits: Waits,
        watches: Watches,
        overlay: Overlay,
        controls: Controls,
        counters: Counters,
    ) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._live = live
        self._commits = commits
        self._steps = steps
        self._adoption = adoption
        self._waits = waits
        self._watches = watches
        self._overlay = overlay
        self._controls = controls
        self._counters = counters
        self._subscriptions: list[Subscription] = []
        self.owner_slot: OwnerSlot

    async def open(self, slot: int, others: Mapping[str, Handler]) -> None:
        """Listen on the subjects of a slot; `others` by the subject's middle word."""
        queue = self._queue
        opened = self._subscriptions = []
        # One by one, so that `close` finds what a failure half-way left open.
        opened.append(await queue.serve(f"engine.open.{slot}", self._answer_open))
        opened.append(await queue.serve(f"engine.command.{slot}", self._answer_command))
        opened.append(await queue.subscribe(f"engine.started.{slot}", self._hear_started))
        opened.append(await queue.subscribe(f"engine.finished.{slot}", self._hear_finished))
        for word, handler in others.items():
            opened.append(await queue.subscribe(f"engine.{word}.{slot}", handler))

    async def close(self) -> None:
        """Stop listening."""
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.close()

    async def cancel(
        self, execution: int, reason: str, actor: str, request_id: str
    ) -> ExecutionStatus:
        """Cancel here or at the owner; see `EngineUseCases.cancel`."""
        command = control_pb2.EngineCommand(
            request_id=request_id, execution=execution, actor=actor, cancel=reason
        )
        return ExecutionStatus((await self.send(command)).status)

    async def displace(self, execution: int, reason: str, code: str) -> None:
        """Cancel an execution that has to make room; `code` is the reason of its error.

        One that went to another engine meanwhile is cancelled there as by anybody. What has ended
        is left alone. Raises DependencyDown, LeaseLost.
        """
        with contextlib.suppress(WrongState, NotFound):
            if self._live.claims(execution):
                await self._cancel_here(execution, reason, "", code)
            else:
                await self.cancel(execution, reason, "", "")

    async def send(self, command: control_pb2.EngineCommand) -> Result:
        """Have a command carried out, here or at the owner; return once that is durable.

        Raises DependencyDown, and what the owner says.
        """
        execution = command.execution
        for turn in range(FORWARDS_MAX):
            if turn:
                await asyncio.sleep(FORWARD_PAUSE_S)
            if self._live.claims(execution):
                try:
                    return await self._carry_out(command)
                except Conflict:
                    continue
            slot = await self.owner_slot(execution)
            if slot is None or slot == self._live.slot:
                continue
            try:
                return await self._forward(slot, command)
            except (Conflict, QueueDown):
                continue
        raise DependencyDown("the execution's owner cannot be reached", execution=execution)

    async def register(self, execution: int) -> None:
        """Ask the owner of an execution for a notice of its end."""
        slot = await self.owner_slot(execution)
        if slot is None or slot == self._live.slot:
            return
        command = control_pb2.EngineCommand(execution=execution, notify_slot=self._live.slot)
        status = (await self._forward(slot, command)).status
        if status in EXECUTION_TERMINAL:
            self._waits.heard([execution])

    async def _cancel_here(
        self, execution: int, reason: str, actor: str, code: str = "CANCELLED"
    ) -> ExecutionStatus:
        state = await self._adoption.load(execution)
        if state is None:
            known = await self._store.statuses([execution])
            return _answer_ended(execution, known.get(execution))
        if state.status in (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED):
            await self._durable()
            return _answer_ended(execution, state.status)
        self._steps.cancel(state, reason, actor, self._clock.now_us(), code)
        await self._durable()
        return ExecutionStatus(state.status)

    async def _durable(self) -> None:
        await self._controls.durable()

    async def _forward(self, slot: int, command: control_pb2.EngineCommand) -> Result:
        data = await self._queue.request(
            f"engine.command.{slot}", command.SerializeToString(), FORWARD_S
        )
        result = Result.FromString(data)
        if not result.code:
            if not result.status:
                result.status = ExecutionStatus.RUNNING
            return result
        kind = _KINDS.get(result.code, DependencyDown)
        raise kind(result.message, reason=result.reason, execution=command.execution)

    async def _answer_command(self, data: bytes) -> bytes:
        try:
            command = control_pb2.EngineCommand.FromString(data)
            result = await self._carry_out(command)
        except DomainError as error:
            result = Result(code=_code_of(error), reason=error.reason, message=error.message)
        except DecodeError:
            result = Result(
                code=FAILED_PRECONDITION, reason="INVALID_REQUEST", message="unreadable command"
            )
        return result.SerializeToString()

    async def _carry_out(self, command: control_pb2.EngineCommand) -> Result:
        execution = command.execution
        if not self._live.claims(execution):
            raise Conflict("the execution belongs to another engine", execution=execution)
        kind = command.WhichOneof("command")
        if kind == "cancel":
            return Result(status=await self._cancel_here(execution, command.cancel, command.actor))
        if kind != "notify_slot":
            return await self._controls.carry_out(command)
        self._waits.notify(execution, command.notify_slot)
        if execution in self._live.states:
            return Result(status=ExecutionStatus.RUNNING)
        known = await self._store.statuses([execution])
        return Result(status=known.get(execution, ExecutionStatus.COMPLETED))

    async def _answer_open(self, data: bytes) -> bytes:
        try:
            request = control_pb2.OpenKeysRequest.FromString(data)
        except DecodeError:
            return control_pb2.OpenKeysResponse().SerializeToString()
        lease = self._live.lease
        response = control_pb2.OpenKeysResponse(epoch=0 if lease is None else lease.epoch)
        ended = await self._ended(request.keys)
        for key in request.keys:
            response.states.append(await self._is_open(key, ended))
        self._counters.add("keys_asked", len(request.keys))
        return response.SerializeToString()

    async def _ended(self, keys: Sequence[control_pb2.TaskKey]) -> frozenset[int]:
        """Return which of the executions that are not in memory have ended, in one reading.

        After a restart those are most of them: a queue that was killed brings back old frames.
        """
        live = self._live
        unknown = {key.execution: None for key in keys if key.execution not in live.states}
        wanted = [
            id_ for id_ in unknown if id_ <= ID_MAX and live.owns(id_) and id_ not in live.recent
        ]
        try:
            known = await self._store.statuses(wanted[:STATUSES_MAX]) if wanted else {}
        except DependencyDown:
            return frozenset()
        return frozenset(id_ for id_, status in known.items() if status in EXECUTION_TERMINAL)

    async def _is_open(self, key: control_pb2.TaskKey, ended: frozenset[int]) -> _State:
        execution = key.execution
        state = self._live.states.get(execution)
        if state is None:
            if execution in self._live.recent or execution in ended:
                return control_pb2.OpenKeysResponse.CLOSED
            if not self._live.owns(execution):
                return control_pb2.OpenKeysResponse.NOT_MINE
            try:
                state = await self._adoption.load(execution)
            except DomainError:
                return control_pb2.OpenKeysResponse.NOT_MINE
            if state is None:
                return control_pb2.OpenKeysResponse.CLOSED
        open_try = state.open_try(key.task, key.item - 1) if key.task < len(state.statuses) else 0
        if not open_try or open_try != getattr(key, "try") or state.stopping(key.task):
            return control_pb2.OpenKeysResponse.CLOSED
        # One that was just loaded may have its result in RESULTS, which is read before we own it.
        owned = self._live.owns(execution)
        return control_pb2.OpenKeysResponse.OPEN if owned else control_pb2.OpenKeysResponse.NOT_MINE

    async def _hear_started(self, data: bytes) -> None:
        try:
            notice = control_pb2.StartedNotice.FromString(data)
        except DecodeError:
            return
        now_us = self._clock.now_us()
        for key, worker in zip(notice.keys, notice.workers, strict=False):
            state = self._live.states.get(key.execution)
            if state is None or key.task >= len(state.statuses):
                continue
            try_ = getattr(key, "try")
            item = key.item - 1
            if state.open_try(key.task, item) == try_:
                self._overlay.started((key.execution, key.task, item, try_), worker, now_us)
                machine.running(state, key.task, item, try_)
                self._watches.wake(key.execution)

    async def _hear_finished(self, data: bytes) -> None:
        try:
            notice = control_pb2.FinishedNotice.FromString(data)
        except DecodeError:
            return
        self._waits.heard(notice.executions)


def _answer_ended(execution: int, status: int | None) -> ExecutionStatus:
    if status is None:
        raise NotFound("there is no such execution", execution=execution)
    if status == ExecutionStatus.CANCELLED:
        return ExecutionStatus.CANCELLED
    name = ExecutionStatus(status).name
    raise WrongState(f"the execution is {name} already", status=name)


def _code_of(error: DomainError) -> int:
    return next((code for code, kind in _KINDS.items() if isinstance(error, kind)), UNAVAILABLE)
