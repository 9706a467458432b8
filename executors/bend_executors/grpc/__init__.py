"""The `grpc` component: any gRPC service, called by the description that it gives of itself."""

from collections.abc import Mapping

from bend_executors.configuration import Section
from bend_executors.grpc import options
from bend_executors.grpc.component import GrpcComponent as GrpcComponent
from bend_executors.grpc.options import Options as Options
from bend_executors.service import Service

__all__ = ["GrpcComponent", "Options", "service"]
CREDIT = 512


def service(environment: Mapping[str, str], section: Section) -> Service:
    """Return what this folder serves."""
    made = GrpcComponent(options.read(environment, section))
    return Service([made.invoke], CREDIT, made.close)
