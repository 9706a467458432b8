"""The queue as the rooms see it: three streams, and core messages between processes.

Streams: TASKS (subjects `tasks.<group>`), RESULTS (`results.<slot>`): work queues with explicit
acks per frame; CHUNKS (`chunks.<partition>`) is bounded by age and bytes, old ones are discarded.
The queue may lose everything at any time: SQL is the truth.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

TASKS = "TASKS"
RESULTS = "RESULTS"
CHUNKS = "CHUNKS"

UNACKED_MAX = 16_384

# Whoever starts and has not heard the executors yet asks them to announce themselves at once.
ASK_ANNOUNCE = "executor.announce"
# Registries tell executors which instances get nothing new.
DRAIN = "executor.drain"


class QueueDown(Exception):
    """The queue cannot be reached now, or refused; the publish may or may not be stored."""


class QueueFull(QueueDown):
    """The stream is at its byte limit; back off and show it."""


@dataclass(slots=True)
class Delivery:
    """One message handed to a consumer; `token` names it for ack, nak and progress.

    A token stays good across connections: another process may ack with it.
    """

    subject: str
    data: bytes
    sequence: int
    deliveries: int
    published_us: int
    token: str


@dataclass(slots=True)
class Stored:
    """One message read from a stream without consuming it."""

    subject: str
    data: bytes
    sequence: int


class Consumer(Protocol):
    """A continuous pull. `demand` is how many more messages may arrive; nothing comes at 0."""

    def demand(self, messages: int) -> None:
        """Allow so many messages beyond those delivered already; the last call counts."""
        ...

    async def next(self) -> Delivery:
        """Return the next message; wait for it. Raises QueueDown only after `close`."""
        ...

    def unacked(self) -> dict[int, str]:
        """Return what had been delivered, to whomever, and not acked when this pull was opened.

        Tokens by stream sequence, the newest UNACKED_MAX. There may be more in it than that: a NAK
        of what is acked, or is another consumer's, does nothing.
        """
        ...

    async def close(self) -> None:
        """Stop pulling. Messages that `next` did not return are handed back at once.

        Others that are not acked are delivered to somebody after ack_wait.
        """
        ...


class Subscription(Protocol):
    """A core subscription."""

    async def close(self) -> None:
        """Stop receiving."""
        ...


Handler = Callable[[bytes], Awaitable[None]]
Responder = Callable[[bytes], Awaitable[bytes]]


class Queue(Protocol):
    """The queue. Every await has a deadline of its own and raises QueueDown past it."""

    async def publish(self, subject: str, data: bytes) -> int:
        """Store one message; return its stream sequence once it is stored.

        Tries again (at most 5 s in all) over reconnects; duplicates are possible and harmless.
        Raises QueueFull or QueueDown.
        """
        ...

    async def consume(
        self, stream: str, subject: str, durable: str, ack_wait_s: float, inactive_s: float | None
    ) -> Consumer:
        """Open a durable explicit-ack pull on one subject; make the consumer when it is missing.

        Args:
            durable: name of the consumer, shared by all who pull from it.
            ack_wait_s: seconds until an unacked message is delivered again.
            inactive_s: the server drops the consumer after so long without a pull; None: never.
        """
        ...

    async def tail(self, subject: str, from_sequence: int) -> Consumer:
        """Read CHUNKS from a sequence on (0: from now) without acks; for watchers."""
        ...

    def ack(self, token: str) -> None:
        """Ack a delivery; fire and forget (a lost ack means one more delivery)."""
        ...

    def nak(self, token: str, delay_s: float = 0.0) -> None:
        """Hand a delivery back at once, or after a delay."""
        ...

    def in_progress(self, token: str) -> None:
        """Restart a delivery's ack_wait."""
        ...

    def scan(self, stream: str, subject: str) -> AsyncIterator[Stored]:
        """Read what a stream holds now under one subject, up to the last sequence at the call."""
        ...

    async def holds(self, stream: str, sequence: int) -> bool:
        """Tell whether a stream still holds a message (published, not yet acked)."""
        ...

    async def incarnation(self, stream: str) -> int:
        """Return when the stream was made, Unix microseconds: it changes when sequences restart."""
        ...

    async def purge(self, stream: str, subject: str) -> None:
        """Drop all messages of one subject."""
        ...

    async def broadcast(self, subject: str, data: bytes) -> None:
        """Send a core message to all who subscribe; lossy."""
        ...

    async def request(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """Ask one responder. Raises QueueDown when nobody answers in time."""
        ...

    async def subscribe(self, subject: str, handler: Handler) -> Subscription:
        """Receive core messages of one subject; the handler must return soon."""
        ...

    async def serve(self, subject: str, responder: Responder) -> Subscription:
        """Answer requests on one subject."""
        ...

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call back after each reconnect, when streams exist again (they may be empty)."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        ...
