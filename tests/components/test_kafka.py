"""The kafka component against librdkafka's mock brokers: what arrives, and what errors mean."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from bend import RetryableError, TerminalError
from bend.errors import ComponentError
from bend_executors import configuration
from bend_executors.kafka import KafkaComponent
from bend_executors.kafka.clusters import Cluster, read_clusters
from tests.components.calls import call, documented
from tests.components.kafka_broker import INIT_PRODUCER_ID, PRODUCE, Brokers
from tests.kit.loops import eventually

CONSUME_S = 60.0


@pytest.fixture(scope="module")
def brokers() -> Iterator[Brokers]:
    """Three brokers; topics that nobody made have four partitions."""
    made = Brokers()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, brokers: Brokers) -> Iterator[KafkaComponent]:
    """A component with the default settings: a producer takes half a second to get its id."""
    component = KafkaComponent({"events": cluster(tmp_path_factory.mktemp("kafka"), brokers)})
    yield component
    component.close()


def cluster(folder: Path, brokers: Brokers, **more: Any) -> Cluster:
    """Read a cluster `events` as the component's configuration does."""
    one = {
        "bootstrap": brokers.bootstrap,
        "topics": ["orders.*", "raw"],
        "security": {"protocol": "PLAINTEXT"},
    } | more
    (folder / "components.yaml").write_text(
        yaml.safe_dump({"kafka": {"clusters": {"events": one}}})
    )
    section = configuration.load({"BEND_HOME": str(folder)}).section("kafka")
    return read_clusters(section)["events"]


async def publish(component: KafkaComponent, timeout_s: float = 60.0, **values: Any) -> Any:
    """Call a component on its cluster `events`; return the output."""
    given = {"cluster": "events"} | values
    return (await call(component.publish, given, timeout_s=timeout_s)).output


def published(component: KafkaComponent, **values: Any) -> Any:
    return asyncio.run(publish(component, **values))


def failed(component: KafkaComponent, **values: Any) -> ComponentError:
    with pytest.raises((TerminalError, RetryableError)) as caught:
        published(component, **values)
    return caught.value


@contextmanager
def component_of(settings: Cluster) -> Iterator[KafkaComponent]:
    """A component of its own, for a test with other settings."""
    component = KafkaComponent({"events": settings})
    try:
        yield component
    finally:
        component.close()


def consumed(brokers: Brokers, topic: str, count: int) -> list[Message]:
    """Return the first messages of a topic, by partition and offset."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers.bootstrap,
            "group.id": f"reader-of-{topic}",
            "enable.auto.commit": False,
            "check.crcs": True,
        }
    )
    try:
        partitions = consumer.list_topics(topic, CONSUME_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        found: list[Message] = []
        while len(found) < count:
            some = consumer.consume(count - len(found), CONSUME_S)
            assert some, f"{len(found)} of {count} messages came"
            found += some
    finally:
        consumer.close()
    assert all(message.error() is None for message in found)
    return sorted(found, key=lambda one: (one.partition(), one.offset()))


async def attempts(send: Callable[[], Awaitable[Any]], count: int = 20) -> Any:
    """Call as the engine would: again after a retryable failure."""
    for _ in range(count - 1):
        try:
            return await send()
        except RetryableError:
            continue
    return await send()


def test_what_is_published_is_what_arrives(shared: KafkaComponent, brokers: Brokers) -> None:
    brokers.create("orders.one", partitions=2)
    got = published(
        shared,
        topic="orders.one",
        value={"id": 7, "text": "é"},
        key="k-7",
        headers={"kind": "new"},
        partition=1,
        timestamp="2026-01-31T10:00:00.250+02:00",
    )
    (place,) = got["messages"]
    assert (got["topic"], got["count"]) == ("orders.one", 1)
    # The time of a report is the broker's, and the mock's clock always says the same.
    assert place == {"partition": 1, "offset": 0, "timestamp": "1970-01-01T00:00:01.234Z"}
    (message,) = consumed(brokers, "orders.one", 1)
    assert orjson.loads(message.value() or b"") == {"id": 7, "text": "é"}
    assert message.key() == b"k-7"
    assert dict(message.headers() or []) == {
        "kind": b"new",
        "bend-idempotency-key": b"default/e-1/t/-1/0/0",
    }
    assert (message.partition(), message.timestamp()[1]) == (1, 1769846400250)


def test_many_messages_keep_their_order_and_are_reported_in_it(
    tmp_path: Path, brokers: Brokers
) -> None:
    compressions = ("none", "gzip", "snappy", "lz4", "zstd")
    sent = [{"value": number, "key": number % 7} for number in range(1000)]
    settings = {name: cluster(tmp_path, brokers, compression=name) for name in compressions}
    for name in compressions:
        brokers.create(f"orders.many-{name}", partitions=3)

    async def all_of_them() -> list[Any]:
        components = {name: KafkaComponent({"events": settings[name]}) for name in compressions}
        given = {"cluster": "events", "messages": sent}
        calls = [
            call(one.publish, given | {"topic": f"orders.many-{name}"})
            for name, one in components.items()
        ]
        try:
            return [made.output for made in await asyncio.gather(*calls)]
        finally:
            for one in components.values():
                one.close()

    for got in asyncio.run(all_of_them()):
        check_order(got, consumed(brokers, got["topic"], 1000))


def check_order(got: Any, arrived: list[Message]) -> None:
    """Check that each message stands where its report says, and keys in their order."""
    places = {(one["partition"], one["offset"]): n for n, one in enumerate(got["messages"])}
    assert len(places) == got["count"] == len(arrived)
    by_key: dict[bytes, list[int]] = {}
    for message in arrived:
        number = places[message.partition() or 0, message.offset() or 0]
        assert orjson.loads(message.value() or b"") == number
        assert message.key() == str(number % 7).encode()
        by_key.setdefault(bytes(message.key() or b""), []).append(number)
    assert len(by_key) == 7
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


def test_texts_bytes_and_tombstones(shared: KafkaComponent, brokers: Brokers) -> None:
    brokers.create("raw")

    async def run() -> None:
        await publish(shared, topic="raw", value="plain é", encoding="text")
        await publish(shared, topic="raw", value="AQID", encoding="base64")
        await publish(shared, topic="raw", value="quoted")
        await publish(shared, topic="raw", value=None, key="gone")

    asyncio.run(run())
    values = [message.value() for message in consumed(brokers, "raw", 4)]
    assert values == ["plain é".encode(), b"\1\2\3", b'"quoted"', None]


def test_the_examples_of_the_document_run(shared: KafkaComponent) -> None:
    language = ("id", "type", "timeout")

    async def run() -> list[int]:
        counts = []
        for task in documented("kafka"):
            values = {key: value for key, value in task.items() if key not in language}
            counts.append((await publish(shared, **values))["count"])
        return counts

    assert asyncio.run(run()) == [1, 2]


def test_tasks_share_batches_and_one_producer(shared: KafkaComponent, brokers: Brokers) -> None:
    brokers.create("orders.shared")

    async def run() -> list[Any]:
        tasks = [publish(shared, topic="orders.shared", value=number) for number in range(200)]
        return await asyncio.gather(*tasks)

    offsets = sorted(one["messages"][0]["offset"] for one in asyncio.run(run()))
    assert offsets == list(range(200))


def test_a_full_queue_holds_a_task_back_and_loses_nothing(tmp_path: Path, brokers: Brokers) -> None:
    messages = [{"value": number} for number in range(300)]
    with component_of(cluster(tmp_path, brokers, queue_messages_max=10, linger_ms=0)) as one:
        assert published(one, topic="orders.tight", messages=messages)["count"] == 300


def test_an_error_that_passes_is_not_seen(shared: KafkaComponent, brokers: Brokers) -> None:
    brokers.create("orders.retried")
    brokers.fail_next(PRODUCE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REQUEST_TIMED_OUT)
    got = published(shared, topic="orders.retried", messages=[{"value": n} for n in range(5)])
    assert [one["offset"] for one in got["messages"]] == [0, 1, 2, 3, 4]
    assert [message.value() for message in consumed(brokers, "orders.retried", 5)] == [
        str(n).encode() for n in range(5)
    ]


def test_a_topic_that_is_not_there_is_terminal(
    tmp_path: Path, shared: KafkaComponent, brokers: Brokers
) -> None:
    brokers.fail_topic("orders.none", KafkaError.UNKNOWN_TOPIC_OR_PART)
    with component_of(cluster(tmp_path, brokers, topic_wait=0.2)) as hasty:
        error = failed(hasty, topic="orders.none", value=1)
        assert (error.reason, error.retryable) == ("KAFKA_UNKNOWN_TOPIC", False)
        assert failed(hasty, topic="orders.none", value=1).reason == "KAFKA_UNKNOWN_TOPIC"
        # Somebody makes it: the next task needs no new producer.
        brokers.fail_topic("orders.none", KafkaError.NO_ERROR)
        assert published(hasty, topic="orders.none", value=1)["count"] == 1
    brokers.create("orders.small")
    error = failed(shared, topic="orders.small", value=1, partition=9)
    assert (error.reason, error.retryable) == ("KAFKA_UNKNOWN_TOPIC", False)


def test_a_topic_that_is_not_ours_is_terminal(shared: KafkaComponent, brokers: Brokers) -> None:
    brokers.create("orders.locked")
    brokers.fail_next(PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    error = failed(shared, topic="orders.locked", value=1)
    assert (error.reason, error.retryable) == ("KAFKA_NOT_AUTHORIZED", False)
    assert error.details == {"delivered": 0, "failed": 1, "first": 0}
    # The operator opens it: the next message is taken.
    assert published(shared, topic="orders.locked", value=2)["count"] == 1


def test_a_message_that_is_too_large_sends_none(shared: KafkaComponent, brokers: Brokers) -> None:
    brokers.create("orders.large")
    messages = [{"value": 1}, {"value": "x" * 1_100_000}]
    error = failed(shared, topic="orders.large", messages=messages)
    assert (error.reason, error.retryable) == ("KAFKA_MESSAGE_TOO_LARGE", False)
    assert "messages[1]" in str(error)
    assert published(shared, topic="orders.large", value=2)["messages"][0]["offset"] == 0


def test_brokers_that_are_down_are_tried_again(tmp_path: Path) -> None:
    own = Brokers(1)
    own.create("orders.down")

    async def run(one: KafkaComponent) -> tuple[ComponentError, Any]:
        await attempts(lambda: publish(one, topic="orders.down", value=0))
        own.down()
        with pytest.raises(RetryableError) as caught:
            await publish(one, topic="orders.down", value=1)
        own.up()
        later = await attempts(lambda: publish(one, topic="orders.down", value=2))
        return caught.value, later

    with component_of(cluster(tmp_path, own, delivery_timeout=0.7)) as one:
        error, later = asyncio.run(run(one))
    own.close()
    assert error.reason == "KAFKA_TIMEOUT"
    assert later["count"] == 1


def test_a_broken_producer_is_replaced(tmp_path: Path) -> None:
    own = Brokers(1)
    own.fail_next(INIT_PRODUCER_ID, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
    with component_of(cluster(tmp_path, own)) as one:
        error = failed(one, topic="orders.fatal", value=1)
        later = published(one, topic="orders.fatal", value=2)
    own.close()
    assert error.reason == "KAFKA_PRODUCER_FATAL"
    assert later["count"] == 1


def waiting(component: KafkaComponent) -> int:
    """Return how many messages the component's producers hold and have not sent."""
    lines = [channel._line for channel in component._channels.values()]
    return sum(len(line.producer) for line in lines if line is not None)


def test_a_cancelled_task_leaves_the_producer_whole(tmp_path: Path, brokers: Brokers) -> None:
    brokers.create("orders.cancelled")

    async def run(one: KafkaComponent) -> tuple[int, int]:
        sent = 0
        while True:
            first = asyncio.ensure_future(publish(one, topic="orders.cancelled", value=1))
            await eventually(lambda first=first: first.done() or waiting(one) == 1)
            sent += 1
            if first.cancel():
                break  # else the machine was so slow that it had ended: once more
        with pytest.raises(asyncio.CancelledError):
            await first
        later = await publish(one, topic="orders.cancelled", value=2)
        return sent, later["messages"][0]["offset"]

    # What was on its way comes before what was sent later.
    with component_of(cluster(tmp_path, brokers, linger_ms=300)) as one:
        sent, offset = asyncio.run(run(one))
    assert offset == sent


def test_what_is_under_way_is_sent_when_the_process_ends(tmp_path: Path, brokers: Brokers) -> None:
    cluster(tmp_path, brokers, linger_ms=5000)
    brokers.create("orders.end")
    program = """
import asyncio
from bend import Context
from bend_executors import configuration
from bend_executors.kafka import service
from tests.components.calls import Call
from tests.components.test_kafka import waiting

async def main():
    section = configuration.load(__import__("os").environ).section("kafka")
    publish, = service({}, section).functions
    context = Context(Call(), execution_id="e", task="t")
    task = asyncio.ensure_future(publish(context, "events", "orders.end", value=1))
    while not waiting(publish.__self__):
        await asyncio.sleep(0.01)
    task.cancel()

asyncio.run(main())
"""
    subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"BEND_HOME": str(tmp_path)},
        cwd=Path(__file__).resolve().parents[2],
        check=True,
        timeout=90,
    )
    (message,) = consumed(brokers, "orders.end", 1)
    assert message.value() == b"1"


def test_what_may_not_be_published(tmp_path: Path, brokers: Brokers) -> None:
    settings = cluster(tmp_path, brokers, namespaces=["sales"])

    def reason(namespace: str = "sales", **values: Any) -> str:
        component = KafkaComponent({"events": settings})
        given = {"cluster": "events", "topic": "raw", "value": 1} | values
        with pytest.raises(TerminalError) as caught:
            asyncio.run(call(component.publish, given, namespace=namespace))
        return caught.value.reason

    assert reason("default") == "KAFKA_CLUSTER_UNKNOWN"
    assert reason(cluster="other") == "KAFKA_CLUSTER_UNKNOWN"
    for topic in ("payments", "xorders.a", "orders.\n", "", "orders./etc", "raw2"):
        assert reason(topic=topic) == "KAFKA_TOPIC_REFUSED"
    for wrong in (
        {"messages": [{"value": 1}]},
        {"value": "a", "encoding": "base64"},
        {"value": 1, "encoding": "text"},
        {"partition": -1},
        {"timestamp": "2026-01-31T10:00:00"},
        {"timestamp": -5},
    ):
        assert reason(**wrong) == "INVALID_INPUT"


@pytest.mark.parametrize("several", [None, [], [{"key": "k"}], [{"value": 1, "colour": "red"}]])
def test_messages_that_are_none(shared: KafkaComponent, several: Any) -> None:
    values = {"topic": "raw"} | ({} if several is None else {"messages": several})
    assert failed(shared, **values).reason == "INVALID_INPUT"
