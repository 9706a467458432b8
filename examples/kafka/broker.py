"""Keep librdkafka's mock brokers up, and print what arrives in `orders.created`, until Ctrl+C.

It writes `$BEND_HOME/components.yaml` when there is none, else it shows what belongs into it.
"""

import os
import signal
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

TOPIC = "orders.created"
SETTINGS = """\
# What the operator allows the component `kafka`; belongs to $BEND_HOME, not to any workflow.
kafka:
  clusters:
    events:
      bootstrap: "{bootstrap}"
      topics: ["orders.*"]
      security: {{protocol: PLAINTEXT}}    # loopback only; a real cluster has TLS
"""


def allow(bootstrap: str) -> None:
    """Write or show the operator's settings."""
    path = Path(os.environ.get("BEND_HOME", ".bend")) / "components.yaml"
    settings = SETTINGS.format(bootstrap=bootstrap)
    if path.exists():
        print(f"{path} is there: this belongs into it\n\n{settings}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(settings, encoding="utf-8")
    print(f"made {path}")


def main() -> None:
    """Run until interrupted or told to end."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    host = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 3, "log_level": 3})
    # A producer's question about a topic makes it; a consumer's does not.
    host.list_topics(TOPIC, timeout=10)
    brokers = host.list_topics(timeout=10).brokers.values()
    bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    allow(bootstrap)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "example"})
    partitions = host.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions
    consumer.assign([TopicPartition(TOPIC, number, OFFSET_BEGINNING) for number in partitions])
    print(f"brokers at {bootstrap}; waiting for messages in {TOPIC}, Ctrl+C ends", flush=True)
    try:
        while True:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                key, value = message.key() or b"", message.value() or b""
                place = f"{message.partition()}/{message.offset()}"
                print(f"{place} {key.decode()}: {value.decode()}", flush=True)
    except KeyboardInterrupt:
        consumer.close()


if __name__ == "__main__":
    main()
