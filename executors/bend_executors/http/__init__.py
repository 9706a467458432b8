"""The `http` component: REST calls with a guard against reaching what a workflow may not reach."""

from collections.abc import Callable, Mapping
from typing import Any

from bend_executors.configuration import Section
from bend_executors.http.component import HttpComponent as HttpComponent

__all__ = ["HttpComponent", "components"]


def components(environment: Mapping[str, str], _section: Section) -> list[Callable[..., Any]]:
    """Return what this folder serves."""
    return [HttpComponent(environment.get("BEND_HTTP_ALLOW", "")).request]
