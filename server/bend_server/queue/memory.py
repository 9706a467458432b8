"""The queue in memory: a twin of the NATS adapter for tests and simulations.

Several `MemoryQueue` clients share one `MemoryBroker`. `disconnect` is the death of a client, or of
its connection: nothing reaches it and it reaches nobody until `reconnect`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

import structlog

from bend_server.ports.queue import (
    Consumer,
    Delivery,
    Handler,
    QueueDown,
    Responder,
    Stored,
    Subscription,
)
from bend_server.queue.broker import MemoryBroker, Weather, matches, stream_of

__all__ = ["MemoryBroker", "MemoryQueue", "Weather"]

PUBLISH_S = 5.0
ATTEMPT_S = 2.0
BACKLOG_MAX = 65_536

_log = structlog.get_logger(__name__)


class MemoryConsumer:
    """A continuous pull in memory."""

    def __init__(
        self, queue: "MemoryQueue", stream: str, durable: str, inactive_s: float | None
    ) -> None:
        self._queue = queue
        self._stream = stream
        self._durable = durable
        self._inactive_s = inactive_s
        self._buffer: deque[Delivery] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._unacked = queue.broker.unacked(stream, durable)
        self.wanted = 0

    def unacked(self) -> dict[int, str]:
        """See ports.queue.Consumer."""
        return self._unacked

    def demand(self, messages: int) -> None:
        """See ports.queue.Consumer."""
        self.wanted = messages
        if messages > 0 and self._queue.connected and not self._closed:
            self.attach()

    def attach(self) -> None:
        """Take part again, after a reconnect."""
        self._queue.broker.attach(self._stream, self._durable, self)

    def detach(self) -> None:
        """Take no part while the client is away."""
        self._queue.broker.detach(self._stream, self._durable, self, self._inactive_s)

    def take(self, delivery: Delivery) -> None:
        """Receive a message from the broker."""
        if self._closed or not self._queue.connected:
            self.wanted += 1  # lost on the way: the pull still stands
            return
        self._buffer.append(delivery)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> Delivery:
        """See ports.queue.Consumer."""
        while not self._buffer and not self._closed:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._closed:
            raise QueueDown("the consumer is closed")
        return self._buffer.popleft()

    async def close(self) -> None:
        """See ports.queue.Consumer."""
        if self._closed:
            return
        self._closed = True
        self.detach()
        while self._buffer:
            self._queue.nak(self._buffer.popleft().token)
        self._queue.forget(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class MemoryTail:
    """Reads a stream by position, without acks."""

    def __init__(self, queue: "MemoryQueue", stream: str, subject: str, position: int) -> None:
        self._queue = queue
        self._stream = stream
        self._subject = subject
        self._position = position
        self._created_us = queue.broker.streams[stream].created_us
        self._wanted = 0
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        queue.broker.on_store.setdefault(stream, []).append(self.wake)

    def wake(self) -> None:
        """Look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def demand(self, messages: int) -> None:
        """See ports.queue.Consumer."""
        self._wanted = messages
        self.wake()

    def unacked(self) -> dict[int, str]:
        """See ports.queue.Consumer. Nothing is acked here."""
        return {}

    def _find(self) -> Delivery | None:
        stream = self._queue.broker.streams[self._stream]
        if stream.created_us != self._created_us:
            self._created_us, self._position = stream.created_us, 1
        if self._wanted <= 0 or not self._queue.connected:
            return None
        while self._position <= stream.last:
            sequence = self._position
            self._position += 1
            message = stream.messages.get(sequence)
            if message is not None and matches(self._subject, message[0]):
                self._wanted -= 1
                return Delivery(message[0], message[1], sequence, 1, message[2], "")
        return None

    async def next(self) -> Delivery:
        """See ports.queue.Consumer."""
        while not self._closed:
            found = self._find()
            if found is not None:
                return found
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        raise QueueDown("the consumer is closed")

    async def close(self) -> None:
        """See ports.queue.Consumer."""
        if not self._closed:
            self._closed = True
            self._queue.broker.on_store[self._stream].remove(self.wake)
            self._queue.forget(self)
            self.wake()


class MemorySubscription:
    """A core subscription in memory: one handler at a time, in order."""

    def __init__(self, queue: "MemoryQueue", subject: str, handler: Handler) -> None:
        self._queue = queue
        self._subject = subject
        self._handler = handler
        self._backlog: asyncio.Queue[bytes] = asyncio.Queue(BACKLOG_MAX)
        queue.broker.subscriptions.setdefault(subject, []).append(self.arrive)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def arrive(self, data: bytes, _answer: Callable[[bytes], None]) -> None:
        """Receive a message from the broker; lost when too many wait."""
        if self._queue.connected and not self._backlog.full():
            self._backlog.put_nowait(data)

    async def _run(self) -> None:
        while True:
            data = await self._backlog.get()
            try:
                await self._handler(data)
            except Exception:  # noqa: BLE001 - a faulty handler must not end the subscription
                _log.exception("queue_handler_failed", subject=self._subject)

    async def close(self) -> None:
        """See ports.queue.Subscription."""
        listeners = self._queue.broker.subscriptions.get(self._subject, [])
        if self.arrive in listeners:
            listeners.remove(self.arrive)
        self._task.cancel()


class MemoryResponder:
    """Answers requests in memory, each in a task of its own."""

    def __init__(self, queue: "MemoryQueue", subject: str, responder: Responder) -> None:
        self._queue = queue
        self._subject = "request:" + subject
        self._responder = responder
        self._tasks: dict[asyncio.Task[None], None] = {}
        queue.broker.subscriptions.setdefault(self._subject, []).append(self.arrive)

    def arrive(self, data: bytes, answer: Callable[[bytes], None]) -> None:
        """Receive a request from the broker."""
        if self._queue.connected:
            task = asyncio.get_running_loop().create_task(self._serve(data, answer))
            self._tasks[task] = None
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _serve(self, data: bytes, answer: Callable[[bytes], None]) -> None:
        try:
            reply = await self._responder(data)
        except Exception:  # noqa: BLE001 - a faulty responder must not end the others
            _log.exception("queue_responder_failed", subject=self._subject)
            return
        if self._queue.connected:
            self._queue.broker.send("core", self._subject, lambda: answer(reply))

    async def close(self) -> None:
        """See ports.queue.Subscription."""
        listeners = self._queue.broker.subscriptions.get(self._subject, [])
        if self.arrive in listeners:
            listeners.remove(self.arrive)
        for task in list(self._tasks):
            task.cancel()


class MemoryQueue:
    """One client of a `MemoryBroker`; implements ports.queue.Queue."""

    def __init__(self, broker: MemoryBroker, name: str = "client") -> None:
        self.broker = broker
        self.name = name
        self._connected = True
        self._back: asyncio.Event | None = None
        self._consumers: list[tuple[MemoryConsumer, Callable[[], None]]] = []
        self._tails: list[MemoryTail] = []
        self._listeners: list[Callable[[], None]] = []
        self._subscriptions: list[MemorySubscription | MemoryResponder] = []
        broker.on_wipe.append(self._revive)

    @property
    def connected(self) -> bool:
        """Whether the client is alive and reaches the broker."""
        return self._connected

    def disconnect(self) -> None:
        """Die, or lose the connection."""
        self._connected = False
        for consumer, _ in self._consumers:
            consumer.detach()

    def reconnect(self) -> None:
        """Come back: pulls go on, listeners of `on_reconnect` are called."""
        self._connected = True
        self._revive()
        if self._back is not None:
            self._back.set()

    def _revive(self) -> None:
        if not self._connected:
            return
        for consumer, reopen in list(self._consumers):
            reopen()
            consumer.attach()
        for tail in self._tails:
            tail.wake()
        for listener in list(self._listeners):
            listener()

    def forget(self, consumer: MemoryConsumer | MemoryTail) -> None:
        """Drop a closed consumer."""
        self._consumers = [entry for entry in self._consumers if entry[0] is not consumer]
        self._tails = [tail for tail in self._tails if tail is not consumer]

    async def close(self) -> None:
        """Leave the broker."""
        self.disconnect()
        self.broker.on_wipe.remove(self._revive)
        for consumer, _ in list(self._consumers):
            await consumer.close()
        for tail in list(self._tails):
            await tail.close()
        for subscription in self._subscriptions:
            await subscription.close()

    async def _reach(self, deadline: float) -> None:
        """Wait for the connection. Raises QueueDown past the deadline (loop time)."""
        loop = asyncio.get_running_loop()
        while not self._connected:
            self._back = asyncio.Event()
            try:
                async with asyncio.timeout(max(0.0, deadline - loop.time())):
                    await self._back.wait()
            except TimeoutError:
                raise QueueDown("the queue cannot be reached") from None

    async def publish(self, subject: str, data: bytes) -> int:
        """See ports.queue.Queue."""
        stream_of(subject)
        data = bytes(data)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PUBLISH_S
        while True:
            await self._reach(deadline)
            if self.broker.weather is None:
                sequence = self.broker.store(subject, data)
                await asyncio.sleep(0)
                return sequence
            stored: asyncio.Future[int] = loop.create_future()
            self.broker.send("publish", subject, lambda: self._store(subject, data, stored))  # noqa: B023
            try:
                async with asyncio.timeout(min(ATTEMPT_S, max(0.0, deadline - loop.time()))):
                    return await stored
            except TimeoutError:
                if loop.time() >= deadline:
                    raise QueueDown(f"{subject} did not confirm a message") from None

    def _store(self, subject: str, data: bytes, stored: "asyncio.Future[int]") -> None:
        def refuse(error: Exception) -> None:
            if not stored.done():
                stored.set_exception(error)

        def confirm(sequence: int) -> None:
            if not stored.done() and self._connected:
                stored.set_result(sequence)

        try:
            sequence = self.broker.store(subject, data)
        except QueueDown as error:
            refuse(error)
            return
        self.broker.send("stored", subject, lambda: confirm(sequence))

    async def consume(
        self, stream: str, subject: str, durable: str, ack_wait_s: float, inactive_s: float | None
    ) -> Consumer:
        """See ports.queue.Queue."""
        await self._reach(asyncio.get_running_loop().time() + PUBLISH_S)

        def reopen() -> None:
            self.broker.open_durable(stream, subject, durable, ack_wait_s)

        reopen()
        consumer = MemoryConsumer(self, stream, durable, inactive_s)
        self._consumers.append((consumer, reopen))
        await asyncio.sleep(0)
        return consumer

    async def tail(self, subject: str, from_sequence: int) -> Consumer:
        """See ports.queue.Queue."""
        await self._reach(asyncio.get_running_loop().time() + PUBLISH_S)
        name = stream_of(subject)
        position = from_sequence or self.broker.streams[name].last + 1
        tail = MemoryTail(self, name, subject, position)
        self._tails.append(tail)
        return tail

    def ack(self, token: str) -> None:
        """See ports.queue.Queue."""
        self._settle(token, "ack", 0.0)

    def nak(self, token: str, delay_s: float = 0.0) -> None:
        """See ports.queue.Queue."""
        self._settle(token, "nak", delay_s)

    def in_progress(self, token: str) -> None:
        """See ports.queue.Queue."""
        self._settle(token, "progress", 0.0)

    def _settle(self, token: str, verdict: str, delay_s: float) -> None:
        if self._connected:
            self.broker.send("ack", verdict, lambda: self.broker.settle(token, verdict, delay_s))

    async def scan(self, stream: str, subject: str) -> AsyncIterator[Stored]:
        """See ports.queue.Queue."""
        await self._reach(asyncio.get_running_loop().time() + PUBLISH_S)
        await asyncio.sleep(0)
        for stored in self.broker.held(stream, subject):
            yield stored

    async def holds(self, stream: str, sequence: int) -> bool:
        """See ports.queue.Queue."""
        await self._reach(asyncio.get_running_loop().time() + PUBLISH_S)
        await asyncio.sleep(0)
        return sequence in self.broker.streams[stream].messages

    async def incarnation(self, stream: str) -> int:
        """See ports.queue.Queue."""
        await self._reach(asyncio.get_running_loop().time() + PUBLISH_S)
        return self.broker.streams[stream].created_us

    async def purge(self, stream: str, subject: str) -> None:
        """See ports.queue.Queue."""
        await self._reach(asyncio.get_running_loop().time() + PUBLISH_S)
        for stored in self.broker.held(stream, subject):
            self.broker.streams[stream].remove(stored.sequence)

    async def broadcast(self, subject: str, data: bytes) -> None:
        """See ports.queue.Queue."""
        if self._connected:
            for arrive in list(self.broker.subscriptions.get(subject, ())):
                self._carry(subject, arrive, bytes(data), _nobody)
        await asyncio.sleep(0)

    def _carry(
        self,
        subject: str,
        arrive: Callable[[bytes, Callable[[bytes], None]], None],
        data: bytes,
        answer: Callable[[bytes], None],
    ) -> None:
        self.broker.send("core", subject, lambda: arrive(data, answer))

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """See ports.queue.Queue."""
        await self._reach(asyncio.get_running_loop().time() + timeout_s)
        responders = self.broker.subscriptions.get("request:" + subject)
        if not responders:
            await asyncio.sleep(0)
            raise QueueDown(f"nobody serves {subject}")
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answer(reply: bytes) -> None:
            if not answered.done() and self._connected:
                answered.set_result(reply)

        for arrive in list(responders):
            self._carry(subject, arrive, bytes(data), answer)
        try:
            async with asyncio.timeout(timeout_s):
                return await answered
        except TimeoutError:
            raise QueueDown(f"no answer on {subject}") from None

    async def subscribe(self, subject: str, handler: Handler) -> Subscription:
        """See ports.queue.Queue."""
        subscription = MemorySubscription(self, subject, handler)
        self._subscriptions.append(subscription)
        return subscription

    async def serve(self, subject: str, responder: Responder) -> Subscription:
        """See ports.queue.Queue."""
        served = MemoryResponder(self, subject, responder)
        self._subscriptions.append(served)
        return served

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """See ports.queue.Queue."""
        self._listeners.append(callback)


def _nobody(_reply: bytes) -> None:
    """Broadcasts have no answer."""
