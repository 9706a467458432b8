"""The queue on NATS JetStream: implements ports.queue.Queue over one connection."""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import nats.errors
import orjson
import structlog
from nats.aio.msg import Msg

from bend_server.ports.queue import (
    CHUNKS,
    RESULTS,
    TASKS,
    Consumer,
    Handler,
    QueueDown,
    QueueFull,
    Responder,
    Stored,
    Subscription,
)
from bend_server.queue.link import ApiRefused, Interrupted, NatsLink, status_of
from bend_server.queue.pull import NatsConsumer, Out, out_of
from bend_server.queue.streams import StreamOptions, durable_config, stream_configs, tail_config

PUBLISH_S = 5.0
ATTEMPT_S = 2.0
PAUSE_S = 0.05
SCAN_BATCH = 1000
SCAN_BYTES = 8 * 1024 * 1024
PURGE_S = 10.0
FLUSH_S = 5
RESPONDERS_MAX = 1024
BACKLOG_MESSAGES_MAX = 65_536
BACKLOG_BYTES_MAX = 64 * 1024 * 1024
_NAME_IN_USE = 10058
_NOT_FOUND = 10059
# "maximum bytes exceeded" and the server's own storage limits.
_FULL = frozenset((10077, 10047, 10023))

_log = structlog.get_logger(__name__)


class _CoreSubscription:
    """A core subscription of nats-py."""

    def __init__(self, subscription: Any, on_close: Callable[[], None] | None = None) -> None:
        self._subscription = subscription
        self._on_close = on_close

    async def close(self) -> None:
        """See ports.queue.Subscription."""
        with contextlib.suppress(nats.errors.Error):
            await self._subscription.unsubscribe()
        if self._on_close is not None:
            self._on_close()


class NatsQueue:
    """One connection to NATS. Make it by `connect`; `close` it at the end."""

    def __init__(self, streams: StreamOptions | None, *, jetstream: bool) -> None:
        self._streams = streams
        self._jetstream = jetstream
        self._link = NatsLink(self._revive)
        self._consumers: list[NatsConsumer] = []
        self._listeners: list[Callable[[], None]] = []
        self._created: dict[str, int] = {}
        self._stamps: dict[str, str] = {}

    @classmethod
    async def connect(
        cls,
        url: str,
        ssl_context: ssl.SSLContext | None = None,
        name: str = "bend",
        *,
        streams: StreamOptions | None = StreamOptions(),  # noqa: B008 - immutable
        inbox_prefix: str = "_INBOX",
        timeout_s: float = 10.0,
        jetstream: bool = True,
    ) -> "NatsQueue":
        """Connect, and make the streams that are missing, or wait until others have.

        Args:
            url: `tls://host:port` or `nats://host:port`; several with commas between.
            ssl_context: roots and client certificate; None: without TLS.
            name: the connection's name, as nats-server shows it.
            streams: sizes; None: this process may not make streams, others do.
            inbox_prefix: first part of the subjects for answers, as permissions ask for.
            timeout_s: seconds until nobody there, or no stream there, is an error.
            jetstream: False: this process broadcasts, asks and answers only; its permissions need
                not reach the streams.

        Raises:
            QueueDown: nobody answers, or JetStream refuses the streams.
        """
        queue = cls(streams, jetstream=jetstream)
        await queue._link.open(url, ssl_context, name, inbox_prefix, timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await queue._find_streams()
        except TimeoutError:
            await queue.close()
            raise QueueDown(f"no streams after {timeout_s:.0f} s") from None
        except QueueDown:
            await queue.close()
            raise
        return queue

    async def close(self) -> None:
        """Stop all pulls and disconnect; acks that were given are sent first."""
        for consumer in list(self._consumers):
            await consumer.close()
        await self._link.close()

    @property
    def connected(self) -> bool:
        """See ports.queue.Queue."""
        return self._link.connected

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """See ports.queue.Queue."""
        self._listeners.append(callback)

    async def _find_streams(self) -> None:
        """Know the streams; who may not make them waits for whoever does. Raises QueueDown."""
        while True:
            try:
                return await self._know_streams()
            except ApiRefused as error:
                if self._streams is not None or error.code != _NOT_FOUND:
                    raise
            await asyncio.sleep(PAUSE_S)

    async def _know_streams(self) -> None:
        """Make the streams, or learn which ones there are. Raises QueueDown."""
        if not self._jetstream:
            return
        if self._streams is not None:
            await self._make_streams(self._streams)
            return
        for name in (TASKS, RESULTS, CHUNKS):
            self._know(name, await self.incarnation(name))

    async def _make_streams(self, options: StreamOptions) -> None:
        for config in stream_configs(options):
            name = str(config["name"])
            try:
                reply = await self._link.call(f"$JS.API.STREAM.CREATE.{name}", config)
            except ApiRefused as error:
                if error.code != _NAME_IN_USE:
                    raise
                reply = await self._link.call(f"$JS.API.STREAM.UPDATE.{name}", config)
            self._know(name, _micros(reply["created"]))

    def _know(self, name: str, created_us: int) -> None:
        self._created[name] = created_us
        self._stamps[name] = str(created_us)

    async def _revive(self) -> None:
        before = dict(self._created)
        await self._know_streams()
        wiped = before != self._created
        if wiped:
            # Acks of the lost store would hit new messages of the same sequence.
            self._link.forget_posts()
        for consumer in list(self._consumers):
            if wiped:
                consumer.restart()
            else:
                consumer.revive()
        for listener in list(self._listeners):
            listener()

    async def publish(self, subject: str, data: bytes) -> int:
        """See ports.queue.Queue."""
        link = self._link
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PUBLISH_S
        while True:
            await link.wait_up(deadline)
            left = deadline - loop.time()
            if left <= 0:
                raise QueueDown(f"{subject} did not confirm a message in {PUBLISH_S:.0f} s")
            try:
                message = await link.ask(subject, data, min(ATTEMPT_S, left))
            except Interrupted:
                # Told by the connection itself: go on at once when it is back.
                if link.connected:
                    await asyncio.sleep(PAUSE_S)
                continue
            except QueueDown:
                if loop.time() >= deadline:
                    raise
                continue
            if status_of(message) == "503":
                # No stream takes it now: a wiped store is being set up again.
                await asyncio.sleep(PAUSE_S)
                continue
            reply = orjson.loads(message.data)
            error = reply.get("error")
            if error is None:
                return int(reply["seq"])
            if error.get("err_code") in _FULL:
                raise QueueFull(f"{subject}: {error.get('description')}")
            raise ApiRefused(subject, error)

    async def consume(
        self, stream: str, subject: str, durable: str, ack_wait_s: float, inactive_s: float | None
    ) -> Consumer:
        """See ports.queue.Queue."""
        config = durable_config(durable, subject, ack_wait_s, inactive_s)
        outs: list[Out | None] = []

        async def make(_last: int) -> str:
            # Of the stream as it was known before: if it is made anew meanwhile, tokens are void.
            stamp = self._stamps[stream]
            reply = await self._link.call(
                f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.{subject}",
                {"stream_name": stream, "config": config, "action": ""},
            )
            if not outs:
                outs.append(out_of(reply, stamp))
            return durable

        consumer = await self._open(stream, make, acks=True)
        # The first answer came before anything was asked for: none of it is ours.
        consumer.out = outs[0]
        return consumer

    async def tail(self, subject: str, from_sequence: int) -> Consumer:
        """See ports.queue.Queue."""
        opened = False

        async def make(last: int) -> str:
            nonlocal opened
            start = last + 1 if last else from_sequence
            if opened and not last:
                # Nothing came before the stream or the consumer was lost: take all there is.
                start = max(1, from_sequence)
            if start > 1 and start > await self._last_sequence(CHUNKS) + 1:
                start = 1
            name = f"t-{self._link.client.new_inbox().rpartition('.')[2]}"
            await self._link.call(
                f"$JS.API.CONSUMER.CREATE.{CHUNKS}.{name}.{subject}",
                {"stream_name": CHUNKS, "config": tail_config(name, subject, start), "action": ""},
            )
            opened = True
            return name

        return await self._open(CHUNKS, make, acks=False)

    async def _open(self, stream: str, make: Any, *, acks: bool) -> NatsConsumer:
        consumer = NatsConsumer(
            self._link,
            stream,
            make,
            self._consumers.remove,
            stamp=lambda: self._stamps[stream] if acks else "",
        )
        await consumer.open()
        self._consumers.append(consumer)
        return consumer

    def ack(self, token: str) -> None:
        """See ports.queue.Queue."""
        self._settle(token, b"+ACK")

    def nak(self, token: str, delay_s: float = 0.0) -> None:
        """See ports.queue.Queue."""
        body = b"-NAK"
        if delay_s > 0:
            body = b'-NAK {"delay": %d}' % int(delay_s * 1_000_000_000)
        self._settle(token, body)

    def in_progress(self, token: str) -> None:
        """See ports.queue.Queue."""
        self._settle(token, b"+WPI")

    def _settle(self, token: str, verdict: bytes) -> None:
        """Answer a delivery, unless its stream is gone; the token begins with when it was made."""
        created, _, reply = token.partition("@")
        if created in self._stamps.values():
            self._link.post(reply, verdict)

    async def _last_sequence(self, stream: str) -> int:
        reply = await self._link.call(f"$JS.API.STREAM.INFO.{stream}", {})
        return int(reply["state"]["last_seq"])

    async def scan(self, stream: str, subject: str) -> AsyncIterator[Stored]:
        """See ports.queue.Queue."""
        last = await self._last_sequence(stream)
        sequence = 1
        while sequence <= last:
            page = await self._page(stream, subject, sequence)
            for stored in page:
                if stored.sequence > last:
                    return
                yield stored
            if not page:
                return
            sequence = page[-1].sequence + 1

    async def _page(self, stream: str, subject: str, sequence: int) -> list[Stored]:
        """Read up to 1,000 messages by one batched direct get; [] when there are no more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PUBLISH_S
        body = orjson.dumps(
            {
                "seq": sequence,
                "next_by_subj": subject,
                "batch": SCAN_BATCH,
                "max_bytes": SCAN_BYTES,
            }
        )
        while True:
            await self._link.wait_up(deadline)
            try:
                return await self._direct(f"$JS.API.DIRECT.GET.{stream}", body)
            except (Interrupted, TimeoutError) as error:
                if loop.time() >= deadline:
                    raise QueueDown(f"{stream} cannot be read") from error
                await asyncio.sleep(PAUSE_S)

    async def _direct(self, subject: str, body: bytes) -> list[Stored]:
        inbound: asyncio.Queue[Msg | None] = asyncio.Queue()
        serial, reply = self._link.inbox(inbound.put_nowait)
        page: list[Stored] = []
        try:
            await self._link.send(subject, body, reply)
            while True:
                async with asyncio.timeout(ATTEMPT_S):
                    message = await inbound.get()
                if message is None:
                    raise Interrupted("disconnected")
                status = status_of(message) if not message.data else ""
                if status in ("204", "404"):
                    return page
                if status:
                    raise Interrupted(f"status {status}")
                headers = message.headers or {}
                page.append(
                    Stored(headers["Nats-Subject"], message.data, int(headers["Nats-Sequence"]))
                )
        finally:
            self._link.drop(serial)

    async def holds(self, stream: str, sequence: int) -> bool:
        """See ports.queue.Queue."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PUBLISH_S
        body = orjson.dumps({"seq": sequence})
        while True:
            await self._link.wait_up(deadline)
            try:
                message = await self._link.ask(f"$JS.API.DIRECT.GET.{stream}", body)
            except Interrupted:
                await asyncio.sleep(PAUSE_S)
                continue
            status = status_of(message)
            if status in ("", "404"):
                return status == ""
            if loop.time() >= deadline:
                raise QueueDown(f"{stream} cannot be read: status {status}")
            await asyncio.sleep(PAUSE_S)

    async def incarnation(self, stream: str) -> int:
        """See ports.queue.Queue."""
        reply = await self._link.call(f"$JS.API.STREAM.INFO.{stream}", {})
        return _micros(reply["created"])

    async def purge(self, stream: str, subject: str) -> None:
        """See ports.queue.Queue."""
        await self._link.call(f"$JS.API.STREAM.PURGE.{stream}", {"filter": subject}, PURGE_S)

    async def broadcast(self, subject: str, data: bytes) -> None:
        """See ports.queue.Queue."""
        try:
            await self._link.send(subject, data)
        except Interrupted:
            # Lossy by contract: whoever misses it learns otherwise.
            return

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """See ports.queue.Queue."""
        loop = asyncio.get_running_loop()
        await self._link.wait_up(loop.time() + timeout_s)
        try:
            message = await self._link.ask(subject, data, timeout_s)
        except Interrupted as error:
            raise QueueDown(f"no answer on {subject}") from error
        if status_of(message) == "503":
            raise QueueDown(f"nobody serves {subject}")
        return message.data

    async def subscribe(self, subject: str, handler: Handler) -> Subscription:
        """See ports.queue.Queue."""

        async def handle(message: Msg) -> None:
            try:
                await handler(message.data)
            except Exception:  # noqa: BLE001 - a faulty handler must not end the subscription
                _log.exception("queue_handler_failed", subject=subject)

        return _CoreSubscription(await self._subscribe(subject, handle))

    async def serve(self, subject: str, responder: Responder) -> Subscription:
        """See ports.queue.Queue."""
        tasks: dict[asyncio.Task[None], None] = {}
        room = asyncio.Semaphore(RESPONDERS_MAX)

        async def answer(message: Msg) -> None:
            try:
                reply = await responder(message.data)
                if message.reply:
                    await self._link.send(message.reply, reply)
            except (Interrupted, QueueDown):
                # The asker has its own deadline.
                return
            except Exception:  # noqa: BLE001 - a faulty responder must not end the others
                _log.exception("queue_responder_failed", subject=subject)
            finally:
                room.release()

        async def handle(message: Msg) -> None:
            await room.acquire()
            task = asyncio.get_running_loop().create_task(answer(message))
            tasks[task] = None
            task.add_done_callback(lambda done: tasks.pop(done, None))

        def stop() -> None:
            for task in list(tasks):
                task.cancel()

        return _CoreSubscription(await self._subscribe(subject, handle), stop)

    async def _subscribe(self, subject: str, handle: Any) -> Any:
        try:
            subscription = await self._link.client.subscribe(
                subject,
                cb=handle,
                pending_msgs_limit=BACKLOG_MESSAGES_MAX,
                pending_bytes_limit=BACKLOG_BYTES_MAX,
            )
            # What is sent after this call is seen: a round trip that began after the subscription.
            # nats-py's ping overtakes what its writer has not written yet, so the first trip only
            # makes sure of the writing, and the second goes behind it.
            await self._link.client.flush(FLUSH_S)
            await self._link.client.flush(FLUSH_S)
        except (nats.errors.Error, OSError) as error:
            raise QueueDown(f"cannot subscribe to {subject}") from error
        return subscription


def _micros(text: str) -> int:
    """Return RFC 3339 with nanoseconds as Unix microseconds."""
    whole, _, rest = text.partition(".")
    fraction = rest.rstrip("Z")[:6].ljust(6, "0") if rest else "000000"
    moment = datetime.datetime.fromisoformat(whole.rstrip("Z") + "+00:00")
    return int(moment.timestamp()) * 1_000_000 + int(fraction)


__all__ = ["CHUNKS", "RESULTS", "TASKS", "NatsQueue", "StreamOptions"]
