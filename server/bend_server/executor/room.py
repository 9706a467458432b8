"""The executor: accepts streams of component services and brings them tasks."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from google.protobuf.message import DecodeError

from bend.internal.v1 import control_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.core import limits
from bend_server.core.errors import DependencyDown, DomainError, InvalidInput, InvariantBroken
from bend_server.executor import hello as hellos
from bend_server.executor import outcomes
from bend_server.executor.announcer import Announcer
from bend_server.executor.deadlines import Deadlines
from bend_server.executor.dispatch import Dispatch
from bend_server.executor.drains import Drained
from bend_server.executor.groups import Group, group_id
from bend_server.executor.holdings import ENDED, NEVER, RUNNING, Held, key_of
from bend_server.executor.inheritance import Inheritance
from bend_server.executor.options import TICK_S, ExecutorOptions
from bend_server.executor.resumption import ADOPTED, Resumption
from bend_server.executor.sessions import Session
from bend_server.ports.blobs import Blobs
from bend_server.ports.clock import Chance, Clock
from bend_server.ports.links import LinkBroken, Registrar, Secrets, WorkerLink
from bend_server.ports.queue import (
    ASK_ANNOUNCE,
    DRAIN,
    TASKS,
    Consumer,
    Queue,
    QueueDown,
    Subscription,
)

HELLO_S = 10.0
REGISTER_S = 10.0
REOPEN_S = 0.5
DRAIN_LOOK_S = 0.02
FLUSH_S = 5.0
PULLERS_S = 2.0
LAST_WRITE_S = 2.0

_log = structlog.get_logger(__name__)

Admit = Callable[[str, str], None]


class ExecutorRoom:
    """One executor. Stateless: what it holds comes back from the queue when it dies.

    Args:
        queue: the queue; closed by whoever made it, after `stop`.
        blobs: the blob store.
        clock: the database's time where its offset is known.
        chance: run ids.
        registrar: stores the contracts of services.
        secrets: values for secret holes.
        options: settings.
        admit: checks that a pool has room for an instance (namespace, `pool/instance`).
    """

    def __init__(
        self,
        queue: Queue,
        blobs: Blobs,
        clock: Clock,
        chance: Chance,
        registrar: Registrar,
        secrets: Secrets,
        options: ExecutorOptions,
        admit: Admit | None = None,
    ) -> None:
        self._admit = admit
        self._queue = queue
        self._blobs = blobs
        self._clock = clock
        self._chance = chance
        self._registrar = registrar
        self._secrets = secrets
        self._options = options
        self._sessions: dict[Session, None] = {}
        self._groups: dict[str, Group] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._subscriptions: list[Subscription] = []
        self._running = False
        self._drained = Drained()

    async def start(self) -> None:
        """Listen for cancels and begin to announce. Raises QueueDown."""
        self._dispatch = Dispatch(
            self._queue, self._blobs, self._clock, self._chance, self._secrets, self._options
        )
        self._resumption = Resumption(self._dispatch, self._queue, self._secrets, self._options)
        self._deadlines = Deadlines(self._dispatch, self._queue, self._options)
        self._inheritance = Inheritance(self._queue, self._dispatch.ledger, self._options)
        self._announcer = Announcer(self._queue, self._options.name, self._chance.u64())
        self._subscriptions = [
            await self._queue.subscribe("executor.cancel", self._cancelled),
            await self._queue.subscribe(ADOPTED, self._resumption.heard),
            await self._queue.subscribe(ASK_ANNOUNCE, self._asked),
            await self._queue.subscribe(DRAIN, self._drain_noticed),
        ]
        self._queue.on_reconnect(self._announcer.changed)
        loop = asyncio.get_running_loop()
        self._running = True
        self._tasks = [
            loop.create_task(self._tick()),
            loop.create_task(self._announcer.run(lambda: list(self._groups.values()))),
        ]

    async def _asked(self, data: bytes) -> None:
        self._announcer.changed()

    @property
    def ready(self) -> bool:
        """Whether it takes streams and reaches the queue."""
        return self._running and self._queue.connected

    @property
    def processed(self) -> int:
        """How many tries ended here since the start."""
        return self._dispatch.processed if self._running else 0

    async def stop(self) -> None:
        """Drain: pull nothing more, hand back what waits, let running tasks end in the grace.

        What still runs then goes back to the queue; long-running tasks stay claimable by their
        services at another executor. Idempotent.
        """
        if not self._running:
            return
        self._running = False
        self._inheritance.stop()
        await self._announcer.leave()
        pullers = [group.puller for group in self._groups.values() if group.puller is not None]
        for group in list(self._groups.values()):
            self._close(group)
        if pullers:
            await asyncio.wait(pullers, timeout=PULLERS_S)
        grace_s = self._options.drain_grace_s
        leaving = pb.GoAway(reason="the executor stops", grace_ms=int(grace_s * 1000))
        for session in self._sessions:
            self._hand_back(session)
            session.say(pb.ConnectResponse(go_away=leaving))
        await self._wait(lambda: not any(session.busy() for session in self._sessions), grace_s)
        for session in list(self._sessions):
            self._leave(session)
            session.end(DependencyDown("the executor stops"))
        await self._wait(lambda: self._dispatch.idle, FLUSH_S)
        for task in self._tasks:
            task.cancel()
        for subscription in self._subscriptions:
            await subscription.close()
        self._dispatch.stop()

    async def _wait(self, done: Any, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not done():  # noqa: ASYNC110 - the conditions span many tasks
                    await asyncio.sleep(DRAIN_LOOK_S)
        except TimeoutError:
            _log.warning("executor_drain_incomplete")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self._deadlines.look(list(self._sessions), list(self._groups.values()))
            except QueueDown:
                # Hints get lost; the deadlines were looked at before.
                continue
            except Exception:  # noqa: BLE001 - without this loop nothing would ever time out
                _log.exception("executor_tick_failed")

    async def attach(self, link: WorkerLink) -> None:
        """Serve one stream until it ends.

        Raises:
            NotPermitted: the identity may not serve components.
            InvalidInput: PROTOCOL_VIOLATION.
            WrongState: PROTOCOL_MISMATCH or CONTRACT_MISMATCH.
            DependencyDown: the executor stops, the registry or queue is away, or the service
                was silent; connect again.
        """
        if not self._running:
            raise DependencyDown("the executor does not take streams")
        hellos.admit(link.peer, self._options.roles)
        try:
            async with asyncio.timeout(HELLO_S):
                hello = hellos.check(await link.receive())
        except TimeoutError:
            raise DependencyDown("no hello came in time") from None
        if hello.pool_instance and self._admit is not None:
            self._admit(link.peer.namespace, hello.pool_instance)
        await self._register(link, hello)
        loop = asyncio.get_running_loop()
        if not hello.rotates:
            self._supersede(link, hello)
        session = Session(link, hello, loop.time(), self._clock.now_us())
        self._name_groups(session, hello)
        tasks: list[asyncio.Task[None]] = []
        try:
            kept = await self._resumption.adopt(session, hello)
            if not self._running:
                raise DependencyDown("the executor does not take streams")
            session.say(self._welcome(kept))
            grace_ms = int(self._options.cancel_grace_s * 1000)
            tasks = [
                loop.create_task(session.write(self._dispatch.build, grace_ms)),
                loop.create_task(self._read(session)),
            ]
            for task in tasks:
                task.add_done_callback(lambda done: _failed(session, done))
            # From here on notices find it.
            session.drain(drained=(session.namespace, session.instance_id) in self._drained)
            self._sessions[session] = None
            self._join(session)
            if hello.rotates:
                self._retire(session)
            await asyncio.wait((session.ended,))
            self._leave(session)
            # A write under way ends first: gRPC cannot say beside it how the stream ended.
            session.kick()
            await asyncio.wait(tasks[:1], timeout=LAST_WRITE_S)
            session.ended.result()
        finally:
            for task in tasks:
                task.cancel()
            self._leave(session)
            # Marks an error as seen that came while the call itself was cancelled.
            if session.ended.done() and not session.ended.cancelled():
                session.ended.exception()

    def _welcome(self, kept: list[int]) -> pb.ConnectResponse:
        return pb.ConnectResponse(
            welcome=pb.Welcome(
                executor=self._options.name,
                heartbeat_interval_ms=int(self._options.silence_s * 1000),
                kept=kept,
                payload_bytes_max=limits.BLOB_BYTES_MAX,
            )
        )

    async def _register(self, link: WorkerLink, hello: pb.Hello) -> None:
        try:
            async with asyncio.timeout(REGISTER_S):
                for contract in hello.components:
                    await self._registrar.register(link.peer.namespace, contract)
        except TimeoutError:
            raise DependencyDown("the registry does not answer") from None

    def _supersede(self, link: WorkerLink, hello: pb.Hello) -> None:
        """End an older stream of the same instance: it is broken, we only do not know yet."""
        for old in list(self._sessions):
            if (
                old.instance_id == hello.instance_id
                and old.link.peer == link.peer
                and not old.leaving
            ):
                self._leave(old)
                old.end(DependencyDown("the instance has opened another stream"))

    def _retire(self, session: Session) -> None:
        """Drain the older streams of an instance: this one has taken their place."""
        for old in list(self._sessions):
            if (
                old is not session
                and old.instance_id == session.instance_id
                and old.link.peer == session.link.peer
            ):
                self._drain(old, old.drain(leaving=True))

    def _name_groups(self, session: Session, hello: pb.Hello) -> None:
        for index, contract in enumerate(hello.components):
            id_ = group_id(
                session.namespace, contract.name, contract.version, dict(contract.labels)
            )
            group = self._groups.get(id_)
            if group is None:
                group = Group(id_, session.namespace, contract)
            session.groups[group] = index

    def _join(self, session: Session) -> None:
        for group in list(session.groups):
            known = self._groups.get(group.id)
            if known is None:
                # Not `group` itself: its last stream may have left while this one was welcomed,
                # and then it is being closed.
                known = Group(group.id, group.namespace, group.contract)
                self._groups[group.id] = known
            if known is not group:
                session.groups = {
                    known if other is group else other: index
                    for other, index in session.groups.items()
                }
                for held in session.running.values():
                    if held.group is group:
                        held.group = known
            known.sessions[session] = session.groups[known]
            if known.puller is None:
                known.puller = asyncio.get_running_loop().create_task(self._pull(known))
                known.puller.add_done_callback(partial(self._closed, known))
            self._dispatch.route(known)
        self._announcer.changed()

    def _leave(self, session: Session) -> None:
        """A stream is over: its tasks go elsewhere or wait for their service. Idempotent."""
        if session.left:
            return
        session.left = True
        self._sessions.pop(session, None)
        for group in session.groups:
            group.sessions.pop(session, None)
        for held in reversed(session.take_back()):
            self._dispatch.requeue(held)
        # From the last to the first: each goes to the front of its queue.
        for held in reversed(list(session.running.values())):
            if held.state == RUNNING:
                self._orphan(held)
        session.running.clear()
        for group in session.groups:
            if group.sessions:
                self._dispatch.route(group)
            else:
                self._close(group)
        if self._running:
            self._announcer.changed()

    def _orphan(self, held: Held) -> None:
        """The stream that runs a try is gone."""
        if held.cancel_at != NEVER:
            self._dispatch.end(held, outcomes.CANCELLED, outcomes.stopped())
        elif not held.group.contract.long_running:
            self._dispatch.lost(held)
        elif self._running:
            self._resumption.park(held)
        else:
            # Its service claims it at another executor, within the frame's ack_wait.
            held.state = ENDED
            self._dispatch.ledger.forget(held)

    def _hand_back(self, session: Session) -> None:
        """Return to the queue what a session has not been sent yet."""
        for held in session.take_back():
            held.state = ENDED
            self._dispatch.ledger.release(held)

    async def _pull(self, group: Group) -> None:
        """Bring the group's frames in, as long as it has an instance here."""
        try:
            group.consumer = await self._open(group)
            self._inheritance.take(group, group.consumer)
            group.ask()
            while True:
                delivery = await group.consumer.next()
                try:
                    self._dispatch.frame_in(group, delivery)
                except Exception:  # noqa: BLE001 - one frame must not end the group's pull
                    _log.exception("task_frame_failed", group=group.id)
        except QueueDown:
            # Somebody closed the queue under us.
            return
        finally:
            if group.consumer is not None:
                await group.consumer.close()

    def _closed(self, group: Group, _puller: "asyncio.Task[None]") -> None:
        """The group is no longer pulled: what was handed back earlier would come right back."""
        group.closed = True
        self._dispatch.route(group)

    async def _open(self, group: Group) -> Consumer:
        contract, options = group.contract, self._options
        wait = options.ack_wait_long_s if contract.long_running else options.ack_wait_short_s
        while True:
            try:
                return await self._queue.consume(
                    TASKS, f"tasks.{group.id}", f"g-{group.id}", wait, options.inactive_s
                )
            except QueueDown as error:
                _log.warning("group_consumer_failed", group=group.id, error=str(error))
                await asyncio.sleep(REOPEN_S)

    def _close(self, group: Group) -> None:
        """Stop pulling for a group; its puller then gives back what waits here."""
        self._groups.pop(group.id, None)
        if group.consumer is not None:
            group.consumer.demand(0)
        if group.puller is not None:
            group.puller.cancel()
            group.puller = None

    async def _read(self, session: Session) -> None:
        """Take what a service sends, until it closes or breaks the protocol."""
        link = session.link
        dispatch = self._dispatch
        loop = asyncio.get_running_loop()
        try:
            while True:
                message = await link.receive()
                if message is None:
                    session.end()
                    return
                session.heard_at = loop.time()
                kind = message.WhichOneof("message")
                if kind == "results":
                    dispatch.answers(session, message.results)
                elif kind == "chunks":
                    dispatch.chunks.take(session, message.chunks)
                elif kind == "heartbeat":
                    self._beat(session, message.heartbeat)
                elif kind == "drain":
                    self._drain(session, session.drain(leaving=True))
                else:
                    raise InvalidInput(
                        f"{kind or 'an empty message'} may not come now",
                        reason="PROTOCOL_VIOLATION",
                        field=kind or "message",
                    )
        except LinkBroken:
            session.end()
        except DomainError as error:
            _log.warning("stream_ended", instance=session.instance_id, reason=error.reason)
            session.end(error)

    def _beat(self, session: Session, beat: pb.Heartbeat) -> None:
        now = session.heard_at
        for run_id in beat.run_ids:
            held = session.running.get(run_id)
            if held is not None and held.queued.heartbeat_timeout_ms:
                held.heartbeat_at = now + held.queued.heartbeat_timeout_ms / 1000

    async def _drain_noticed(self, data: bytes) -> None:
        """People take an instance out of service, or back into it."""
        try:
            instance, drains = self._drained.hear(data)
        except DecodeError:
            self._dispatch.warn("drain_notice_malformed")
            return
        for session in list(self._sessions):
            if (session.namespace, session.instance_id) == instance:
                self._drain(session, session.drain(drained=drains))

    def _drain(self, session: Session, changed: bool) -> None:
        """Bring what a session has not been given elsewhere; or let it take tasks again."""
        if not changed:
            return
        for held in reversed(session.take_back()):
            self._dispatch.requeue(held)
        for group in session.groups:
            self._dispatch.route(group)
        self._announcer.changed()

    async def _cancelled(self, data: bytes) -> None:
        try:
            notice = control_pb2.CancelNotice.FromString(data)
        except DecodeError:
            self._dispatch.warn("cancel_notice_malformed")
            return
        keys = [key_of(key) for key in notice.keys]
        for held in self._dispatch.ledger.cancel(keys, asyncio.get_running_loop().time()):
            self._deadlines.cancel(held)


def _failed(session: Session, task: "asyncio.Task[None]") -> None:
    """A fault of ours in a stream's task ends that stream, not the executor."""
    if not task.cancelled() and task.exception() is not None:
        _log.error("stream_task_failed", exc_info=task.exception())
        session.end(InvariantBroken("the stream's task failed"))
