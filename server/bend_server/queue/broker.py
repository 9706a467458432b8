"""The streams of the in-memory queue: what nats-server keeps, without a network.

Deterministic: time is the event loop's, order is insertion order, chance comes from `Weather`.
"""

import asyncio
import heapq
from collections.abc import Callable
from functools import partial
from typing import Protocol

from bend_server.ports.queue import (
    CHUNKS,
    RESULTS,
    TASKS,
    UNACKED_MAX,
    Delivery,
    QueueDown,
    QueueFull,
    Stored,
)

_PREFIXES = {"tasks": TASKS, "results": RESULTS, "chunks": CHUNKS}
STREAM_BYTES_MAX = 1024 * 1024 * 1024


class Weather(Protocol):
    """What a network does to messages, for simulations."""

    def fate(self, kind: str, subject: str) -> tuple[float, ...]:
        """Return after how many seconds each copy of a message arrives; () loses it.

        Args:
            kind: `publish` (to a stream), `stored` (the answer to it), `delivery`, `ack`
                (also nak and progress), `core` (broadcasts, requests, their answers).
            subject: where it goes.
        """
        ...


class Pull(Protocol):
    """The broker's view of one puller."""

    wanted: int

    def take(self, delivery: Delivery) -> None:
        """Receive one message."""
        ...


def stream_of(subject: str) -> str:
    """Return the stream that stores a subject. Raises QueueDown for none."""
    try:
        return _PREFIXES[subject.partition(".")[0]]
    except KeyError:
        raise QueueDown(f"no stream takes {subject!r}") from None


def matches(pattern: str, subject: str) -> bool:
    """Tell whether a subject fits a pattern with `*` and `>`."""
    if pattern == subject:
        return True
    wanted, given = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return index < len(given)
        if index >= len(given) or part not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


class Durable:
    """One durable consumer: what waits, what is out and until when."""

    __slots__ = ("ack_wait_s", "deliveries", "due", "name", "pulls", "ready", "subject", "timer")

    def __init__(self, name: str, subject: str, ack_wait_s: float) -> None:
        self.name = name
        self.subject = subject
        self.ack_wait_s = ack_wait_s
        self.ready: list[int] = []
        self.due: dict[int, float] = {}
        self.deliveries: dict[int, int] = {}
        self.pulls: list[Pull] = []
        self.timer: asyncio.TimerHandle | None = None


class Stream:
    """One stream: messages by sequence, and its consumers."""

    def __init__(self, name: str, created_us: int, bytes_max: int) -> None:
        self.name = name
        self.created_us = created_us
        self.bytes_max = bytes_max
        self.bytes = 0
        self.last = 0
        self.messages: dict[int, tuple[str, bytes, int]] = {}
        self.durables: dict[str, Durable] = {}

    def remove(self, sequence: int) -> None:
        """Forget a message; unknown ones are fine."""
        message = self.messages.pop(sequence, None)
        if message is not None:
            self.bytes -= len(message[1])


class MemoryBroker:
    """What several `MemoryQueue` clients share.

    Args:
        now_us: Unix microseconds; None: the event loop's time.
        weather: what happens to messages on the way; None: they arrive at once.
        bytes_max: size limit of each stream.
    """

    def __init__(
        self,
        now_us: Callable[[], int] | None = None,
        weather: Weather | None = None,
        bytes_max: int = STREAM_BYTES_MAX,
    ) -> None:
        self._now_us = now_us
        self.weather = weather
        self._bytes_max = bytes_max
        self._incarnations = 0
        self.subscriptions: dict[str, list[Callable[[bytes, Callable[[bytes], None]], None]]] = {}
        self.streams: dict[str, Stream] = {}
        self.on_wipe: list[Callable[[], None]] = []
        self.on_store: dict[str, list[Callable[[], None]]] = {}
        self._make_streams()

    def _make_streams(self) -> None:
        self._incarnations += 1
        for name in (TASKS, RESULTS, CHUNKS):
            self.streams[name] = Stream(name, self._incarnations, self._bytes_max)

    def now_us(self) -> int:
        """Return Unix microseconds."""
        if self._now_us is not None:
            return self._now_us()
        return int(asyncio.get_running_loop().time() * 1_000_000)

    def wipe(self) -> None:
        """Lose all messages and consumers, as a lost store does; clients then reconnect."""
        for stream in self.streams.values():
            for durable in stream.durables.values():
                if durable.timer is not None:
                    durable.timer.cancel()
        self._make_streams()
        for callback in list(self.on_wipe):
            callback()

    def send(self, kind: str, subject: str, arrive: Callable[[], None]) -> int:
        """Let a message travel: `arrive` is called for each copy; return how many there are."""
        if self.weather is None:
            arrive()
            return 1
        loop = asyncio.get_running_loop()
        delays = self.weather.fate(kind, subject)
        for delay in delays:
            loop.call_later(delay, arrive)
        return len(delays)

    def store(self, subject: str, data: bytes) -> int:
        """Append one message. Raises QueueFull; CHUNKS drops its oldest instead."""
        stream = self.streams[stream_of(subject)]
        while stream.bytes + len(data) > stream.bytes_max:
            if stream.name != CHUNKS or not stream.messages:
                raise QueueFull(f"{stream.name} holds {stream.bytes_max} bytes, its limit")
            stream.remove(next(iter(stream.messages)))
        stream.last += 1
        sequence = stream.last
        stream.messages[sequence] = (subject, data, self.now_us())
        stream.bytes += len(data)
        for durable in stream.durables.values():
            if matches(durable.subject, subject):
                heapq.heappush(durable.ready, sequence)
                self.deliver(stream, durable)
        for wake in list(self.on_store.get(stream.name, ())):
            wake()
        return sequence

    def open_durable(self, stream_name: str, subject: str, name: str, ack_wait_s: float) -> None:
        """Make a durable consumer when it is missing.

        Raises QueueDown when another consumer of a work queue has that subject.
        """
        stream = self.streams[stream_name]
        durable = stream.durables.get(name)
        if durable is not None:
            durable.ack_wait_s = ack_wait_s
            return
        for other in stream.durables.values():
            if matches(other.subject, subject) or matches(subject, other.subject):
                raise QueueDown(f"{subject} is consumed by {other.name} already")
        durable = Durable(name, subject, ack_wait_s)
        durable.ready = [s for s, m in stream.messages.items() if matches(subject, m[0])]
        stream.durables[name] = durable

    def attach(self, stream_name: str, name: str, pull: Pull) -> None:
        """Let a puller take part."""
        stream = self.streams[stream_name]
        durable = stream.durables.get(name)
        if durable is None:
            return
        if pull not in durable.pulls:
            durable.pulls.append(pull)
        self.deliver(stream, durable)

    def detach(self, stream_name: str, name: str, pull: Pull, inactive_s: float | None) -> None:
        """A puller leaves; the last one starts the consumer's inactivity."""
        durable = self.streams[stream_name].durables.get(name)
        if durable is None or pull not in durable.pulls:
            return
        durable.pulls.remove(pull)
        if inactive_s is not None and not durable.pulls:
            loop = asyncio.get_running_loop()
            loop.call_later(inactive_s, self._expire, stream_name, durable)

    def _expire(self, stream_name: str, durable: Durable) -> None:
        stream = self.streams[stream_name]
        if not durable.pulls and stream.durables.get(durable.name) is durable:
            if durable.timer is not None:
                durable.timer.cancel()
            del stream.durables[durable.name]

    def deliver(self, stream: Stream, durable: Durable) -> None:
        """Hand out what is ready to whoever wants it, in turn."""
        while durable.ready:
            pull = next((p for p in durable.pulls if p.wanted > 0), None)
            if pull is None:
                break
            sequence = heapq.heappop(durable.ready)
            message = stream.messages.get(sequence)
            if message is None:
                continue
            durable.pulls.remove(pull)
            durable.pulls.append(pull)
            pull.wanted -= 1
            count = durable.deliveries.get(sequence, 0) + 1
            durable.deliveries[sequence] = count
            loop = asyncio.get_running_loop()
            durable.due[sequence] = loop.time() + durable.ack_wait_s
            token = _token(stream, durable, sequence, count)
            delivery = Delivery(message[0], message[1], sequence, count, message[2], token)
            if not self.send("delivery", message[0], partial(pull.take, delivery)):
                pull.wanted += 1
        self._arm(stream, durable)

    def _arm(self, stream: Stream, durable: Durable) -> None:
        if durable.timer is not None:
            durable.timer.cancel()
            durable.timer = None
        if durable.due:
            due = min(durable.due.values())
            loop = asyncio.get_running_loop()
            durable.timer = loop.call_at(due, self._redeliver, stream, durable)

    def _redeliver(self, stream: Stream, durable: Durable) -> None:
        durable.timer = None
        now = asyncio.get_running_loop().time()
        for sequence, due in list(durable.due.items()):
            # A clock of fixed steps may call a hair too early.
            if due <= now + 1e-6:
                del durable.due[sequence]
                heapq.heappush(durable.ready, sequence)
        self.deliver(stream, durable)

    def unacked(self, stream_name: str, name: str) -> dict[int, str]:
        """Return the tokens of what a durable consumer has out, by sequence, the newest ones."""
        stream = self.streams[stream_name]
        durable = stream.durables.get(name)
        if durable is None:
            return {}
        return {
            sequence: _token(stream, durable, sequence, durable.deliveries[sequence])
            for sequence in sorted(durable.due)[-UNACKED_MAX:]
        }

    def settle(self, token: str, verdict: str, delay_s: float) -> None:
        """Ack, nak or prolong a delivery; a token of a lost stream does nothing."""
        name, created, durable_name, sequence_text, _ = token.split("/")
        stream = self.streams[name]
        durable = stream.durables.get(durable_name)
        if durable is None or stream.created_us != int(created):
            return
        sequence = int(sequence_text)
        if verdict == "ack":
            durable.due.pop(sequence, None)
            durable.deliveries.pop(sequence, None)
            stream.remove(sequence)
        elif sequence in durable.due:
            wait = durable.ack_wait_s if verdict == "progress" else delay_s
            durable.due[sequence] = asyncio.get_running_loop().time() + wait
            if verdict == "nak" and delay_s <= 0:
                del durable.due[sequence]
                heapq.heappush(durable.ready, sequence)
                self.deliver(stream, durable)
                return
        self._arm(stream, durable)

    def held(self, stream_name: str, subject: str) -> list[Stored]:
        """Return what a stream holds under a subject, by sequence."""
        return [
            Stored(message[0], message[1], sequence)
            for sequence, message in self.streams[stream_name].messages.items()
            if matches(subject, message[0])
        ]


def _token(stream: Stream, durable: Durable, sequence: int, count: int) -> str:
    return f"{stream.name}/{stream.created_us}/{durable.name}/{sequence}/{count}"
