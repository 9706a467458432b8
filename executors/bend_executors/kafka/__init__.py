"""The `kafka` component: publishes to topics of clusters that the operator named."""

from collections.abc import Mapping

from bend_executors.configuration import Section
from bend_executors.kafka.clusters import read_clusters
from bend_executors.kafka.component import KafkaComponent as KafkaComponent
from bend_executors.service import Service

__all__ = ["KafkaComponent", "service"]
# Tasks wait for the brokers, not for this machine.
CREDIT = 512


def service(_environment: Mapping[str, str], section: Section) -> Service:
    """Return what this folder serves."""
    made = KafkaComponent(read_clusters(section))
    return Service([made.publish], CREDIT, made.close)
