"""Every finding names reason, path, line and column, in document order."""

import orjson
import pytest

from bend_server.language import findings_of
from tests.language.documents import FourFacts, facts

HEAD = "name: w\ntasks:\n"

IN_QUERY = ("TEMPLATE_IN_QUERY", "tasks[0].compensate.query", 3, 53)
CASES: list[tuple[str, str, list[FourFacts]]] = [
    (
        "a template inside of the query of a compensation",
        HEAD + "  - {id: a, type: x, compensate: {type: sql, query: 'DROP {{input.t}}'}}\n",
        [IN_QUERY],
    ),
    ("an empty document", "", [("SYNTAX", "", 1, 1)]),
    ("a list", "- a\n", [("WRONG_TYPE", "", 1, 1)]),
    ("no keys", "{}\n", [("MISSING_KEY", "", 1, 1), ("MISSING_KEY", "", 1, 1)]),
    (
        "unknown workflow key",
        "name: w\ndescripton: x\ntasks:\n  - {id: a, type: x}\n",
        [("UNKNOWN_KEY", "descripton", 2, 1)],
    ),
    (
        "wrong types",
        "name: 5\nlabels: [a]\ntimeout: soon\npriority: 10\noutput: text\ntasks: {}\n",
        [
            ("WRONG_TYPE", "name", 1, 7),
            ("WRONG_TYPE", "labels", 2, 9),
            ("BAD_DURATION", "timeout", 3, 10),
            ("OUT_OF_RANGE", "priority", 4, 11),
            ("WRONG_TYPE", "output", 5, 9),
            ("WRONG_TYPE", "tasks", 6, 8),
        ],
    ),
    ("bad name", "name: W!\ntasks:\n  - {id: a, type: x}\n", [("BAD_NAME", "name", 1, 7)]),
    (
        "defaults",
        "name: w\ndefaults: {retry: {max_attempts: 0, often: 1}, x: 1}\n"
        "tasks:\n  - {id: a, type: x}\n",
        [
            ("OUT_OF_RANGE", "defaults.retry.max_attempts", 2, 34),
            ("UNKNOWN_KEY", "defaults.retry.often", 2, 37),
            ("UNKNOWN_KEY", "defaults.x", 2, 48),
        ],
    ),
    ("no tasks", "name: w\ntasks: []\n", [("MISSING_KEY", "tasks", 2, 8)]),
    ("a task that is none", HEAD + "  - 5\n", [("WRONG_TYPE", "tasks[0]", 3, 5)]),
    ("a task without type", HEAD + "  - id: a\n", [("MISSING_KEY", "tasks[0]", 3, 5)]),
    ("a bad id", HEAD + "  - {id: 1a, type: x}\n", [("BAD_NAME", "tasks[0].id", 3, 10)]),
    ("a bad type", HEAD + "  - {id: a, type: X y}\n", [("BAD_NAME", "tasks[0].type", 3, 19)]),
    (
        "an id twice",
        HEAD + "  - {id: a, type: x}\n  - {id: a, type: x}\n",
        [("DUPLICATE_ID", "tasks[1].id", 4, 10)],
    ),
    (
        "pins that differ",
        HEAD + "  - {id: a, type: x@2, version: 3}\n",
        [("BAD_VALUE", "tasks[0].version", 3, 33)],
    ),
    (
        "settings of a task",
        HEAD
        + "  - id: a\n    type: x\n    run_if: never\n    timeout: -1\n    retry: 3\n"
        + "    allow_failure: 1\n    requires: {zone: 1}\n    condition: []\n"
        + "    depends_on: b\n    with: 3\n",
        [
            ("BAD_VALUE", "tasks[0].run_if", 5, 13),
            ("BAD_DURATION", "tasks[0].timeout", 6, 14),
            ("WRONG_TYPE", "tasks[0].retry", 7, 12),
            ("WRONG_TYPE", "tasks[0].allow_failure", 8, 20),
            ("WRONG_TYPE", "tasks[0].requires.zone", 9, 22),
            ("WRONG_TYPE", "tasks[0].condition", 10, 16),
            ("WRONG_TYPE", "tasks[0].depends_on", 11, 17),
            ("WRONG_TYPE", "tasks[0].with", 12, 11),
        ],
    ),
    (
        "an input twice",
        HEAD + "  - {id: a, type: x, url: 1, with: {url: 2}}\n",
        [("DUPLICATE_KEY", "tasks[0].with.url", 3, 37)],
    ),
    (
        "an expression that does not parse",
        HEAD + '  - {id: a, type: x, condition: "a +", v: ["{{ ) }}", "{{"]}\n',
        [
            ("BAD_EXPRESSION", "tasks[0].condition", 3, 33),
            ("BAD_EXPRESSION", "tasks[0].v[0]", 3, 44),
            ("BAD_TEMPLATE", "tasks[0].v[1]", 3, 55),
        ],
    ),
    (
        "an input schema that is none",
        "name: w\ninput:\n  type: objekt\ntasks:\n  - {id: a, type: x}\n",
        [("BAD_SCHEMA", "input.type", 3, 9)],
    ),
    (
        "a schema of somebody else",
        "name: w\ninput: {$ref: 'http://x/y'}\ntasks:\n  - {id: a, type: x}\n",
        [("BAD_SCHEMA", "input['$ref']", 2, 15)],
    ),
    (
        "secrets in the output",
        HEAD + '  - {id: a, type: x}\noutput: {r: "{{secrets.A}}"}\n',
        [("OUT_OF_PLACE", "output.r", 4, 13)],
    ),
]


@pytest.mark.parametrize(
    ("document", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_finding_has_its_place(document: str, expected: list[FourFacts]) -> None:
    assert facts(document) == expected


def test_json_has_places_too() -> None:
    document = (
        '{"name": "w",\n "tasks": [{"id": "a", "type": "x",\n'
        '  "v": "{{b.x}}", "w": {"q": ["{{"]}}]}'
    )
    assert facts(document, "application/json") == [
        ("UNKNOWN_TASK", "tasks[0].v", 3, 8),
        ("BAD_TEMPLATE", "tasks[0].w.q[0]", 3, 31),
    ]


def test_an_unknown_key_suggests_the_nearest() -> None:
    (finding,) = findings_of(b"name: w\ntimeuot: 5s\ntasks:\n  - {id: a, type: x}\n", "yaml")
    assert finding.message == "a workflow has no key 'timeuot' (did you mean 'timeout'?)"


@pytest.mark.parametrize(
    "reserved",
    ["input", "workflow", "item", "index", "iteration", "output", "secrets", "tasks", "in", "int",
     "double", "string", "type", "for", "null", "true"],
)  # fmt: skip
def test_reserved_ids_are_refused(reserved: str) -> None:
    document = f'name: w\ntasks:\n  - {{id: "{reserved}", type: x}}\n'
    assert facts(document) == [("RESERVED_ID", "tasks[0].id", 3, 10)]


def test_at_most_100_findings_come_in_document_order() -> None:
    document = HEAD + "".join(f"  - {{id: '{n}', type: '?'}}\n" for n in range(150))
    found = facts(document)
    assert len(found) == 100
    assert found[:3] == [
        ("BAD_NAME", "tasks[0].id", 3, 10),
        ("BAD_NAME", "tasks[0].type", 3, 21),
        ("BAD_NAME", "tasks[1].id", 4, 10),
    ]


def test_an_oversized_document_is_refused_with_its_size() -> None:
    (finding,) = findings_of(b"a" * (8 * 1024 * 1024 + 1), "application/yaml")
    assert (finding.reason, finding.path, finding.line, finding.column) == ("TOO_LARGE", "", 1, 1)
    assert "8388609 bytes" in finding.message


@pytest.mark.parametrize(
    ("component", "query"),
    [
        ("sql", "SELECT :id"),
        ("sql", "{{ input.statement }}\n"),
        ("sql", "SELECT '{{ \"{{\" }}'"),
        ("search", "name = {{input.name}}"),
    ],
)
def test_a_statement_may_be_one_template_or_have_what_never_changes(
    component: str, query: str
) -> None:
    document = {"name": "w", "tasks": [{"id": "a", "type": component, "query": query}]}
    assert findings_of(orjson.dumps(document), "application/json") == []
