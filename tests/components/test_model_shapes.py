"""If these fail, a model gets numbers that nobody sent, or a task gets its neighbour's answer."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bend import TerminalError
from bend_executors.model import ModelComponent, Settings
from tests.components.onnx_files import FLOAT, INT64, model, node, port

SUM = model(
    [node("Add", ["a", "b"], "y")],
    [port("a", FLOAT, ["N", 2]), port("b", FLOAT, ["N", 2])],
    [port("y", FLOAT, ["N", 2])],
)
WHOLE = model([node("Identity", ["a"], "y")], [port("a", INT64, ["N"])], [port("y", INT64, ["N"])])
# The output's free size is not the number of samples, which only a run can tell.
TOTAL = model(
    [node("ReduceSum", ["a"], "y", keepdims=1)],
    [port("a", FLOAT, ["N", 2])],
    [port("y", FLOAT, ["M", "K"])],
)
FIXED = model(
    [node("ReduceSum", ["a"], "y", keepdims=0)],
    [port("a", FLOAT, ["N", 2])],
    [port("y", FLOAT, [])],
)


@pytest.fixture
def component(tmp_path: Path) -> ModelComponent:
    for name, data in (("sum", SUM), ("whole", WHOLE), ("total", TOTAL), ("fixed", FIXED)):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "1" / "model.onnx").write_bytes(data)
    return ModelComponent(Settings(folder=tmp_path))


def infer(component: ModelComponent, *tasks: tuple[str, dict[str, Any]]) -> list[Any]:
    async def crowd() -> list[Any]:
        return await asyncio.gather(*(component.infer(name, body) for name, body in tasks))

    return asyncio.run(crowd())


def test_several_inputs_go_together(component: ModelComponent) -> None:
    got = infer(
        component,
        ("sum", {"a": [1, 2], "b": [10.5, 20]}),
        ("sum", {"b": [[1, 1], [2, 2]], "a": [[0, 0], [5, 5]]}),
    )
    assert got == [{"y": [11.5, 22.0]}, {"y": [[1.0, 1.0], [7.0, 7.0]]}]


@pytest.mark.parametrize("name", ["total", "fixed"])
def test_a_model_whose_outputs_are_no_rows_runs_one_by_one(
    component: ModelComponent, name: str
) -> None:
    tasks = [(name, {"a": [n, 0.5]}) for n in range(10)]
    for _ in range(2):
        assert infer(component, *tasks) == [{"y": n + 0.5} for n in range(10)]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.5], "fraction"),
        (["1"], "got text"),
        ([True], "got booleans"),
        ([None], "null"),
        ([1e30], "outside"),
        ([[1], [2, 3]], "wants"),
        ({"x": 1}, "wants"),
    ],
)
def test_nothing_is_cut_to_fit(component: ModelComponent, value: Any, said: str) -> None:
    with pytest.raises(TerminalError, match=said) as caught:
        infer(component, ("whole", {"a": value}))
    assert caught.value.reason == "SHAPE_MISMATCH"
    assert "body.a" in caught.value.message


def test_whole_numbers_keep_all_their_digits(component: ModelComponent) -> None:
    large = [2**62 + 1, -(2**62) - 1, 3]
    assert infer(component, ("whole", {"a": large}), ("whole", {"features": 7.0})) == [
        {"y": large},
        {"y": 7},
    ]


def test_inputs_of_different_sizes_are_refused(component: ModelComponent) -> None:
    with pytest.raises(TerminalError, match="same number of samples"):
        infer(component, ("sum", {"a": [1, 2], "b": [[1, 2], [3, 4]]}))
