"""A continuous pull: one standing request, topped up as messages arrive.

nats-py has only one-shot fetches. Every way in which a request can end unserved (408, 409, 503,
a lost connection, a deleted consumer, silence) gives its messages back to the count and asks again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import orjson
import structlog
from nats.aio.msg import Msg

from bend_server.ports.queue import UNACKED_MAX, Delivery, QueueDown
from bend_server.queue.link import ApiRefused, Interrupted, NatsLink, status_of

REQUEST_S = 30
HEARTBEAT_S = 5
SILENCE_S = 12.0
BACKOFF_MIN_S = 0.05
BACKOFF_MAX_S = 2.0
_NS = 1_000_000_000

_log = structlog.get_logger(__name__)


def delivery_of(message: Msg, stamp: str) -> Delivery:
    """Read the delivery's facts from its ack subject; the token is the stamp, `@`, that subject.

    `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<ns>.<pending>`, with
    domain and account before the stream in the long form.
    """
    reply = message.reply
    parts = reply.split(".")
    first = 4 if len(parts) == 9 else 6
    return Delivery(
        message.subject,
        message.data,
        int(parts[first + 1]),
        int(parts[first]),
        int(parts[first + 3]) // 1000,
        f"{stamp}@{reply}" if stamp else "",
    )


class Out(NamedTuple):
    """What a consumer had delivered and nobody acked at some time, as a span of its stream.

    Args:
        prefix: of the tokens: the stream's stamp, `@`, the ack subject with its consumer.
        floor: stream sequence up to which all is acked.
        last: the last stream sequence that was delivered.
        serial: the consumer's number of that delivery.
    """

    prefix: str
    floor: int
    last: int
    serial: int

    def tokens(self) -> dict[int, str]:
        """Return a token for each sequence.

        The server looks for the sequence among what it has out, and for the serial only whether
        there was one; so one serial serves for all (nats-server 2.15, held by the contract tests).
        """
        first = max(self.floor + 1, self.last - UNACKED_MAX + 1)
        return {
            sequence: f"{self.prefix}.1.{sequence}.{self.serial}.0.0"
            for sequence in range(first, self.last + 1)
        }


def out_of(reply: Any, stamp: str) -> Out | None:
    """Read what is out from a consumer's description; None when nothing is."""
    if not reply["num_ack_pending"]:
        return None
    return Out(
        f"{stamp}@$JS.ACK.{reply['stream_name']}.{reply['name']}",
        int(reply["ack_floor"]["stream_seq"]),
        int(reply["delivered"]["stream_seq"]),
        int(reply["delivered"]["consumer_seq"]),
    )


class NatsConsumer:
    """A pull on one consumer; implements ports.queue.Consumer.

    Args:
        link: the connection.
        stream: the stream's name.
        make: makes the consumer on the server and returns its name; idempotent.
        forget: called once on close.
        stamp: tells when the stream was made, for the tokens; empty where nothing is acked.
    """

    def __init__(
        self,
        link: NatsLink,
        stream: str,
        make: Callable[[int], Awaitable[str]],
        forget: Callable[["NatsConsumer"], None],
        *,
        stamp: Callable[[], str],
    ) -> None:
        self._stamp = stamp
        self._link = link
        self._stream = stream
        self._make = make
        self._forget = forget
        self._subject = ""
        self._reply = ""
        self._subscription: Any = None
        self._buffer: deque[Delivery] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self._wanted = 0
        self._asked = 0
        self._last = 0
        self._heard_at = 0.0
        self._broken = False
        self._kick = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.out: Out | None = None

    def unacked(self) -> dict[int, str]:
        """See ports.queue.Consumer."""
        return {} if self.out is None else self.out.tokens()

    async def open(self) -> None:
        """Make the consumer and start pulling. Raises QueueDown."""
        await self._create()
        # Deliveries keep their own subject: only a subscription of its own tells them apart.
        self._reply = self._link.client.new_inbox()
        self._subscription = await self._link.listen(self._reply, self._take)
        self._task = asyncio.get_running_loop().create_task(self._pull())

    async def _create(self) -> None:
        name = await self._make(self._last)
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{name}"
        self._asked = 0

    def demand(self, messages: int) -> None:
        """See ports.queue.Consumer. What was asked for before a lowered demand may still come."""
        self._wanted = messages
        self._top_up()

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
        while self._buffer:
            self._hand_back(self._buffer.popleft().token.partition("@")[2])
        if self._task is not None:
            self._task.cancel()
        self._forget(self)
        self._wake()
        if self._subscription is not None:
            await self._link.unlisten(self._subscription)

    def _hand_back(self, reply: str) -> None:
        """Let somebody else have a message that nobody here will look at."""
        if reply and self._stamp():
            self._link.post(reply, b"-NAK")

    def revive(self) -> None:
        """The connection is back: the consumer may be gone, and every request is."""
        self._broken = True
        self._asked = 0
        self._kick.set()

    def restart(self) -> None:
        """The stream was made anew: its sequences count from 1 again."""
        self._last = 0
        self.revive()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self, message: Msg) -> None:
        if self._closed:
            if message.reply and not message.headers:
                self._hand_back(message.reply)
            return
        self._heard_at = asyncio.get_running_loop().time()
        if message.headers and not message.data and status_of(message):
            self._status(message)
            return
        delivery = delivery_of(message, self._stamp())
        self._asked = max(0, self._asked - 1)
        self._wanted = max(0, self._wanted - 1)
        self._last = delivery.sequence
        self._buffer.append(delivery)
        self._wake()
        self._top_up()

    def _top_up(self) -> None:
        """Ask for more once half of what is wanted is used up: a request costs both sides."""
        if self._wanted >= self._asked * 2 and self._wanted:
            self._kick.set()

    def _status(self, message: Msg) -> None:
        status = status_of(message)
        if status == "100":
            return
        headers = message.headers or {}
        pending = headers.get("Nats-Pending-Messages", "")
        # A request that was refused outright carries no count: forget what was asked for.
        left = int(pending) if pending.isdigit() else self._asked
        self._asked = max(0, self._asked - left)
        if status != "408":
            # 404 and 503: no such consumer; 409: deleted, too many requests, a leader moved.
            self._broken = True
        self._kick.set()

    async def _pull(self) -> None:
        backoff = BACKOFF_MIN_S
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    await self._kick.wait()
            except TimeoutError:
                if self._asked and loop.time() - self._heard_at > SILENCE_S:
                    self._broken = True
                elif self._wanted <= self._asked:
                    continue
            self._kick.clear()
            await self._link.wait_settled()
            try:
                if self._broken:
                    await asyncio.sleep(backoff)
                    backoff = min(backoff * 2, BACKOFF_MAX_S)
                    self._broken = False
                    await self._create()
                    if not self._broken:
                        backoff = BACKOFF_MIN_S
                if self._wanted > self._asked:
                    await self._request(self._wanted - self._asked)
            except (QueueDown, Interrupted) as error:
                if isinstance(error, ApiRefused):
                    _log.warning("queue_consumer_refused", stream=self._stream, error=str(error))
                self._broken = True
                self._kick.set()

    async def _request(self, messages: int) -> None:
        loop = asyncio.get_running_loop()
        await self._link.wait_up(loop.time() + REQUEST_S)
        self._asked += messages
        self._heard_at = loop.time()
        body = {
            "batch": messages,
            "expires": REQUEST_S * _NS,
            "idle_heartbeat": HEARTBEAT_S * _NS,
        }
        await self._link.send(self._subject, orjson.dumps(body), self._reply)
