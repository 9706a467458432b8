"""One producer for all tasks of a cluster, so that their messages travel in common batches.

librdkafka's reports are taken by a thread, which never blocks the loop; the loop hears once for
each task, when the last report of its messages is there.
"""

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from bend import RetryableError, TerminalError
from bend_executors.kafka.chatter import logger
from bend_executors.kafka.clusters import Cluster
from bend_executors.kafka.failures import failure
from bend_executors.kafka.messages import Encoded

log = logging.getLogger(__name__)

POLL_S = 0.5
FLUSH_S = 5.0
METADATA_S = 2.0
QUEUE_FULL_WAIT_S = 0.005
# Messages that are handed over before other tasks have their turn.
TURN_MESSAGES = 200
REMEMBERED = frozenset(
    (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    )
)
TELLING = frozenset(("_SSL", "_AUTHENTICATION"))
FATAL = frozenset((KafkaError._FATAL,))  # noqa: SLF001 - its local errors' names


class Delivery(NamedTuple):
    """Where a broker has written a message."""

    partition: int
    offset: int
    timestamp_ms: int


class Batch:
    """The reports of one task's messages, in the messages' order."""

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.reports: list[Delivery | KafkaError | None] = [None] * count
        self.settled: asyncio.Future[None] = self._loop.create_future()
        self._sent = 0
        self._arrived = 0
        self._closed = False

    def expect(self) -> Callable[[Any, Any], None]:
        """Return what takes the next message's report, in librdkafka's thread."""
        at = self._sent
        self._sent += 1
        return partial(self._report, at)

    def unexpect(self) -> None:
        """Take the last `expect` back: the message was not taken."""
        self._sent -= 1

    def close(self) -> None:
        """Tell that all messages were handed over."""
        self._closed = True
        self._check()

    def _report(self, at: int, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self.reports[at] = error
        else:
            self.reports[at] = Delivery(
                message.partition(), message.offset(), message.timestamp()[1]
            )
        self._arrived += 1
        # Either this thread sees `_closed`, or `close` sees the count: it is set before the look.
        if self._closed and self._arrived == self._sent:
            try:
                self._loop.call_soon_threadsafe(self._check)
            except RuntimeError:
                # The loop has ended, and with it whoever waited.
                log.debug("a report came after the end")

    def _check(self) -> None:
        if self._closed and self._arrived == self._sent and not self.settled.done():
            self.settled.set_result(None)


class Line:
    """One librdkafka producer with its thread; it ends when told to, or broken and empty."""

    def __init__(self, cluster: Cluster) -> None:
        self.broken = False
        self.last_error = ""
        self._stopping = False
        settings = dict(cluster.settings) | {"error_cb": self._on_error, "logger": logger()}
        try:
            self.producer = Producer(settings)
        except KafkaException as error:
            found = error.args[0]
            raise TerminalError(
                "KAFKA_CONFIGURATION", f"cluster {cluster.name}: {found.str()}"
            ) from None
        threading.Thread(target=self._poll, name=f"kafka-{cluster.name}", daemon=True).start()

    def _poll(self) -> None:
        while not self._stopping:
            try:
                self.producer.poll(POLL_S)
            except KafkaException as error:
                # A fatal error comes out here, instead of going to `error_cb`.
                self._on_error(error.args[0])
            if self.broken and not len(self.producer):
                return

    def _on_error(self, error: KafkaError) -> None:
        # That a connection ended, or that all did, says less than why.
        if self.last_error not in TELLING:
            self.last_error = error.name()
        if error.fatal() or error.code() in FATAL:
            self.give_up()

    async def asked_again(self, error: KafkaError, topic: str) -> bool:
        """Return True when a refusal was librdkafka's memory, which a question may have renewed.

        Once a broker refused a topic, librdkafka does so by itself for minutes, although the
        operator may have made or opened the topic meanwhile.
        """
        if error.code() not in REMEMBERED:
            return False
        try:
            await asyncio.to_thread(self.producer.list_topics, topic, METADATA_S)
        except KafkaException as unanswered:
            log.debug("no metadata of %s: %s", topic, unanswered)
            return False
        return True

    def give_up(self) -> None:
        """Let no further message in and have what waits reported as failed. Any thread."""
        if not self.broken:
            self.broken = True
            log.warning(
                "kafka: the producer is broken (%s); the next task gets another one",
                self.last_error,
            )
            self.producer.purge(blocking=False)

    def end(self) -> None:
        """Wait a moment for what is under way, then stop."""
        try:
            if not self.broken:
                self.producer.flush(FLUSH_S)
        except KafkaException as error:
            self._on_error(error.args[0])
        # The thread sees it within POLL_S; nobody needs to wait for that.
        self._stopping = True


class Channel:
    """Sends to one cluster; a broken producer is replaced by the next task."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._line: Line | None = None
        # What a cancelled task left in the queue is still sent when the process stops.
        atexit.register(self.close)

    async def send(
        self, topic: str, messages: Sequence[Encoded], timeout_s: float
    ) -> list[Delivery]:
        """Publish messages in their order; return where each was written.

        Raises ComponentError: the first failure's reason, `details` has the counts.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        line = self._opened()
        batch = Batch(len(messages))
        for at, message in enumerate(messages):
            await self._hand_over(line, batch, topic, message, deadline)
            if at % TURN_MESSAGES == TURN_MESSAGES - 1:
                await asyncio.sleep(0)
        batch.close()
        try:
            async with asyncio.timeout_at(deadline):
                await batch.settled
        except TimeoutError:
            raise RetryableError("KAFKA_TIMEOUT", self._text(topic, line)) from None
        found = [one for one in batch.reports if isinstance(one, Delivery)]
        if len(found) == len(messages):
            line.last_error = ""
            return found
        at, error = next(
            (at, one) for at, one in enumerate(batch.reports) if isinstance(one, KafkaError)
        )
        if error.fatal() or error.code() in FATAL:
            line.give_up()
        details = {"delivered": len(found), "failed": len(messages) - len(found), "first": at}
        raise failure(error, self._text(topic, line), details)

    def close(self) -> None:
        """Send what waits, then let the producer go. Blocks for at most some seconds."""
        atexit.unregister(self.close)
        line, self._line = self._line, None
        if line is not None:
            line.end()

    def _opened(self) -> Line:
        line = self._line
        if line is None or line.broken:
            line = self._line = Line(self._cluster)
        return line

    async def _hand_over(
        self, line: Line, batch: Batch, topic: str, message: Encoded, deadline: float
    ) -> None:
        """Give one message to librdkafka, waiting while its queue is full."""
        loop = asyncio.get_running_loop()
        first_time = True
        while True:
            report = batch.expect()
            try:
                line.producer.produce(
                    topic,
                    value=message.value,
                    key=message.key,
                    headers=message.headers,
                    partition=message.partition,
                    timestamp=message.timestamp_ms,
                    on_delivery=report,
                )
            except BufferError:
                batch.unexpect()
            except KafkaException as error:
                batch.unexpect()
                found = error.args[0]
                if found.fatal() or found.code() in FATAL:
                    line.give_up()
                if not first_time or not await line.asked_again(found, topic):
                    raise failure(found, self._text(topic, line)) from None
                first_time = False
                continue
            else:
                return
            if loop.time() > deadline:
                raise RetryableError("KAFKA_QUEUE_FULL", self._text(topic, line))
            await asyncio.sleep(QUEUE_FULL_WAIT_S)

    def _text(self, topic: str, line: Line) -> str:
        said = f" (the connection's last error: {line.last_error})" if line.last_error else ""
        return f"cluster {self._cluster.name}, topic {topic}{said}"
