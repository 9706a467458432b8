"""If these fail, a model file reads what it may not, or takes the component's process with it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bend import TerminalError
from bend_executors.model import ModelComponent, Settings
from bend_executors.model.graphs import BadGraph, Reader
from tests.components import onnx_files as onnx
from tests.kit.loops import eventually


def elsewhere(at: str) -> bytes:
    """Return a model whose weights are in a file of their own."""
    return onnx.model(
        [onnx.node("Add", ["a", "w"], "y")],
        [onnx.port("a", onnx.FLOAT, ["N", 2])],
        [onnx.port("y", onnx.FLOAT, ["N", 2])],
        [onnx.weights("w", onnx.FLOAT, [2], at=at)],
    )


WEIGHTS = b"\0\0\x80\x3f\0\0\0\x40"  # 1.0, 2.0


def failure(folder: Path, script: str = "m", body: dict[str, Any] | None = None) -> TerminalError:
    component = ModelComponent(Settings(folder=folder, run_s_max=0.2))
    with pytest.raises(TerminalError) as caught:
        asyncio.run(component.infer(script, {"a": [1.0, 2.0]} if body is None else body))
    return caught.value


FINE = {
    "MODEL_INVALID",
    "INVALID_INPUT",
    "SHAPE_MISMATCH",
    "UNSUPPORTED_MODEL",
    "INFERENCE_FAILED",
}


async def outcome(component: ModelComponent, body: dict[str, Any]) -> Any:
    """Return the output, or the terminal error."""
    try:
        return await component.infer("m", body)
    except TerminalError as error:
        return error


def test_weights_in_the_models_own_folder_are_read(tmp_path: Path) -> None:
    home = onnx.placed(tmp_path, "m", elsewhere("w.bin"))
    (home / "w.bin").write_bytes(WEIGHTS)
    component = ModelComponent(Settings(folder=tmp_path))
    assert asyncio.run(component.infer("m", {"a": [1.0, 2.0]})) == {"y": [2.0, 4.0]}


@pytest.mark.parametrize("at", ["../w.bin", "../../m/../w.bin", "linked.bin", "ABSOLUTE", "a\0b"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, at: str) -> None:
    outside = tmp_path / "m" / "w.bin"
    home = onnx.placed(tmp_path, "m", elsewhere(str(outside) if at == "ABSOLUTE" else at))
    outside.write_bytes(WEIGHTS)
    (tmp_path / "w.bin").write_bytes(WEIGHTS)
    (home / "linked.bin").symlink_to(outside)
    error = failure(tmp_path)
    assert error.reason == "MODEL_INVALID"
    assert "outside its folder" in error.message


def test_hidden_references_are_found() -> None:
    """Weights also stand in attributes, in the graphs of loops and in sparse tensors."""
    tensor = onnx.weights("w", onnx.FLOAT, [2], at="/etc/shadow")
    inner = onnx.graph([], [], [], [tensor])
    constant = onnx.field(1, "value") + onnx.field(5, tensor) + onnx.field(20, 4)
    sparse = onnx.field(15, onnx.field(1, tensor))
    hidden = [
        onnx.model([onnx.node("Constant", [], "y", constant)], [], []),
        onnx.model([onnx.node("Loop", ["n", ""], "y", onnx.body_of(inner))], [], []),
        onnx.field(7, sparse),
        onnx.field(25, onnx.field(7, onnx.node("Constant", [], "y", constant))),
        onnx.field(20, onnx.field(1, inner)),
    ]
    for data in hidden:
        assert Reader(data).external() == ["/etc/shadow"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x3a\x7f", "cut off"),
        (b"\xff" * 11, "broken number"),
        (b"\x0b", "unknown wire type"),
        (b"\x38\x01", "broken model"),
    ],
)
def test_bytes_that_are_no_message_are_refused(tmp_path: Path, data: bytes, said: str) -> None:
    onnx.placed(tmp_path, "m", data)
    error = failure(tmp_path)
    assert error.reason == "MODEL_INVALID"
    assert said in error.message


def test_graphs_nested_without_end_are_refused() -> None:
    data = onnx.graph([], [], [], [])
    for _ in range(50):
        data = onnx.graph([onnx.node("Loop", [], "y", onnx.body_of(data))], [], [], [])
    with pytest.raises(BadGraph, match="nested deeper"):
        Reader(onnx.field(7, data)).external()


@pytest.mark.parametrize("seed", range(30))
def test_damaged_files_end_in_a_reason(tmp_path: Path, seed: int) -> None:
    """Whatever a disk or a stranger does to a file, the process lives and says MODEL_INVALID."""
    import random

    chance = random.Random(seed)
    data = bytearray(onnx.same(onnx.FLOAT, ["N", 2]))
    for _ in range(3):
        data[chance.randrange(len(data))] = chance.randrange(256)
    onnx.placed(tmp_path, "m", bytes(data[: chance.randrange(1, len(data) + 1)]))
    component = ModelComponent(Settings(folder=tmp_path))
    found: Any = asyncio.run(outcome(component, {"a": [1.0, 2.0]}))
    if isinstance(found, TerminalError):
        assert found.reason in FINE, f"seed {seed}: {found}"
    else:
        assert len(found) == 1, f"seed {seed}: {found}"


def test_a_run_without_end_is_stopped(tmp_path: Path) -> None:
    onnx.placed(tmp_path, "m", onnx.endless(), config='{"warm_up": false}')
    error = failure(tmp_path, body={"n": 2**62, "a": [0.0]})
    assert error.reason == "INFERENCE_TIMEOUT"


def runs(component: ModelComponent) -> bool:
    """Tell whether the one model has taken the one task from its queue."""
    models = component.stats()["models"]
    return bool(models) and models[0]["users"] == 1 and not models[0]["waiting"]


def test_a_run_that_nobody_wants_any_more_is_stopped(tmp_path: Path) -> None:
    """Else a cancelled execution keeps a thread and a processor for ever."""
    onnx.placed(tmp_path, "m", onnx.endless())
    component = ModelComponent(Settings(folder=tmp_path, runs=1, run_s_max=3600.0))

    async def cancelled() -> Any:
        task = asyncio.create_task(component.infer("m", {"n": 2**62, "a": [0.0]}))
        await eventually(lambda: runs(component))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return await component.infer("m", {"n": 1, "a": [2.0]})

    assert asyncio.run(asyncio.wait_for(cancelled(), 20.0)) == {"y": [4.0]}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[1]", "a map is wanted"),
        ("{", "cannot be read"),
        ('{"labls": []}', "unknown key 'labls'"),
        ('{"batch_max": 0}', "batch_max: 1 to"),
        ('{"batch": 1}', "batch: bool is wanted"),
        ('{"axes": {"a": 9}}', "axes.a: 0 to 7"),
        ('{"axes": {"b": 0}}', "axes.b: no such tensor"),
        ('{"axes": {"a": 1}}', "axes.a: dimension 1 is not free"),
        ('{"post": {"x": 1}}', "post.x: an expression"),
        ('{"sha256": "12"}', "64 hexadecimal digits"),
    ],
)
def test_a_wrong_configuration_names_the_key(tmp_path: Path, config: str, said: str) -> None:
    onnx.placed(tmp_path, "m", onnx.same(onnx.FLOAT, ["N", 2]), config=config)
    error = failure(tmp_path)
    assert error.reason == "MODEL_INVALID"
    assert said in error.message
