"""A component's contract as messages carry it."""

from bend.components import Component
from bend.v1 import component_pb2


def contract_of(component: Component) -> component_pb2.ComponentContract:
    """Return a component's contract."""
    return component_pb2.ComponentContract(
        name=component.name,
        version=component.version,
        description=component.description,
        labels=component.labels,
        input_schema=component.input_schema,
        output_schema=component.output_schema,
        long_running=component.long_running,
        heartbeats=component.heartbeats,
    )
