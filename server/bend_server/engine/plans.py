"""Plans by revision: loaded from SQL, compiled once, kept while they are used."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import orjson

from bend_server.core.errors import NotFound
from bend_server.core.plan import Plan
from bend_server.language import compile_document
from bend_server.ports.store import EngineStore, StoredRevision

KEPT_MAX = 1024

Key = tuple[str, str, int]
Offload = Callable[[Callable[[], Plan]], Awaitable[Plan]]


async def compile_here(work: Callable[[], Plan]) -> Plan:
    """Compile on the loop: for small documents and for simulations."""
    return work()


async def compile_aside(work: Callable[[], Plan]) -> Plan:
    """Compile in a thread, so that a document of megabytes does not hold up the loop."""
    return await asyncio.to_thread(work)


class StoredPlans:
    """`ports.plans.PlanSource` over the revisions in SQL.

    Keeps the most recently used plans. A revision that many ask for at once is compiled once.

    Args:
        store: where documents are.
        offload: runs a compilation; `compile_aside` in servers.
        kept_max: plans kept; executions in memory keep theirs anyway.
    """

    def __init__(
        self, store: EngineStore, offload: Offload = compile_here, kept_max: int = KEPT_MAX
    ) -> None:
        self._store = store
        self._offload = offload
        self._kept_max = kept_max
        self._plans: OrderedDict[Key, Plan] = OrderedDict()
        self._busy: dict[Key, asyncio.Event] = {}

    def known(self, namespace: str, workflow: str, revision: int) -> Plan | None:
        """Return a plan that is at hand, or None."""
        key = (namespace, workflow, revision)
        plan = self._plans.get(key)
        if plan is not None:
            self._plans.move_to_end(key)
        return plan

    async def plan(self, namespace: str, workflow: str, revision: int) -> Plan:
        """Return a plan; load and compile it when it is not at hand.

        Raises NotFound, InvalidDocument, DependencyDown.
        """
        key = (namespace, workflow, revision)
        while True:
            plan = self.known(namespace, workflow, revision)
            if plan is not None:
                return plan
            busy = self._busy.get(key)
            if busy is None:
                break
            await busy.wait()
        done = self._busy[key] = asyncio.Event()
        try:
            plan = await self._load(namespace, workflow, revision)
        finally:
            del self._busy[key]
            done.set()
        self._plans[key] = plan
        if len(self._plans) > self._kept_max:
            self._plans.popitem(last=False)
        return plan

    async def _load(self, namespace: str, workflow: str, revision: int) -> Plan:
        stored = await self._store.load_revision(namespace, workflow, revision)
        if stored is None:
            raise NotFound(
                f"workflow {workflow} has no revision {revision}",
                reason="WORKFLOW_NOT_FOUND",
                workflow=workflow,
                revision=revision,
            )
        return await self._offload(lambda: plan_of(stored))


def plan_of(stored: StoredRevision) -> Plan:
    """Compile a stored revision. Raises InvalidDocument."""
    content_type = "application/json" if stored.document[:1] == b"{" else "application/yaml"
    pins = orjson.loads(stored.pins) if stored.pins else {}
    definition = compile_document(stored.document, content_type)
    return definition.plan(stored.namespace, stored.revision, pins)
