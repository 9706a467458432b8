"""Bombs are refused quickly: costs are bounded before evaluation, patterns before use.

What is not bounded takes minutes here, which ends with the suite's own limit for a test; how long
the rest takes is a figure, since it says more about the machine.
"""

import json
import time
from collections.abc import Callable

import pytest
import yaml

from bend_server.core.plan import ExpressionError
from bend_server.language import cel_library, compile_document, findings_of
from bend_server.language.costs import pattern_weight
from tests.language.documents import facts, refused, value_of
from tests.language.scopes import FakeScope

LARGE = FakeScope(
    {
        "n": list(range(20_000)),
        "text": "x" * 500_000,
        "rows": [{"v": n} for n in range(5000)],
    }
)
DOUBLING = "".join(".map(x, x + x)" for _ in range(40))

STATIC = [
    ("macros nest", "{{n.map(a, n.map(b, n.map(c, n.map(d, d))))}}".replace("n.", "input.n.")),
    ("a pattern repeats", "{{input.text.matches('(a{1000}){1000}')}}"),
    ("a pattern of classes", "{{input.text.matches('\\\\w{1000}')}}"),
    ("a long pattern", "{{input.text.matches('" + "a" * 300 + "')}}"),
]


@pytest.mark.parametrize("template", [case[1] for case in STATIC], ids=[c[0] for c in STATIC])
def test_a_bomb_in_the_text_is_a_finding(template: str) -> None:
    assert refused(template) == [("TOO_COMPLEX", "tasks[0].v")]


NESTED = [
    ("parentheses", "(" * 500 + "1" + ")" * 500),
    ("lists", "[" * 500),
    ("maps", "{1:" * 500),
    ("negations", "!" * 500 + "true"),
    ("conditionals", "true?1:" * 500 + "1"),
    ("calls", "size(" * 500 + "1" + ")" * 500),
    ("a path", "input" + ".a" * 500),
]


@pytest.mark.parametrize("expression", [case[1] for case in NESTED], ids=[c[0] for c in NESTED])
def test_deep_nesting_is_a_finding(expression: str) -> None:
    (finding,) = refused("{{ " + expression + " }}")
    assert finding in {("BAD_EXPRESSION", "tasks[0].v"), ("BAD_TEMPLATE", "tasks[0].v")}


def test_a_long_expression_is_a_finding() -> None:
    assert refused("{{" + "1+" * 2100 + "1}}") == [("TOO_LARGE", "tasks[0].v")]


def test_many_terms_are_no_bomb() -> None:
    assert value_of("{{" + "input.n + " * 300 + "1}}", FakeScope({"n": 1})) == 301


COSTLY = [
    ("nested loops", "{{input.n.map(x, input.n.map(y, 1))}}"),
    ("a search in a search", "{{input.n.all(x, input.n.exists(y, y < 0) == false)}}"),
    ("doubling text", "{{['x']" + DOUBLING + "}}"),
    ("doubling lists", "{{[[1]]" + DOUBLING + "}}"),
    ("joining text", "{{" + "input.text + " * 100 + "''}}"),
    ("patterns in a loop", "{{input.rows.map(r, input.text.matches('a+'))}}"),
    ("look-ups in a loop", "{{input.n.filter(x, x in input.n)}}"),
    ("a loop that fails", "{{input.n.all(x, input.n.all(y, x.z))}}"),
]


@pytest.mark.parametrize("template", [case[1] for case in COSTLY], ids=[c[0] for c in COSTLY])
def test_a_costly_evaluation_stops_early(template: str) -> None:
    with pytest.raises(ExpressionError, match="too costly"):
        value_of(template, LARGE)


AFFORDABLE = [
    ("{{size(input.n.map(x, x * 2))}}", 20_000),
    ("{{size(input.rows.filter(r, r.v > 2499))}}", 2500),
    ("{{size(input.rows.map(r, r.v))}}", 5000),
    ("{{input.n.exists(x, x == 19999)}}", True),
    ("{{size(input.text + input.text)}}", 1_000_000),
    ("{{input.text.matches('^x+$')}}", True),
]


@pytest.mark.parametrize(("template", "value"), AFFORDABLE, ids=[case[0] for case in AFFORDABLE])
def test_ordinary_work_on_large_lists_is_done(template: str, value: object) -> None:
    assert value_of(template, LARGE) == value


def one_task_each(values: list[dict[str, object]]) -> list[tuple[str, str]]:
    """Return (reason, path) of the first finding of a document with many tasks."""
    tasks = [{"id": f"t{at}", "type": "x", **value} for at, value in enumerate(values)]
    document = json.dumps({"name": "w", "tasks": tasks}).encode()
    found = findings_of(document, "application/json")
    return [(finding.reason, finding.path) for finding in found[:1]]


ROWS = [{"id": f"t{n}", "type": "x", "v": 1} for n in range(20_000)]
SHAPES: dict[str, list[dict[str, object]]] = {
    "20,000 tasks": [dict(row) for row in ROWS],
    "20,000 conditions": [
        {**row, "condition": f"t0.x > {n} || input.y == 'v'"} if n else row
        for n, row in enumerate(ROWS)
    ],
    "10,000 loops over lists": [
        {**row, "for_each": "input.rows", "repeat": {"until": "output.x == item", "max": 3}}
        for row in ROWS[:10_000]
    ],
    "a chain of 5,000": [
        {**row, "depends_on": [f"t{n - 1}"]} if n else row for n, row in enumerate(ROWS[:5000])
    ],
    "50,000 edges": [
        {**row, "depends_on": [f"t{n - n % 50 - 50 + at}" for at in range(50)]} if n > 49 else row
        for n, row in enumerate(ROWS[:1050])
    ],
    "10,000 wide": [
        *({**row, "w": "{{t0.x}}"} if n else row for n, row in enumerate(ROWS[:10_000])),
        {"id": "join", "type": "x", "depends_on": [f"t{n}" for n in range(1, 10_000)]},
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_is_created_quickly(shape: str, figure: Callable[[str], None]) -> None:
    """3 s of a processor are promised; anything quadratic takes minutes."""
    document = yaml.dump({"name": "w", "tasks": SHAPES[shape]}, Dumper=yaml.CSafeDumper).encode()
    started = time.process_time()
    definition = compile_document(document, "application/yaml")
    plan = definition.plan("default", 1, {"x": 1})
    figure(f"{shape}: created in {time.process_time() - started:.2f} s of the processor")
    assert len(plan.tasks) == len(SHAPES[shape])


def test_many_patterns_are_a_finding() -> None:
    """Each one is small enough; building all of them would take minutes."""
    conditions = [
        {"condition": f"input.t.matches('[a-z]{{20}}{n}(aa{{99}}){{99}}')"} for n in range(2000)
    ]
    ((reason, path),) = one_task_each(conditions)
    assert reason == "TOO_COMPLEX"
    assert path.endswith(".condition")


def test_many_long_expressions_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cel_library, "EXPRESSIONS_COST_MAX", 400_000)
    terms = "1" + "+1" * 2000
    found = one_task_each([{"condition": f"{terms} > {n}"} for n in range(20)])
    assert [reason for reason, _ in found] == ["TOO_COMPLEX"]


def test_constants_of_a_document_share_a_budget() -> None:
    """An expression that reads nothing is evaluated when the document is checked."""
    heavy = "['" + "x" * 3000 + "'" + "] + ['y'" * 100 + "]"
    found = one_task_each([{"v": "{{ " + heavy + " }}"} for _ in range(800)])
    assert [reason for reason, _ in found] == ["BAD_EXPRESSION"]


def test_the_weight_of_a_pattern_counts_repetitions() -> None:
    assert pattern_weight("abc") == 3
    assert pattern_weight("a{100}") == 100
    assert pattern_weight("(ab{10}){10}") == 110
    assert pattern_weight("\\w{10}") == 10 * pattern_weight("\\w")
    assert pattern_weight("[a-z]{50}") > pattern_weight("[a-z]") * 49


def test_20000_unknown_names_are_refused_quickly() -> None:
    """Looking for the nearest of 20,000 ids, 20,000 times, would take minutes."""
    rows = [
        f"  - {{id: t{n}, type: x, depends_on: [q{n}], v: '{{{{r{n}.x}}}}'}}\n"
        for n in range(20_000)
    ]
    found = facts("name: w\ntasks:\n" + "".join(rows))
    assert len(found) == 100
