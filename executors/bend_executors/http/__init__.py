"""The `http` component: REST calls with a guard against reaching what a workflow may not reach."""

from collections.abc import Mapping

from bend_executors.configuration import Section
from bend_executors.http import options
from bend_executors.http.component import HttpComponent as HttpComponent
from bend_executors.http.options import Options as Options
from bend_executors.service import Service

__all__ = ["HttpComponent", "Options", "service"]
# As many connections as it opens by default.
CREDIT = 512


def service(environment: Mapping[str, str], section: Section) -> Service:
    """Return what this folder serves."""
    made = HttpComponent(options.read(environment, section))
    return Service([made.request], CREDIT, made.close)
