"""The `grpc` component: any gRPC service, called by the description that it gives of itself."""

from collections.abc import Callable, Mapping
from typing import Any

from bend_executors.configuration import Section
from bend_executors.grpc import options
from bend_executors.grpc.component import GrpcComponent as GrpcComponent
from bend_executors.grpc.options import Options as Options

__all__ = ["GrpcComponent", "Options", "components"]


def components(environment: Mapping[str, str], section: Section) -> list[Callable[..., Any]]:
    """Return what this folder serves."""
    return [GrpcComponent(options.read(environment, section)).invoke]
