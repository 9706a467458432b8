"""Templates in strings: types kept, text joined, braces, whole inputs."""

import tracemalloc

import orjson
import pytest

from bend_server.core import limits
from bend_server.core.plan import ExpressionError, Rendered
from tests.language.documents import plan_of, rendered, value_of
from tests.language.scopes import FakeScope

SCOPE = FakeScope(
    {"big": 2**70, "text": 'a "quoted" é', "flag": True, "none": None, "list": [1, {"k": "v"}]}
)

JOINED = [
    ("{{input.list}}", [1, {"k": "v"}]),
    ("{{input.flag}}", True),
    ("<{{input.list}}>", '<[1,{"k":"v"}]>'),
    ("<{{input.flag}} {{input.none}}>", "<true null>"),
    ("<{{input.text}}>", '<a "quoted" é>'),
    (" {{input.flag}}", " true"),
    ("{{input.flag}}{{input.flag}}", "truetrue"),
    ('{{ "{{" }}', "{{"),
    ('{{ "{{" }}x{{ "}}" }}', "{{x}}"),
    ("a }} b", "a }} b"),
    ("{ {input} }", "{ {input} }"),
    ("{{ '}}' }}", "}}"),
    ("{{'a' + 'b'}}c", "abc"),
    ("{{1.0}}|{{2}}", "1.0|2"),
    ("{{input.big}}", 2**70),
    ("n={{input.big}}", f"n={2**70}"),
]


@pytest.mark.parametrize(("template", "value"), JOINED, ids=[case[0] for case in JOINED])
def test_a_template_gives(template: str, value: object) -> None:
    data = rendered(template, SCOPE).data
    if isinstance(value, int) and not isinstance(value, bool):
        assert data == b'{"v":%d}' % value
    else:
        assert orjson.loads(data)["v"] == value


def test_keys_are_no_templates() -> None:
    assert value_of({"{{input.flag}}": "{{input.flag}}"}, SCOPE) == {"{{input.flag}}": True}


def test_what_is_filled_in_is_not_read_again() -> None:
    scope = FakeScope({"x": "{{secrets.KEY}} {{input.y}}"})
    result = rendered("{{input.x}}!", scope)
    assert orjson.loads(result.data)["v"] == "{{secrets.KEY}} {{input.y}}!"
    assert result.holes == ()


def test_the_whole_input_is_spliced_as_it_is() -> None:
    scope = FakeScope()
    scope.input = b'{"n":  123456789012345678901234567890}'
    assert rendered("{{input}}", scope).data == b'{"v":{"n":  123456789012345678901234567890}}'


def test_an_input_without_templates_is_written_once() -> None:
    task = plan_of({"id": "a", "url": "http://x", "n": 2**70, "deep": [None, 1.5]}).tasks[0]
    first = task.render(FakeScope())
    expected = b'{"url":"http://x","n":%d,"deep":[null,1.5]}' % 2**70
    assert first == Rendered(expected)
    assert task.render(FakeScope()) is first


def test_a_task_without_input_gets_an_empty_map() -> None:
    assert plan_of({"id": "a"}).tasks[0].render(FakeScope()).data == b"{}"


def test_with_holds_inputs_whose_names_collide() -> None:
    task = plan_of({"id": "a", "url": "u", "with": {"timeout": 3, "id": "{{input.x}}"}}).tasks[0]
    data = orjson.loads(task.render(FakeScope({"x": 9})).data)
    assert data == {"url": "u", "timeout": 3, "id": 9}


def test_the_workflows_output_is_a_template() -> None:
    plan = plan_of({"id": "a"}, output={"r": "{{a.x}}", "s": "{{a.status}}!", "n": 1})
    assert plan.output is not None
    data = plan.output(FakeScope(outputs={0: {"x": [1]}}))
    assert orjson.loads(data) == {"r": [1], "s": "completed!", "n": 1}


def test_one_plan_serves_many_executions() -> None:
    task = plan_of({"id": "a", "v": "{{input.x}}"}).tasks[0]
    scopes = [FakeScope({"x": n}) for n in range(20)]
    for _ in range(2):
        for number, scope in enumerate(scopes):
            assert task.render(scope).data == b'{"v":%d}' % number


@pytest.mark.parametrize("template", ["{{input.text}}" * 200, ["{{input.text}}"] * 200])
def test_a_value_used_many_times_stops_at_the_limit(template: object) -> None:
    """200 MB would come of it; no more than the limit is made."""
    scope = FakeScope({"text": "x" * 1_000_000})
    task = plan_of({"id": "a", "v": template}).tasks[0]
    tracemalloc.start()
    try:
        with pytest.raises(ExpressionError, match=str(limits.BLOB_BYTES_MAX)):
            task.render(scope)
        assert tracemalloc.get_traced_memory()[1] < 2 * limits.BLOB_BYTES_MAX
    finally:
        tracemalloc.stop()
