"""One NATS connection: a single inbox for all answers, and an outbox for what needs none.

nats-py costs a task and a queue per subscription and loses answers silently over a reconnect.
Here answers are taken in the read loop itself, and a reconnect fails every open question at once.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from bend_server.ports.queue import QueueDown

RECONNECT_WAIT_S = 0.1
PING_S = 10
OUTBOX_MAX = 65_536
ASK_S = 2.0
LAST_TRIP_S = 1
_STATUS = "Status"

_log = structlog.get_logger(__name__)


class Interrupted(Exception):
    """The connection broke while an answer was due."""


class Sink:
    """Takes messages in the read loop: nats-py calls it like a future, so no task is woken."""

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[Msg], None]) -> None:
        self._take = take

    def cancelled(self) -> bool:
        """Tell nats-py that messages are still wanted."""
        return False

    def set_result(self, message: Msg) -> None:
        """Take one message; a fault here must not end the read loop."""
        try:
            self._take(message)
        except Exception:  # noqa: BLE001 - nats-py would stop reading for ever
            _log.exception("queue_message_unreadable")


def status_of(message: Msg) -> str:
    """Return a status message's code (`404`, `503`, …), or an empty text."""
    headers = message.headers
    return headers.get(_STATUS, "") if headers else ""


class NatsLink:
    """A connection with questions and answers.

    Args:
        on_back: awaited in a task of its own after each reconnect.
    """

    def __init__(self, on_back: Callable[[], Awaitable[None]]) -> None:
        self._client = Client()
        self._on_back = on_back
        self._inbox = ""
        self._serial = 0
        self._open: dict[int, Callable[[Msg | None], None]] = {}
        self._outbox: deque[tuple[str, bytes]] = deque(maxlen=OUTBOX_MAX)
        self._kick = asyncio.Event()
        self._up = asyncio.Event()
        self._settled = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._reviver: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[Any] | None = None

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        return self._client.is_connected

    @property
    def client(self) -> Client:
        """The nats-py client, for core subscriptions."""
        return self._client

    async def open(
        self,
        url: str,
        tls: ssl.SSLContext | None,
        name: str,
        inbox_prefix: str,
        timeout_s: float,
    ) -> None:
        """Connect. Raises QueueDown when nobody answers within `timeout_s` seconds."""
        options: dict[str, Any] = {} if tls is None else {"tls": tls}
        try:
            async with asyncio.timeout(timeout_s):
                await self._client.connect(
                    url.split(","),
                    name=name,
                    inbox_prefix=inbox_prefix,
                    connect_timeout=2,
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]
                    max_reconnect_attempts=-1,
                    ping_interval=PING_S,
                    # Nothing is buffered while disconnected: publishers wait and try again.
                    pending_size=-1,
                    error_cb=self._failed,
                    disconnected_cb=self._lost,
                    reconnected_cb=self._back,
                    skip_subject_validation=True,
                    **options,
                )
                self._inbox = self._client.new_inbox()
                await self.listen(self._inbox + ".*", self._answer)
        except (TimeoutError, OSError, nats.errors.Error) as error:
            await self._client.close()
            raise QueueDown(f"cannot connect to {url}: {error!r}") from error
        self._up.set()
        self._settled.set()
        self._writer = asyncio.get_running_loop().create_task(self._write())

    async def close(self) -> None:
        """Send what the outbox holds, then disconnect."""
        self._closer = asyncio.current_task()
        if self._writer is not None:
            if self.connected:
                await self._empty_outbox()
            self._writer.cancel()
        if self._reviver is not None:
            self._reviver.cancel()
        await self._client.close()
        self._interrupt()

    async def _failed(self, error: Exception) -> None:
        # Reconnect attempts and revoked permissions come here; neither ends the client.
        _log.debug("queue_connection_error", error=repr(error)[:300])
        task = asyncio.current_task()
        if task is not None and task is not self._closer and task.cancelling():
            # An attempt that fails in the moment of its cancellation hides it from nats-py, which
            # would then try for ever.
            raise asyncio.CancelledError

    def _down(self) -> None:
        self._up.clear()
        self._settled.clear()

    async def _lost(self) -> None:
        self._down()
        self._interrupt()
        if not self._client.is_closed:
            _log.warning("queue_disconnected")

    async def _back(self) -> None:
        self._interrupt()
        self._up.set()
        if self._reviver is not None:
            self._reviver.cancel()
        self._reviver = asyncio.get_running_loop().create_task(self._revive())

    async def _revive(self) -> None:
        while self._up.is_set():
            try:
                await self._on_back()
            except QueueDown as error:
                # JetStream may need longer than the connection; a new break starts this anew.
                _log.warning("queue_revival_failed", error=str(error))
                await asyncio.sleep(RECONNECT_WAIT_S)
            else:
                break
        else:
            return
        self._settled.set()
        _log.info("queue_reconnected")

    def forget_posts(self) -> None:
        """Drop what waits in the outbox: it speaks of a store that is gone."""
        self._outbox.clear()

    async def wait_settled(self) -> None:
        """Wait until the connection is up and it is known which streams there are."""
        await self._settled.wait()

    def _interrupt(self) -> None:
        for answer in list(self._open.values()):
            answer(None)

    async def wait_up(self, deadline: float) -> None:
        """Wait for the connection until a point of loop time. Raises QueueDown after it."""
        if self._up.is_set():
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(max(0.0, deadline - loop.time())):
                await self._up.wait()
        except TimeoutError:
            raise QueueDown("the queue cannot be reached") from None

    async def listen(self, subject: str, take: Callable[[Msg], None]) -> Any:
        """Subscribe with a plain function that is called in the read loop."""
        return await self._client.subscribe(subject, future=Sink(take))  # type: ignore[arg-type]

    async def unlisten(self, subscription: Any) -> None:
        """End a subscription once all that was on its way has been taken.

        A lost connection has ended it already.
        """
        try:
            if self.connected:
                # nats-py's own way forgets the subscription at once, and messages that the server
                # sent before it read the UNSUB are lost until their ack_wait is over.
                await self._client._send_unsubscribe(subscription._id)  # noqa: SLF001
                await self._client.flush(LAST_TRIP_S)
        except (nats.errors.Error, OSError):
            _log.debug("queue_subscription_cut")
        try:
            await subscription.unsubscribe()
        except (nats.errors.Error, OSError):
            return

    def _answer(self, message: Msg) -> None:
        serial = message.subject[len(self._inbox) + 1 :]
        answer = self._open.get(int(serial))
        if answer is not None:
            answer(message)

    def inbox(self, answer: Callable[[Msg | None], None]) -> tuple[int, str]:
        """Open an inbox; `answer` gets each message, or None when the connection broke."""
        self._serial += 1
        self._open[self._serial] = answer
        return self._serial, f"{self._inbox}.{self._serial}"

    def drop(self, serial: int) -> None:
        """Forget an inbox."""
        self._open.pop(serial, None)

    async def send(self, subject: str, data: bytes, reply: str = "") -> None:
        """Publish a core message. Raises Interrupted while disconnected."""
        try:
            await self._client.publish(subject, data, reply)
        except (nats.errors.Error, OSError) as error:
            if isinstance(error, nats.errors.MaxPayloadError):
                raise QueueDown(f"a message for {subject} is over the payload limit") from error
            if not self.connected:
                # nats-py tells so in a task of its own: whoever tries again at once, without
                # waiting for `up`, would never let that task run.
                self._down()
            raise Interrupted(repr(error)) from error

    async def ask(self, subject: str, data: bytes, timeout_s: float = ASK_S) -> Msg:
        """Ask once. Raises Interrupted, or QueueDown after `timeout_s` seconds."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Msg] = loop.create_future()

        def answer(message: Msg | None) -> None:
            if answered.done():
                return
            if message is None:
                answered.set_exception(Interrupted("disconnected"))
            else:
                answered.set_result(message)

        def late() -> None:
            if not answered.done():
                answered.set_exception(QueueDown(f"no answer on {subject}"))

        serial, reply = self.inbox(answer)
        timer = loop.call_later(timeout_s, late)
        try:
            await self.send(subject, data, reply)
            return await answered
        finally:
            timer.cancel()
            self.drop(serial)
            if not answered.cancel() and not answered.cancelled():
                # Mark it as seen: the connection may break while the question is being sent.
                answered.exception()

    async def call(self, subject: str, body: dict[str, object], within_s: float = 5.0) -> Any:
        """Ask the JetStream API; try again over reconnects. Raises QueueDown, ApiRefused."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        data = orjson.dumps(body)
        while True:
            await self.wait_up(deadline)
            try:
                message = await self.ask(subject, data)
            except Interrupted as error:
                if loop.time() >= deadline:
                    raise QueueDown("the queue cannot be reached") from error
                await asyncio.sleep(RECONNECT_WAIT_S)
                continue
            if status_of(message) == "503":
                if loop.time() >= deadline:
                    raise QueueDown(f"nobody answers {subject}")
                await asyncio.sleep(RECONNECT_WAIT_S)
                continue
            reply = orjson.loads(message.data)
            if "error" in reply:
                raise ApiRefused(subject, reply["error"])
            return reply

    def post(self, subject: str, data: bytes) -> None:
        """Send soon, without an answer; kept over a reconnect, the oldest dropped when many."""
        self._outbox.append((subject, data))
        self._kick.set()

    async def _write(self) -> None:
        while True:
            await self._kick.wait()
            self._kick.clear()
            await self._settled.wait()
            await self._empty_outbox()

    async def _empty_outbox(self) -> None:
        outbox = self._outbox
        while outbox:
            subject, data = outbox.popleft()
            try:
                await self.send(subject, data)
            except (Interrupted, QueueDown):
                outbox.appendleft((subject, data))
                if not self._settled.is_set():
                    self._kick.set()
                    return
                # Not connected, and not told so yet.
                await asyncio.sleep(RECONNECT_WAIT_S)


class ApiRefused(QueueDown):
    """JetStream refused a call; `code` is its err_code."""

    def __init__(self, subject: str, error: dict[str, Any]) -> None:
        super().__init__(f"{subject}: {error.get('description', error)}")
        self.code = int(error.get("err_code", 0))
