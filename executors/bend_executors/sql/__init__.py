"""The `sql` component: one bound, checked statement on a database that the operator named."""

from collections.abc import Iterable, Mapping

from bend_executors.configuration import Section
from bend_executors.service import Service
from bend_executors.sql.component import SqlComponent as SqlComponent
from bend_executors.sql.connections import Connection, read_connections

__all__ = ["SqlComponent", "service"]

CREDIT_MIN = 32


def credit(connections: Iterable[Connection]) -> int:
    """Return twice what the sessions can run, for reading and for writing, so that none rests."""
    return max(CREDIT_MIN, 2 * sum(2 * connection.pool for connection in connections))


def service(environment: Mapping[str, str], section: Section) -> Service:
    """Return what this folder serves."""
    connections = read_connections(environment, section)
    made = SqlComponent(connections)
    return Service([made.query], credit(connections.values()), made.close)
