"""One stream of a component service: its credit, what it runs, and the one writer."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from bend.v1 import executor_service_pb2 as pb
from bend_server.core.errors import DomainError
from bend_server.executor.holdings import ENDED, NEVER, OUTBOX, Held
from bend_server.ports.links import LinkBroken, WorkerLink


class Session:
    """The executor's side of one stream.

    `free` is credit not yet used; `running` maps the run ids of hand-overs to their tasks, in
    the order of hand-over, including those given up whose credit has not come back.
    """

    __slots__ = (
        "cancels",
        "connected_us",
        "control",
        "credit",
        "drained",
        "draining",
        "ended",
        "free",
        "groups",
        "heard_at",
        "instance_id",
        "leaving",
        "left",
        "link",
        "namespace",
        "next_due",
        "outbox",
        "pool_instance",
        "running",
        "waiter",
    )

    def __init__(self, link: WorkerLink, hello: pb.Hello, now: float, now_us: int) -> None:
        self.link = link
        self.namespace = link.peer.namespace
        self.instance_id = hello.instance_id
        self.pool_instance = hello.pool_instance
        self.credit = hello.credit
        self.free = hello.credit
        self.running: dict[int, Held] = {}
        self.outbox: deque[Held] = deque()
        self.control: deque[pb.ConnectResponse] = deque()
        self.cancels: list[int] = []
        # Group (groups.py) → index of its component in the hello.
        self.groups: dict[Any, int] = {}
        self.heard_at = now
        self.connected_us = now_us
        self.next_due = NEVER
        # It gets no new tasks: it asked for that (leaving), or people did (drained).
        self.draining = False
        self.drained = False
        self.leaving = False
        self.left = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiter: asyncio.Future[None] | None = None

    def end(self, error: DomainError | None = None) -> None:
        """End the stream, with an error for the service or without; the first call counts."""
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)

    def drain(self, *, leaving: bool = False, drained: bool | None = None) -> bool:
        """Note who wants that it gets no new tasks; return whether it gets any changed."""
        self.leaving = self.leaving or leaving
        self.drained = self.drained if drained is None else drained
        before, self.draining = self.draining, self.leaving or self.drained
        return before != self.draining

    def kick(self) -> None:
        """There is something to write."""
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def say(self, message: pb.ConnectResponse) -> None:
        """Send a control message soon, before any tasks."""
        self.control.append(message)
        self.kick()

    def cancel(self, run_id: int) -> None:
        """Tell the service that a result is no longer wanted."""
        self.cancels.append(run_id)
        self.kick()

    def due(self, at: float) -> None:
        """Something of this session has to be looked at then."""
        self.next_due = min(self.next_due, at)

    def take_back(self) -> list[Held]:
        """Return what was not handed over yet, and give its credit back."""
        waiting = [held for held in self.outbox if held.state == OUTBOX]
        self.free += len(self.outbox)
        self.outbox.clear()
        return waiting

    async def write(self, build: Callable[["Session"], pb.ConnectResponse], grace_ms: int) -> None:
        """Send what gathers, one write at a time; returns when the stream has ended or is broken.

        Args:
            build: takes tasks from the outbox and returns them as one message.
            grace_ms: milliseconds that go with cancels.
        """
        try:
            while not self.ended.done():
                if self.control:
                    await self.link.send(self.control.popleft())
                elif self.cancels:
                    run_ids, self.cancels = self.cancels[:1024], self.cancels[1024:]
                    batch = pb.CancelBatch(run_ids=run_ids, grace_ms=grace_ms)
                    await self.link.send(pb.ConnectResponse(cancels=batch))
                elif self.outbox:
                    message = build(self)
                    if message.tasks.tasks:
                        await self.link.send(message)
                else:
                    self.waiter = asyncio.get_running_loop().create_future()
                    await self.waiter
                    self.waiter = None
        except LinkBroken:
            self.end()

    def busy(self) -> bool:
        """Tell whether a result is still awaited."""
        return any(held.state != ENDED for held in self.running.values()) or bool(self.outbox)
