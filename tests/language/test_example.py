"""The example of the language's contract."""

import orjson
import pytest

from bend_server.core import limits
from bend_server.core.plan import CachePlan
from bend_server.language import compile_document
from tests.language.scopes import FakeScope

EXAMPLE = b"""\
name: auto_threat_response
description: Automated threat detection and response workflow
tasks:
  - id: enrich
    type: http
    url: "http://threat-intel:8080/v1/enrich"
    method: POST
    body: {indicator: "{{input.indicator}}"}
    timeout: 5s
    cacheable: true
  - id: score
    type: model
    script: threat_scoring_v2          # the model's name
    body: {features: "{{enrich.features}}"}
    depends_on: [enrich]
    timeout: 2s
  - id: block
    type: http
    url: "http://api-gateway:8080/v1/block"
    method: POST
    body: {ip: "{{enrich.ip}}", reason: "High risk score: {{score.risk}}"}
    depends_on: [score]
    condition: "score.risk > 0.8"
    allow_failure: true
    timeout: 3s
  - id: audit
    type: http
    url: "http://audit-trail:8080/v1/log"
    method: POST
    body: {workflow: "{{workflow.id}}", action: threat_response, result: "{{block.status}}"}
    depends_on: [block]
    timeout: 1s
"""


def test_the_example_becomes_a_plan() -> None:
    plan = compile_document(EXAMPLE, "application/yaml").plan("default", 1, {"http": 1, "model": 2})
    assert [task.id for task in plan.tasks] == ["enrich", "score", "block", "audit"]
    assert [task.dependencies for task in plan.tasks] == [(), (0,), (0, 1), (2,)]
    assert [task.successors for task in plan.tasks] == [(1, 2), (2,), (3,), ()]
    assert [task.major for task in plan.tasks] == [1, 2, 1, 1]
    assert [task.timeout_us for task in plan.tasks] == [5_000_000, 2_000_000, 3_000_000, 1_000_000]
    assert plan.roots == (0,)
    assert plan.leaves == (3,)
    assert list(plan.dependency_counts) == [0, 1, 2, 1]
    assert plan.tasks[2].allow_failure
    assert plan.tasks[0].cache == CachePlan(limits.CACHE_TTL_US, None, False)
    assert not plan.plain


def test_the_examples_templates_are_filled() -> None:
    plan = compile_document(EXAMPLE, "application/yaml").plan("default", 1, {})
    scope = FakeScope(
        {"indicator": "192.168.1.100"},
        {0: {"features": [1, 2.5], "ip": "10.0.0.1"}, 1: {"risk": 1}},
    )
    bodies = [orjson.loads(task.render(scope).data)["body"] for task in plan.tasks]
    assert bodies == [
        {"indicator": "192.168.1.100"},
        {"features": [1, 2.5]},
        {"ip": "10.0.0.1", "reason": "High risk score: 1"},
        {"workflow": "demo-1", "action": "threat_response", "result": "skipped"},
    ]


@pytest.mark.parametrize(("risk", "runs"), [(1, True), (0.9, True), (0, False), (0.8, False)])
def test_an_integral_risk_compares_with_a_fraction(risk: float, runs: bool) -> None:
    condition = (
        compile_document(EXAMPLE, "application/yaml").plan("default", 1, {}).tasks[2].condition
    )
    assert condition is not None
    assert condition(FakeScope(outputs={1: {"risk": risk}})) is runs
