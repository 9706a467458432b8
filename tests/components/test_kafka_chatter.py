"""What librdkafka says many times a second is in the log once a minute."""

import asyncio
import logging

import pytest

from bend import RetryableError
from bend_executors.kafka import KafkaComponent
from bend_executors.kafka.chatter import EVERY_S, Seldom, logger
from bend_executors.kafka.clusters import Cluster
from tests.components.calls import call
from tests.kit.programs import free_port


def line(text: str) -> logging.LogRecord:
    return logging.LogRecord("kafka", logging.ERROR, "", 0, text, ("FAIL", "p-1", "why"), None)


def test_each_kind_of_line_comes_once_in_its_time() -> None:
    now = 1000.0
    seldom = Seldom(lambda: now)
    assert seldom.filter(line("%s [%s] [one]: %s"))
    assert not seldom.filter(line("%s [%s] [one]: %s"))
    assert not seldom.filter(line("%s [%s] [one]: other words, %s"))
    assert seldom.filter(line("%s [%s] [two]: %s"))
    now += EVERY_S
    again = line("%s [%s] [one]: %s")
    assert seldom.filter(again)
    assert again.getMessage() == "FAIL [p-1] [one]: why (2 more since the last one)"


def test_a_cluster_that_is_away_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    place = f"127.0.0.1:{free_port()}"
    settings = {
        "bootstrap.servers": place,
        "delivery.timeout.ms": 800,
        "reconnect.backoff.ms": 10,
        "reconnect.backoff.max.ms": 20,
    }
    component = KafkaComponent({"far": Cluster("far", topics=("*",), settings=settings)})

    async def use() -> None:
        with pytest.raises(RetryableError):
            await call(component.publish, {"cluster": "far", "topic": "t", "value": 1})

    with caplog.at_level(logging.INFO, logger().name):
        asyncio.run(use())
        component.close()
    said = [record.getMessage() for record in caplog.records if record.name == logger().name]
    kinds = [text.partition("]: ")[0] for text in said]
    assert any(place in text for text in said)
    assert len(kinds) == len(set(kinds)), said
