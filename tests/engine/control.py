"""Plans with the engine's own types, for tests of control flow."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from bend_server.core.model import TaskKind
from bend_server.core.plan import ConcurrencyPlan, Plan, Rendered, Scope
from tests.kit.plans import Task, make_plan

KINDS = {
    "wait": TaskKind.WAIT,
    "signal": TaskKind.SIGNAL,
    "approval": TaskKind.APPROVAL,
    "workflow": TaskKind.WORKFLOW,
}


def own(id_: str, kind: str, body: object, **fields: Any) -> Task:
    """Return a task of one of the engine's own types with a fixed input."""
    data = orjson.dumps(body)

    def render(scope: Scope) -> Rendered:
        return Rendered(data)

    return Task(id=id_, kind=KINDS[kind], component=kind, render=render, **fields)


def items(*values: object) -> Any:
    """Return a for_each over fixed values."""

    def make(scope: Scope) -> list[bytes]:
        return [orjson.dumps(value) for value in values]

    return make


def plan(
    *tasks: Task,
    workflow: str = "w",
    concurrency: ConcurrencyPlan | None = None,
    input_schema: Mapping[str, object] | None = None,
    **fields: Any,
) -> Plan:
    """Return a plan of tasks."""
    made = make_plan(list(tasks), workflow=workflow, **fields)
    return replace(made, concurrency=concurrency, input_schema=input_schema)
