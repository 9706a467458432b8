"""The component: checks what may be published where, and answers where it was written."""

import asyncio
import importlib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from bend import Context, TerminalError, component
from bend_executors.kafka import messages as encoding_of
from bend_executors.kafka.clusters import Cluster
from bend_executors.kafka.messages import Encoding, Message

if TYPE_CHECKING:
    from bend_executors.kafka.producers import Channel

REPORT_SPARE_S = 2.0
# Tells a task without `value` from one whose value is null.
_NOTHING: Any = object()


class Written(TypedDict):
    """Where one message stands; `timestamp` is RFC 3339."""

    partition: int
    offset: int
    timestamp: str


class Report(TypedDict):
    """The output: one entry for each message, in their order."""

    topic: str
    count: int
    messages: list[Written]


class KafkaComponent:
    """Holds a producer for each cluster; librdkafka is loaded with the first task."""

    def __init__(self, clusters: Mapping[str, Cluster]) -> None:
        self._clusters = clusters
        self._channels: dict[str, Channel] = {}

    @component("kafka", version="1.0.0")
    async def publish(
        self,
        context: Context,
        cluster: str,
        topic: str,
        value: Any = _NOTHING,
        key: str | int | None = None,
        headers: dict[str, str] | None = None,
        partition: int | None = None,
        timestamp: int | datetime | None = None,
        messages: list[Message] | None = None,
        encoding: Encoding = "json",
    ) -> Report:
        """Publish one message, or several in their order, and answer where each was written.

        Either `value` (with `key`, `headers`, `partition`, `timestamp`) or `messages`, a list of
        such. Values are JSON, or with `encoding` text or base64; null is a tombstone. All replicas
        in sync have a message when the task ends well. Each has the header `bend-idempotency-key`.
        """
        one: Message = {
            "value": value,
            "key": key,
            "headers": headers,
            "partition": partition,
            "timestamp": timestamp,
        }
        given = chosen(one, messages)
        settings = self._allowed(cluster, topic, context.namespace)
        encoded = encoding_of.encoded(
            given, encoding, context.idempotency_key, settings.message_bytes_max
        )
        channel = await self._channel(settings)
        timeout_s = min(context.timeout_s, settings.delivery_timeout_s + REPORT_SPARE_S)
        found = await channel.send(topic, encoded, timeout_s)
        return {
            "topic": topic,
            "count": len(found),
            "messages": [
                {
                    "partition": delivery.partition,
                    "offset": delivery.offset,
                    "timestamp": encoding_of.rfc3339(delivery.timestamp_ms),
                }
                for delivery in found
            ],
        }

    def _allowed(self, name: str, topic: str, namespace: str) -> Cluster:
        settings = self._clusters.get(name)
        if settings is None or not settings.open_to(namespace):
            # The same answer for both: a namespace learns nothing about another's clusters.
            raise TerminalError(
                "KAFKA_CLUSTER_UNKNOWN", f"namespace {namespace} has no cluster '{name}'"
            )
        if not encoding_of.TOPIC.fullmatch(topic) or not settings.has(topic):
            raise TerminalError(
                "KAFKA_TOPIC_REFUSED", f"cluster {name} does not take the topic {topic[:249]!r}"
            )
        return settings

    async def _channel(self, settings: Cluster) -> "Channel":
        channel = self._channels.get(settings.name)
        if channel is None:
            # librdkafka costs 20 MB and a tenth of a second.
            room = "bend_executors.kafka.producers"
            await asyncio.to_thread(importlib.import_module, room)
            from bend_executors.kafka.producers import Channel

            # Another task may have been here while this one waited.
            channel = self._channels.get(settings.name)
            if channel is None:
                channel = self._channels[settings.name] = Channel(settings)
        return channel

    def close(self) -> None:
        """Send what waits and let the producers go. Blocks for at most some seconds."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()


def chosen(one: Message, several: list[Message] | None) -> list[Message]:
    """Return the messages of an input that names one or several. Raises TerminalError."""
    single = one["value"] is not _NOTHING
    if several is None and single:
        return [one]
    extra = [name for name, value in one.items() if name != "value" and value is not None]
    if several is None or single or extra:
        raise TerminalError(
            "INVALID_INPUT", "either `value` with its key and headers or `messages` is wanted"
        )
    for at, message in enumerate(several):
        if "value" not in message:
            raise TerminalError("INVALID_INPUT", f"messages[{at}].value: is missing")
    return several
