"""What a document's settings become in the plan; the canonical form; durations."""

import json

import pytest

from bend_server.core.model import RunIf
from bend_server.core.plan import Plan, RetryPolicy
from bend_server.language import compile_document
from bend_server.language.durations import parse_duration, show_duration
from tests.language.documents import plan_of
from tests.language.scopes import FakeScope

FULL = b"""\
name: full.example
description: "All built keys"
labels: {team: red}
input: {type: object, properties: {n: {type: integer}}}
output: {r: "{{b.x}}", big: 123456789012345678901234567890}
timeout: 2h
priority: 2
defaults:
  timeout: 30s
  retry: {max_attempts: 5, initial: 500ms, on: [HTTP_503]}
tasks:
  - id: a
    type: vision.detect@2
    on: yes
  - id: b
    type: http
    version: 4
    depends_on: [a]
    condition: a.x > 0
    run_if: always
    timeout: 1h30m
    schedule_timeout: 90
    heartbeat_timeout: 2.5
    retry: {max_attempts: 1, multiplier: 1.5, max: 7d, jitter: false, budget: 1h, not_on: [X]}
    allow_failure: true
    allow_unregistered: true
    requires: {zone: east, gpu: "yes"}
    url: "http://{{a.host}}/{{input.n}}"
"""


def plan(data: bytes, content_type: str) -> Plan:
    return compile_document(data, content_type).plan("ns", 7, {"vision.detect": 1, "http": 1})


def test_a_full_document_becomes_a_plan() -> None:
    made = plan(FULL, "application/yaml")
    assert (made.namespace, made.workflow, made.revision) == ("ns", "full.example", 7)
    assert (made.timeout_us, made.priority, made.labels) == (7_200_000_000, 2, {"team": "red"})
    assert made.input_schema == {"type": "object", "properties": {"n": {"type": "integer"}}}
    first, second = made.tasks
    retry = RetryPolicy(attempts_max=5, initial_us=500_000, on=frozenset(("HTTP_503",)))
    assert (first.component, first.major, first.timeout_us) == ("vision.detect", 2, 30_000_000)
    assert (first.retry, first.run_if) == (retry, RunIf.SUCCESS)
    assert first.render(FakeScope()).data == b'{"on":"yes"}'
    assert (second.component, second.major, second.run_if) == ("http", 4, RunIf.ALWAYS)
    assert (second.timeout_us, second.schedule_timeout_us) == (5_400_000_000, 90_000_000)
    assert second.heartbeat_timeout_us == 2_500_000
    assert second.allow_failure
    assert second.requires == (("gpu", "yes"), ("zone", "east"))
    assert second.retry == RetryPolicy(
        attempts_max=1,
        initial_us=500_000,
        multiplier=1.5,
        max_us=7 * 86_400_000_000,
        jitter=False,
        budget_us=3_600_000_000,
        on=frozenset(("HTTP_503",)),
        not_on=frozenset(("X",)),
    )


def test_the_canonical_form_gives_the_same_plan() -> None:
    definition = compile_document(FULL, "application/yaml")
    again = compile_document(definition.canonical, "application/json")
    assert again.canonical == definition.canonical
    assert b'"big":123456789012345678901234567890' in definition.canonical
    one, two = (made.plan("ns", 1, {}) for made in (definition, again))
    scope = FakeScope({"n": 2**70}, {0: {"x": 1, "host": "h"}, 1: {"x": [None]}})
    for left, right in zip(one.tasks, two.tasks, strict=True):
        assert left.render(scope) == right.render(scope)
        for name in ("id", "component", "major", "dependencies", "successors", "retry", "requires"):
            assert getattr(left, name) == getattr(right, name)
    assert one.output is not None
    assert two.output is not None
    assert one.output(scope) == two.output(scope)
    assert one.output(scope) == b'{"r":[null],"big":123456789012345678901234567890}'


def test_the_same_document_in_json_is_the_same_definition() -> None:
    document = json.dumps({"name": "w", "tasks": [{"id": "a", "type": "x", "n": 1}]})
    yaml = b"name: w\ntasks:\n- id: a\n  type: x\n  n: 1\n"
    definitions = [
        compile_document(document.encode(), "application/json"),
        compile_document(document.encode(), "application/yaml"),
        compile_document(yaml, "application/yaml"),
    ]
    assert len({definition.canonical for definition in definitions}) == 1


def test_a_flow_map_is_yaml_even_if_it_starts_like_json() -> None:
    definition = compile_document(b"{name: w, tasks: [{id: a, type: x}]}", "application/yaml")
    assert definition.name == "w"


def test_pins_come_from_the_revision_unless_the_task_pins() -> None:
    definition = compile_document(
        b"name: w\ntasks:\n  - {id: a, type: x}\n  - {id: b, type: x@3}\n", "yaml"
    )
    assert [task.major for task in definition.plan("n", 1, {"x": 2}).tasks] == [2, 3]
    assert [task.major for task in definition.plan("n", 1, {}).tasks] == [None, 3]


DURATIONS = [
    ("500ms", 500_000),
    ("5s", 5_000_000),
    ("1h30m", 5_400_000_000),
    ("7d", 604_800_000_000),
    ("1d2h3m4s5ms", 93_784_005_000),
    ("1.5s", 1_500_000),
    ("0.1s", 100_000),
    ("90", 90_000_000),
    (90, 90_000_000),
    (0.25, 250_000),
    (0, 0),
]


@pytest.mark.parametrize(("text", "duration_us"), DURATIONS)
def test_durations(text: object, duration_us: int) -> None:
    assert parse_duration(text) == duration_us


@pytest.mark.parametrize(
    "text", ["", "s", "5 s", "-5s", "5x", "5s5h", "1e3", "\u0665s", None, True, [], -1, 10**20]
)
def test_what_is_no_duration(text: object) -> None:
    assert parse_duration(text) is None


def test_durations_are_shown_in_the_largest_units() -> None:
    assert show_duration(5_400_000_000) == "1h30m"
    assert show_duration(500_000) == "500ms"


def test_a_plan_knows_its_roots_and_leaves() -> None:
    made = plan_of({"id": "a"}, {"id": "b", "depends_on": ["a"]}, {"id": "c"})
    assert (made.roots, made.leaves) == ((0, 2), (1, 2))
    assert dict(made.index) == {"a": 0, "b": 1, "c": 2}
