"""What the operator says about each cluster: brokers, topics, who may publish, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from bend_executors.configuration import Section
from bend_executors.kafka.security import read_security, refuse

EVERYWHERE = "*"
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")
COMPRESSION = "lz4"
LINGER_MS = 5
DELIVERY_TIMEOUT_S = 30.0
TOPIC_WAIT_S = 10.0
MESSAGE_BYTES_MAX = 1_000_000
QUEUE_MESSAGES_MAX = 100_000
QUEUE_KIB_MAX = 64 * 1024
IN_FLIGHT_MAX = 5
RECONNECT_MS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Cluster:
    """One named cluster.

    Attributes:
        topics: patterns such as `orders.*`; a topic that fits none is refused.
        settings: librdkafka's; secrets stand in it.
    """

    name: str
    topics: tuple[str, ...]
    settings: Mapping[str, Any] = field(repr=False)
    namespaces: frozenset[str] = frozenset(("default",))
    message_bytes_max: int = MESSAGE_BYTES_MAX
    delivery_timeout_s: float = DELIVERY_TIMEOUT_S

    def open_to(self, namespace: str) -> bool:
        """Tell whether workflows of a namespace may publish here."""
        return EVERYWHERE in self.namespaces or namespace in self.namespaces

    def has(self, topic: str) -> bool:
        """Tell whether a topic is one that the operator allows."""
        return any(fnmatchcase(topic, pattern) for pattern in self.topics)


def read_clusters(section: Section) -> dict[str, Cluster]:
    """Read `clusters: {name: {bootstrap: …, topics: […]}}`.

    Raises ConfigurationError, which names the place.
    """
    found: dict[str, Cluster] = {}
    for name, one in section.sections("clusters"):
        found[name] = _cluster(name, one)
        one.done()
    return found


def _cluster(name: str, section: Section) -> Cluster:
    bootstrap = section.take("bootstrap", str)
    timeout_s = _seconds(section, "delivery_timeout", DELIVERY_TIMEOUT_S)
    bytes_max = _bounded(section, "message_bytes_max", MESSAGE_BYTES_MAX, 50_000_000)
    compression = section.take("compression", str, COMPRESSION)
    if compression not in COMPRESSIONS:
        refuse(section, "compression", f"one of {', '.join(COMPRESSIONS)} is wanted")
    settings = {
        "bootstrap.servers": bootstrap,
        "client.id": "bend-kafka",
        # In a producer's life each message is written once and in order, however often it is sent.
        "enable.idempotence": True,
        "acks": "all",
        "max.in.flight.requests.per.connection": IN_FLIGHT_MAX,
        "compression.type": compression,
        # A broker that is back is found within about a second.
        "reconnect.backoff.max.ms": RECONNECT_MS_MAX,
        "linger.ms": _bounded(section, "linger_ms", LINGER_MS, 10_000, least=0),
        "delivery.timeout.ms": int(timeout_s * 1000),
        "topic.metadata.propagation.max.ms": int(
            _seconds(section, "topic_wait", TOPIC_WAIT_S) * 1000
        ),
        "message.max.bytes": bytes_max,
        "queue.buffering.max.messages": _bounded(
            section, "queue_messages_max", QUEUE_MESSAGES_MAX, 1_000_000
        ),
        "queue.buffering.max.kbytes": QUEUE_KIB_MAX,
        **read_security(section.section("security"), _hosts(section, bootstrap)),
    }
    return Cluster(
        name=name,
        topics=_names(section, "topics", []),
        settings=settings,
        namespaces=frozenset(_names(section, "namespaces", ["default"])),
        message_bytes_max=bytes_max,
        delivery_timeout_s=timeout_s,
    )


def _hosts(section: Section, bootstrap: str) -> list[str]:
    hosts = []
    for place in bootstrap.split(","):
        host, separator, port = place.strip().rpartition(":")
        if not separator or not host or "/" in host or not port.isdigit():
            refuse(section, "bootstrap", "HOST:PORT is wanted, or several with commas between")
        hosts.append(host)
    return hosts


def _names(section: Section, key: str, default: list[str]) -> tuple[str, ...]:
    names = section.take(key, list, default)
    if not names or not all(isinstance(name, str) and name for name in names):
        refuse(section, key, "a list of names is wanted, or ['*']")
    return tuple(names)


def _bounded(section: Section, key: str, default: int, most: int, least: int = 1) -> int:
    value: int = section.take(key, int, default)
    if not least <= value <= most:
        refuse(section, key, f"{least} to {most} is wanted")
    return value


def _seconds(section: Section, key: str, default: float) -> float:
    value: float = section.take(key, float, default)
    if not 0.1 <= value <= 3600:
        refuse(section, key, "seconds are wanted, 0.1 to 3600")
    return value
