"""The `kafka` component: publishes to topics of clusters that the operator named."""

from collections.abc import Callable, Mapping
from typing import Any

from bend_executors.configuration import Section
from bend_executors.kafka.clusters import read_clusters
from bend_executors.kafka.component import KafkaComponent as KafkaComponent

__all__ = ["KafkaComponent", "components"]


def components(_environment: Mapping[str, str], section: Section) -> list[Callable[..., Any]]:
    """Return what this folder serves."""
    return [KafkaComponent(read_clusters(section)).publish]
