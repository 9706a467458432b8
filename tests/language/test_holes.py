"""Secrets and stored outputs travel as holes, filled once by the executor."""

import orjson
import pytest

from bend_server.core.plan import Hole, HolePart, NeedsBlob
from tests.language.documents import plan_of, refused, rendered
from tests.language.scopes import FakeScope

BLOB = FakeScope(blobs={0: ("default/7/abc", 100_000)})


def test_a_secret_alone_is_a_hole() -> None:
    result = rendered("{{secrets.API_KEY}}", FakeScope())
    assert result.data == b'{"v":null}'
    assert result.holes == (Hole("/v", (HolePart(secret="API_KEY"),)),)


def test_a_secret_in_text_is_a_hole_of_parts() -> None:
    scope = FakeScope({"user": "ada"})
    result = rendered("Basic {{input.user}}:{{ secrets.KEY }}!", scope)
    assert result.holes == (
        Hole(
            "/v",
            (
                HolePart(text="Basic "),
                HolePart(text="ada"),
                HolePart(text=":"),
                HolePart(secret="KEY"),
                HolePart(text="!"),
            ),
        ),
    )


def test_a_holes_path_is_a_json_pointer() -> None:
    result = rendered({"a/b": [1, {"c~d": "{{secrets.KEY}}"}]}, FakeScope())
    assert orjson.loads(result.data) == {"v": {"a/b": [1, {"c~d": None}]}}
    assert [hole.path for hole in result.holes] == ["/v/a~1b/1/c~0d"]


def test_a_task_lists_its_secrets() -> None:
    plan = plan_of({"id": "a", "x": "{{secrets.ONE}}", "y": ["z {{secrets.TWO}}"]}, {"id": "b"})
    assert plan.tasks[0].secrets == frozenset(("ONE", "TWO"))
    assert plan.tasks[1].secrets == frozenset()


@pytest.mark.parametrize(
    "template",
    [
        "{{secrets.KEY + 'x'}}",
        "{{size(secrets.KEY)}}",
        "{{secrets}}",
        "{{secrets.A.b}}",
        "{{has(secrets.A)}}",
        "{{secrets['A']}}",
    ],
)
def test_a_secret_inside_an_expression_is_refused(template: str) -> None:
    assert refused(template) == [("OUT_OF_PLACE", "tasks[0].v")]


@pytest.mark.parametrize("template", ["{{a}}", "{{ tasks.a.output }}"])
def test_a_stored_output_taken_whole_is_a_hole(template: str) -> None:
    result = rendered(template, BLOB)
    assert result.data == b'{"v":null}'
    assert result.holes == (Hole("/v", (HolePart(blob="default/7/abc", blob_bytes=100_000),)),)
    assert BLOB.read == []


@pytest.mark.parametrize("template", ["{{a.x}}", "x{{a}}", "{{size(a)}}", "{{a.status}}"])
def test_reading_into_a_stored_output_asks_for_it(template: str) -> None:
    with pytest.raises(NeedsBlob) as caught:
        rendered(template, BLOB)
    assert (caught.value.task, caught.value.key) == (0, "default/7/abc")


def test_own_facts_need_no_blob() -> None:
    assert rendered("{{tasks.a.status}}", BLOB).data == b'{"v":"skipped"}'


def test_a_loaded_output_is_read() -> None:
    scope = FakeScope(outputs={0: {"x": 5}}, blobs={0: ("default/7/abc", 100_000)})
    assert rendered("{{a.x}}", scope).data == b'{"v":5}'


def test_a_small_stored_output_goes_inline() -> None:
    scope = FakeScope(outputs={0: {"x": 5}}, blobs={0: ("default/7/abc", 100)})
    assert orjson.loads(rendered("{{a}}", scope).data) == {"v": {"x": 5}}


def test_a_stored_output_of_unknown_size_is_not_loaded_to_be_passed_on() -> None:
    scope = FakeScope(blobs={0: ("default/7/abc", 0)})
    result = rendered("{{a}}", scope)
    assert result.holes == (Hole("/v", (HolePart(blob="default/7/abc"),)),)
    assert scope.read == []
