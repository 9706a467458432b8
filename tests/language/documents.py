"""Small documents for tests, and what their expressions answer."""

import json
from collections.abc import Mapping

import orjson

from bend_server.core.plan import Plan, Rendered, Scope
from bend_server.language import compile_document, findings_of
from tests.language.scopes import FakeScope

FourFacts = tuple[str, str, int, int]


def plan_of(*tasks: Mapping[str, object], **keys: object) -> Plan:
    """Compile a workflow of some tasks and plan it."""
    document = {"name": "w", **keys, "tasks": [{"type": "x", **task} for task in tasks]}
    data = json.dumps(document).encode()
    return compile_document(data, "application/json").plan("default", 1, {})


def rendered(template: object, scope: Scope) -> Rendered:
    """Render `v` of a task that may read tasks a (0) and b (1)."""
    plan = plan_of({"id": "a"}, {"id": "b"}, {"id": "z", "v": template})
    return plan.tasks[2].render(scope)


def value_of(template: object, scope: Scope | None = None) -> object:
    """Return what a template of task z gives."""
    return orjson.loads(rendered(template, scope or FakeScope()).data)["v"]


def refused(template: object) -> list[tuple[str, str]]:
    """Return (reason, path) of the findings of a document with one template."""
    document = {"name": "w", "tasks": [{"id": "z", "type": "x", "v": template}]}
    found = findings_of(json.dumps(document).encode(), "application/json")
    return [(finding.reason, finding.path) for finding in found]


def facts(document: str, content_type: str = "application/yaml") -> list[FourFacts]:
    """Return (reason, path, line, column) of each finding."""
    found = findings_of(document.encode(), content_type)
    return [(f.reason, f.path, f.line, f.column) for f in found]
