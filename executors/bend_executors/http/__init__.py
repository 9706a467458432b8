"""The `http` component: REST calls with a guard against reaching what a workflow may not reach."""

from bend_executors.http.component import HttpComponent as HttpComponent

__all__ = ["HttpComponent"]
