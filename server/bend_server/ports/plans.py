"""Compiled plans as the engine asks for them; `bend_server.engine.plans` offers them."""

from typing import Protocol

from bend_server.core.plan import Plan


class PlanSource(Protocol):
    """Gives the plan of a revision. Revisions are immutable, so plans may be kept for ever."""

    def known(self, namespace: str, workflow: str, revision: int) -> Plan | None:
        """Return a plan that is at hand, or None; never waits. For the hot path."""
        ...

    async def plan(self, namespace: str, workflow: str, revision: int) -> Plan:
        """Return a plan; load and compile it when it is not at hand.

        Raises NotFound (no such revision), InvalidDocument (a stored document that this release
        cannot compile), DependencyDown.
        """
        ...
