"""What expressions give: names, own facts, arithmetic, macros."""

import json

import pytest

from bend_server.core.plan import ExpressionError
from tests.language.documents import findings_of, plan_of, refused, value_of
from tests.language.scopes import FakeScope

OUTPUT = {
    "v": 1,
    "rows": [{"p": 1, "q": [1, 2]}, {"p": 2, "q": []}],
    "half": 0.5,
    "error": "mine",
    "nested": {"k": None},
}
SCOPE = FakeScope({"n": 1, "key": "v", "names": ["x", "y"], "zones": {"east": 2}}, {0: OUTPUT})

VALUES = [
    ("{{a.v}}", 1),
    ("{{a['v']}}", 1),
    ("{{ a.rows[1].p }}", 2),
    ("{{a[input.key]}}", 1),
    ("{{a.rows[input.n].p}}", 2),
    ("{{a.rows.filter(r, r.p > 1)[0].p}}", 2),
    ("{{a.rows.map(r, r.p)}}", [1, 2]),
    ("{{a.rows.map(r, r.p > 1, r.p * 10)}}", [20]),
    ("{{a.rows.map(r, r.q.map(q, q + r.p))}}", [[2, 3], []]),
    ("{{a.rows.all(r, r.p > 0)}}", True),
    ("{{a.rows.exists(r, r.p == 2)}}", True),
    ("{{a.rows.exists(r, r.nope == 2 || r.p == 1)}}", True),
    ("{{a.rows.exists_one(r, r.p == 2)}}", True),
    ("{{input.zones.map(zone, zone)}}", ["east"]),
    ("{{input.names.filter(n, n != 'x')}}", ["y"]),
    ("{{size(a.rows)}}", 2),
    ("{{size('żółw 🐢')}}", 6),
    ("{{'żółw 🐢'.size()}}", 6),
    ("{{size(bytes('żółw'))}}", 7),
    ("{{size(a.nested) + size([]) + size({'k': 1})}}", 2),
    ("{{input.names.map(n, size(n + 'é'))}}", [2, 2]),
    ("{{input.names.exists(n, n.size() > 1) || size(a.rows.filter(r, r.p > 1)) == 1}}", True),
    ("{{has(a.nope) && size(a.nope) > 1}}", False),
    ("{{string(a.v == 1) + string(a.v) + string(a.half)}}", "true10.5"),
    ("{{type(string(false)) == string}}", True),
    ("{{a.v in [1, 2]}}", True),
    ("{{'v' in a}}", True),
    ("{{a.half + double(a.v)}}", 1.5),
    ("{{a.half < a.v}}", True),
    ("{{a.v == 1.0}}", True),
    ("{{-a.v}}", -1),
    ("{{a.v > 0 ? 'yes' : 'no'}}", "yes"),
    ("{{ {'deep': {'n': a.v}} }}", {"deep": {"n": 1}}),
    ("{{ {'deep': {'n': a.v}}}}", {"deep": {"n": 1}}),
    ("{{a.v // a comment\n}}", 1),
    ("{{duration('90s')}}", "90s"),
    ("{{timestamp(workflow.started_at)}}", "2026-01-02T03:04:05Z"),
    ("{{timestamp(workflow.started_at).getFullYear()}}", 2026),
    ("{{b'ab'}}", "YWI="),
    ("{{input.key.matches('^[a-z]$')}}", True),
    ("{{workflow.id}}", "demo-1"),
    ("{{workflow.labels.team}}", "red"),
    ("{{workflow.revision + 1}}", 4),
    ("{{type(a.v) == int}}", True),
    ("{{null}}", None),
]


@pytest.mark.parametrize(("template", "value"), VALUES, ids=[case[0] for case in VALUES])
def test_an_expression_gives(template: str, value: object) -> None:
    given = value_of(template, SCOPE)
    assert given == value
    assert type(given) is type(value)


OWN = [
    ("{{a.status}}", "completed"),
    ("{{b.status}}", "skipped"),
    ("{{b.error}}", None),
    ("{{a.error}}", "mine"),
    ("{{tasks.a.error}}", None),
    ("{{tasks.a.output.v}}", 1),
    ("{{tasks.b.output}}", None),
    ("{{tasks['a'].attempt}}", 1),
    ("{{a.finished_at}}", "2026-01-02T03:04:06Z"),
    ("{{tasks.b.status == 'skipped'}}", True),
    ("{{b}}", None),
    ("{{b == null}}", True),
]


@pytest.mark.parametrize(("template", "value"), OWN, ids=[case[0] for case in OWN])
def test_fields_of_the_output_come_before_the_tasks_own(template: str, value: object) -> None:
    assert value_of(template, SCOPE) == value


@pytest.mark.parametrize("output", [[1, 2], "text", 5, True, None])
def test_a_name_stands_for_an_output_that_is_no_map(output: object) -> None:
    scope = FakeScope(outputs={0: output})
    assert value_of("{{a}}", scope) == output
    assert value_of("{{a.status}}", scope) == "completed"
    assert value_of("{{tasks.a.output}}", scope) == output


TESTED = [
    ("{{has(a.v)}}", True),
    ("{{has(a.nope)}}", False),
    ("{{has(a.status)}}", True),
    ("{{has(b.ip)}}", False),
    ("{{has(b.status)}}", True),
    ("{{has(a.nested.k)}}", True),
    ("{{has(a.nested.k.deeper)}}", False),
    ("{{has(a.rows[0].p) && has(a.rows[input.n].p)}}", True),
    ("{{has(a.nope) && a.nope > 1}}", False),
    ("{{has(a.nope) ? a.nope : 'default'}}", "default"),
    ("{{a.rows.filter(r, has(r.z) || has(r.p))}}", OUTPUT["rows"]),
]


@pytest.mark.parametrize(("template", "value"), TESTED, ids=[case[0] for case in TESTED])
def test_has_tests_for_a_field(template: str, value: object) -> None:
    assert value_of(template, SCOPE) == value


MISSING = [
    ("{{a.nope}}", ["task z", "a.nope", "task a has no field 'nope'", "v, rows, half", "status"]),
    ("x{{a.nope}}", ["task z", "tasks[2].v", "'a.nope'", "no field 'nope'", "v, rows"]),
    ("{{a.nope + 1}}", ["task z", "a.nope + 1", "no field 'nope'", "v, rows"]),
    ("{{a.nested.z}}", ["a.nested has no field 'z'", "it has: k"]),
    ("{{a.rows[7].p}}", ["a.rows has no entry 7", "a list of 2"]),
    ("{{a.rows[input.n].z}}", ["no field 'z'", "p, q"]),
    ("{{a.rows.map(r, r.z)}}", ["r has no field 'z'", "p, q"]),
    ("{{a.rows.all(r, r.z > 1)}}", ["r has no field 'z'", "p, q"]),
    ("{{b.ip}}", ["task b has no field 'ip'", "the task is skipped and has no output", "status"]),
    ("{{input.nope}}", ["input has no field 'nope'", "n, key, names, zones"]),
    ("{{tasks.a.output.nope}}", ["tasks.a.output has no field 'nope'", "v, rows"]),
    ("{{workflow.labels.nope}}", ["workflow.labels has no field 'nope'", "team"]),
]


@pytest.mark.parametrize(("template", "parts"), MISSING, ids=[case[0] for case in MISSING])
def test_a_missing_field_is_an_error_that_names_what_exists(
    template: str, parts: list[str]
) -> None:
    with pytest.raises(ExpressionError) as caught:
        value_of(template, SCOPE)
    for part in parts:
        assert part in str(caught.value)


FAILING = [
    ("{{a.half + a.v}}", "double(x)"),
    ("{{'n' + a.v}}", "string(x)"),
    ("{{a.v / (a.v - 1)}}", "division by zero"),
    ("{{9223372036854775807 + a.v}}", "overflow"),
    ("{{a.half / 0.0}}", "not a finite number"),
    ("{{a.v.map(x, x)}}", "map() needs a list or a map"),
    ("{{a.rows.filter(r, r.p)}}", "filter() needs true or false"),
    ("{{string(a.nested.k)}}", "string() does not take such a value"),
]


@pytest.mark.parametrize(("template", "part"), FAILING, ids=[case[0] for case in FAILING])
def test_what_cannot_be_computed_is_an_error(template: str, part: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        value_of(template, SCOPE)
    assert part in str(caught.value)
    assert "task z" in str(caught.value)


REFUSED = [
    ("{{nope.x}}", "UNKNOWN_TASK"),
    ("{{tasks.nope.status}}", "UNKNOWN_TASK"),
    ("{{tasks.z.stauts}}", "UNKNOWN_FIELD"),
    ("{{tasks}}", "BAD_EXPRESSION"),
    ("{{workflow.idd}}", "UNKNOWN_FIELD"),
    ("{{item}}", "OUT_OF_PLACE"),
    ("{{index}}", "OUT_OF_PLACE"),
    ("{{iteration}}", "OUT_OF_PLACE"),
    ("{{output}}", "OUT_OF_PLACE"),
    ("{{foo(1)}}", "UNKNOWN_FUNCTION"),
    ("{{input.x.trim()}}", "UNKNOWN_FUNCTION"),
    ("{{input.rows.map(1, 2)}}", "BAD_EXPRESSION"),
    ("{{has(input)}}", "BAD_EXPRESSION"),
    ("{{}}", "BAD_EXPRESSION"),
    ("{{ 'a }}", "BAD_TEMPLATE"),
    ("{{input.}}", "BAD_EXPRESSION"),
    ("{{input.in}}", "BAD_EXPRESSION"),
    ("{{var}}", "BAD_EXPRESSION"),
    ("{{1 = 2}}", "BAD_EXPRESSION"),
    ("{{Foo{a: 1}}}", "BAD_EXPRESSION"),
    ("{{1 / 0}}", "BAD_EXPRESSION"),
    ("{{input.x.matches('(')}}", "BAD_EXPRESSION"),
    ("{{input.x.matches(input.y)}}", "BAD_EXPRESSION"),
    ("{{99999999999999999999}}", "BAD_EXPRESSION"),
]


@pytest.mark.parametrize(("template", "reason"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_does_not_compile_is_a_finding(template: str, reason: str) -> None:
    assert refused(template) == [(reason, "tasks[0].v")]


def test_only_the_tasks_that_are_named_are_read() -> None:
    scope = FakeScope(outputs={0: {"x": 1}, 1: {"x": 2}})
    assert value_of("{{b.x + 1}}", scope) == 3
    assert scope.read == [1]


@pytest.mark.parametrize("condition", ["a.v > 0", "{{ a.v > 0 }}", " {{a.v > 0}} "])
def test_a_condition_is_bare_or_one_template(condition: str) -> None:
    judge = plan_of({"id": "a"}, {"id": "z", "condition": condition}).tasks[1].condition
    assert judge is not None
    assert judge(SCOPE) is True
    assert judge(FakeScope(outputs={0: {"v": 0}})) is False


def test_a_condition_may_be_a_constant() -> None:
    plan = plan_of({"id": "a", "condition": True}, {"id": "b", "condition": False})
    assert plan.tasks[0].condition is None
    never = plan.tasks[1].condition
    assert never is not None
    assert never(SCOPE) is False


def test_a_condition_that_gives_no_boolean_is_an_error() -> None:
    judge = plan_of({"id": "a"}, {"id": "z", "condition": "a.v"}).tasks[1].condition
    assert judge is not None
    with pytest.raises(ExpressionError) as caught:
        judge(SCOPE)
    assert str(caught.value) == "task z, condition 'a.v': gives 1, not true or false"


def test_an_own_error_is_readable() -> None:
    own = {1: {"status": "failed", "error": {"reason": "HTTP_503", "message": "no"}}}
    scope = FakeScope(own=own)
    assert value_of("{{b.status}}: {{b.error.reason}}", scope) == "failed: HTTP_503"


FORMS = [
    ("size()", "size() takes 1 argument, not 0"),
    ("size(a, a)", "size() takes 1 argument, not 2"),
    ("a.v.size(1)", "size() takes no arguments, not 1"),
    ("a.v.int()", "int() belongs to no value: write int(x)"),
    ("int(a.v, 10)", "int() takes 1 argument, not 2"),
    ("matches(input.key, 'v')", "matches() belongs to a value: write x.matches(…)"),
    ("input.key.contains()", "contains() takes 1 argument, not 0"),
    ("timestamp(workflow.started_at).getHours('UTC')", "getHours() takes no time zone"),
]


@pytest.mark.parametrize(("source", "text"), FORMS, ids=[case[0] for case in FORMS])
def test_a_call_that_could_never_be_evaluated_is_refused(source: str, text: str) -> None:
    tasks = [{"id": "a", "type": "x"}, {"id": "z", "type": "x", "value": f"{{{{{source}}}}}"}]
    document = json.dumps({"name": "w", "tasks": tasks})
    (finding,) = findings_of(document.encode(), "application/json")
    assert (finding.reason, finding.path) == ("BAD_EXPRESSION", "tasks[1].value")
    assert text in finding.message


def test_what_has_no_size_is_said() -> None:
    with pytest.raises(ExpressionError, match="needs text, a list or a map; it is a number"):
        value_of("{{size(a.v)}}", SCOPE)
    document = b"{name: w, tasks: [{id: z, type: x, value: '{{size(null)}}'}]}"
    (finding,) = findings_of(document, "application/yaml")
    assert finding.message.startswith("size() needs text, a list or a map; it is null")


def test_what_no_text_is_made_of_is_said() -> None:
    with pytest.raises(ExpressionError, match=r"string\(\) does not take such a value"):
        value_of("{{string(a.rows)}}", SCOPE)
