"""Inputs and fields against the contracts of components, as far as they are literal."""

import json

import pytest

from bend_server.core.errors import InvalidDocument
from bend_server.language import ContractView, compile_document

HTTP = ContractView(
    input_schema=json.dumps(
        {
            "type": "object",
            "required": ["url"],
            "properties": {
                "url": {"type": "string", "pattern": "^https?://"},
                "method": {"enum": ["GET", "POST"]},
                "retries": {"type": "integer"},
                "body": {"type": "object", "required": ["k"]},
                "either": {"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]},
            },
            "additionalProperties": False,
        }
    ).encode(),
    output_schema=json.dumps(
        {
            "type": "object",
            "properties": {
                "code": {"type": "integer"},
                "rows": {"type": "array", "items": {"$ref": "#/$defs/row"}},
                "open": {"type": "object"},
            },
            "additionalProperties": False,
            "$defs": {
                "row": {"properties": {"id": {"type": "string"}}, "additionalProperties": False}
            },
        }
    ).encode(),
)


def found(tasks: str, **contracts: ContractView) -> list[tuple[str, str, int, int]]:
    definition = compile_document(f"name: w\ntasks:\n{tasks}".encode(), "application/yaml")
    findings = definition.check_contracts(contracts or {"http": HTTP})
    return [(f.reason, f.path, f.line, f.column) for f in findings]


INPUTS = [
    ("{id: a, type: http, url: 'http://x'}", []),
    ("{id: a, type: http}", [("BAD_INPUT", "tasks[0]", 3, 5)]),
    ("{id: a, type: http, url: 5}", [("BAD_INPUT", "tasks[0].url", 3, 30)]),
    ("{id: a, type: http, url: 'ftp://x'}", [("BAD_INPUT", "tasks[0].url", 3, 30)]),
    ("{id: a, type: http, url: '{{input.u}}'}", []),
    ("{id: a, type: http, url: 'x{{input.u}}'}", []),
    ("{id: a, type: http, url: 'http://x', retries: '{{input.n}}'}", []),
    (
        "{id: a, type: http, url: 'http://x', retries: 'n{{input.n}}'}",
        [("BAD_INPUT", "tasks[0].retries", 3, 51)],
    ),
    ("{id: a, type: http, url: 'http://x', method: '{{input.m}}'}", []),
    (
        "{id: a, type: http, url: 'http://x', method: PUT}",
        [("BAD_INPUT", "tasks[0].method", 3, 50)],
    ),
    (
        "{id: a, type: http, url: 'http://x', body: {j: '{{input.m}}'}}",
        [("BAD_INPUT", "tasks[0].body", 3, 48)],
    ),
    ("{id: a, type: http, url: 'http://x', either: '{{input.m}}'}", []),
    ("{id: a, type: http, url: 'http://x', either: 'long {{input.m}}'}", []),
    ("{id: a, type: http, url: 'http://x', ulr: 1}", [("BAD_INPUT", "tasks[0]", 3, 5)]),
    (
        "{id: a, type: http, with: {url: 'http://x', retries: x}}",
        [("BAD_INPUT", "tasks[0].with.retries", 3, 58)],
    ),
    ("{id: a, type: other, url: 5}", []),
]


@pytest.mark.parametrize(("task", "expected"), INPUTS, ids=[case[0] for case in INPUTS])
def test_literal_inputs_are_judged(task: str, expected: list[tuple[str, str, int, int]]) -> None:
    assert found(f"  - {task}\n") == expected


FIELDS = [
    ("{{a.code}}", True),
    ("{{a.codee}}", False),
    ("{{a.status}}", True),
    ("{{a.rows[0].id}}", True),
    ("{{a.rows[0].name}}", False),
    ("{{a.rows.id}}", False),
    ("{{a.code.x}}", False),
    ("{{a.open.anything}}", True),
    ("{{tasks.a.output.nope}}", False),
    ("{{tasks.a.status}}", True),
    ("{{has(a.nope)}}", True),
    ("{{a.nope + 1}}", False),
    ("{{size(a.rows)}}", True),
]


@pytest.mark.parametrize(("template", "fine"), FIELDS, ids=[case[0] for case in FIELDS])
def test_fields_that_an_output_cannot_have_are_found(template: str, fine: bool) -> None:
    tasks = (
        f"  - {{id: a, type: http, url: 'http://x'}}\n  - id: b\n    type: y\n    v: '{template}'\n"
    )
    expected = [] if fine else [("UNKNOWN_FIELD", "tasks[1].v", 6, 8)]
    assert found(tasks) == expected


def test_a_condition_is_judged_too() -> None:
    tasks = "  - {id: a, type: http, url: 'http://x'}\n  - {id: b, type: y, condition: a.cod > 1}\n"
    assert found(tasks) == [("UNKNOWN_FIELD", "tasks[1].condition", 4, 33)]


def test_a_pinned_major_has_its_own_contract() -> None:
    contracts = {"http": HTTP, "http@2": ContractView()}
    document = b"name: w\ntasks:\n  - {id: a, type: http@2}\n  - {id: b, type: http@1}\n"
    findings = compile_document(document, "yaml").check_contracts(contracts)
    assert [(f.reason, f.path) for f in findings] == [("BAD_INPUT", "tasks[1]")]


def test_a_misspelt_engine_key_is_not_lost_in_an_open_contract() -> None:
    contract = ContractView(input_schema=b'{"properties": {"time_out": {}}}')
    tasks = "  - {id: a, type: http, dependsOn: [], conditions: x, time_out: 1, extra: 1}\n"
    assert found(tasks, http=contract) == [
        ("UNKNOWN_KEY", "tasks[0].dependsOn", 3, 25),
        ("UNKNOWN_KEY", "tasks[0].conditions", 3, 40),
    ]


def test_a_contract_that_is_no_schema_promises_nothing() -> None:
    broken = ContractView(input_schema=b'{"type": "nonsense"}', output_schema=b"{")
    assert found("  - {id: a, type: http, url: 5}\n", http=broken) == []


def test_components_are_listed_once_with_their_place() -> None:
    document = (
        b"name: w\ntasks:\n"
        b"  - {id: a, type: http}\n"
        b"  - {id: b, type: http}\n"
        b"  - {id: c, type: vision.detect@2, allow_unregistered: true}\n"
        b"  - {id: d, type: http, version: 3}\n"
    )
    assert [tuple(use) for use in compile_document(document, "yaml").components] == [
        ("http", None, False, "tasks[0].type", 3, 19),
        ("vision.detect", 2, True, "tasks[2].type", 5, 19),
        ("http", 3, False, "tasks[3].type", 6, 19),
    ]


CONTROLLED = [
    ("for_each: [1]", "b.rows", ("tasks[2].v",)),
    ("for_each: [1]", "b[0].rows[1].id", ()),
    ("for_each: [1]", "b[0].rowz", ("tasks[2].v",)),
    ("repeat: {until: output.code == 200, max: 2}", "b.code", ()),
    ("repeat: {until: output.done, max: 2}", "b.code", ("tasks[1].repeat.until",)),
    ("cache: {key: '{{c.code}}'}", "b.code", ()),
    ("cache: {key: '{{c.cod}}'}", "b.code", ("tasks[1].cache.key",)),
    ("compensate: {type: http, url: 'http://x/{{b.code}}'}", "b.code", ()),
    ("compensate: {type: http, url: 'http://x/{{b.cod}}'}", "b.code", ("tasks[1].compensate.url",)),
    ("for_each: [1], compensate: {type: http, url: 'http://x/{{b.code}}'}", "b[0].code", ()),
    ("compensate: {type: http, url: 5}", "b.code", ("tasks[1].compensate.url",)),
]


@pytest.mark.parametrize(("keys", "read", "paths"), CONTROLLED)
def test_control_flow_is_judged_by_contracts_too(
    keys: str, read: str, paths: tuple[str, ...]
) -> None:
    document = (
        "name: w\ntasks:\n  - {id: c, type: http, url: 'http://x'}\n"
        f"  - {{id: b, type: http, url: 'http://x', {keys}}}\n"
        f"  - {{id: d, type: any, v: '{{{{{read}}}}}'}}\n"
    )
    try:
        definition = compile_document(document.encode(), "application/yaml")
    except InvalidDocument as error:
        findings = error.findings
    else:
        findings = definition.check_contracts({"http": HTTP})
    assert tuple(finding.path for finding in findings) == paths
    assert {finding.reason for finding in findings} <= {"UNKNOWN_FIELD", "BAD_INPUT"}
