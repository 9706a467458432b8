"""The `sql` component: one bound, checked statement on a database that the operator named."""

from collections.abc import Callable, Mapping
from typing import Any

from bend_executors.configuration import Section
from bend_executors.sql.component import SqlComponent as SqlComponent
from bend_executors.sql.connections import read_connections

__all__ = ["SqlComponent", "components"]


def components(environment: Mapping[str, str], section: Section) -> list[Callable[..., Any]]:
    """Return what this folder serves."""
    return [SqlComponent(read_connections(environment, section)).query]
