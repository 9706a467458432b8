"""The `http` component: REST calls with a guard against reaching what a workflow may not reach."""

from collections.abc import Callable, Mapping
from typing import Any

from bend_executors.configuration import Section
from bend_executors.http import options
from bend_executors.http.component import HttpComponent as HttpComponent
from bend_executors.http.options import Options as Options

__all__ = ["HttpComponent", "Options", "components"]


def components(environment: Mapping[str, str], section: Section) -> list[Callable[..., Any]]:
    """Return what this folder serves."""
    return [HttpComponent(options.read(environment, section)).request]
