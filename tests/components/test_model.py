"""The model component with a real ONNX model, the one that the package magika carries."""

import asyncio
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from bend import TerminalError
from bend_executors.model import ModelComponent, Settings
from bend_executors.model.folder import version_order

MODEL = Path(str(files("magika"))) / "models" / "standard_v3_3" / "model.onnx"
WIDTH = 2048


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "models" / "magika"
    for version in ("1.9", "1.10"):
        (home / version).mkdir(parents=True)
        shutil.copy(MODEL, home / version / "model.onnx")
    return tmp_path / "models"


def features(seed: int) -> list[int]:
    chance = np.random.default_rng(seed)
    return [int(v) for v in chance.integers(0, 257, WIDTH)]


def direct(rows: list[list[int]]) -> Any:
    session = onnxruntime.InferenceSession(str(MODEL))
    return session.run(None, {"bytes": np.asarray(rows, dtype=np.int32)})[0]


def test_one_sample_gives_what_the_runtime_gives(folder: Path) -> None:
    component = ModelComponent(Settings(folder=folder))
    got = asyncio.run(component.infer("magika", {"features": features(1)}))
    assert np.allclose(got["target_label"], direct([features(1)])[0], atol=1e-5)


def test_a_list_of_samples_keeps_its_order(folder: Path) -> None:
    rows = [features(seed) for seed in range(3)]
    got = asyncio.run(ModelComponent(Settings(folder=folder)).infer("magika@1.9", {"bytes": rows}))
    assert np.allclose(got["target_label"], direct(rows), atol=1e-5)


def test_tasks_that_wait_together_run_as_one_batch(folder: Path) -> None:
    """Dynamic batching must be real: fewer calls than tasks, each task its own rows."""

    async def crowd() -> tuple[list[Any], dict[str, Any]]:
        component = ModelComponent(Settings(folder=folder))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(component.infer("magika", {"features": features(seed)}))
                for seed in range(100)
            ]
        return [task.result()["target_label"] for task in tasks], component.stats()["models"][0]

    outputs, seen = asyncio.run(crowd())
    batches = {int(rows): count for rows, count in seen["batches"].items()}
    assert np.allclose(outputs, direct([features(seed) for seed in range(100)]), atol=1e-5)
    assert max(batches) > 1
    assert seen["runs"] == sum(batches.values()) < 100
    assert seen["items"] == sum(rows * count for rows, count in batches.items()) == 100
    assert seen["tasks"] == 100
    assert max(batches) <= 64


@pytest.mark.parametrize(
    ("body", "reason", "text"),
    [
        ({"bytes": [1, 2, 3]}, "SHAPE_MISMATCH", "[2048] of int32"),
        ({"bytes": ["x"] * WIDTH}, "SHAPE_MISMATCH", "body.bytes"),
        ({"byte": [1]}, "INVALID_INPUT", "body.byte: no such input"),
        ({}, "INVALID_INPUT", "body.bytes: is missing"),
    ],
)
def test_wrong_inputs_name_the_input_and_the_shape(
    folder: Path, body: dict[str, Any], reason: str, text: str
) -> None:
    with pytest.raises(TerminalError) as caught:
        asyncio.run(ModelComponent(Settings(folder=folder)).infer("magika", body))
    assert caught.value.reason == reason
    assert text in caught.value.message


def test_a_wrong_task_does_not_spoil_its_neighbours(folder: Path) -> None:
    async def both() -> list[Any]:
        component = ModelComponent(Settings(folder=folder))
        return await asyncio.gather(
            component.infer("magika", {"bytes": [1]}),
            component.infer("magika", {"features": features(5)}),
            return_exceptions=True,
        )

    wrong, right = asyncio.run(both())
    assert isinstance(wrong, TerminalError)
    assert np.allclose(right["target_label"], direct([features(5)])[0], atol=1e-5)


@pytest.mark.parametrize("script", ["../magika", "magika/1.9", "", "magika@../1"])
def test_names_do_not_leave_the_folder(folder: Path, script: str) -> None:
    with pytest.raises(TerminalError) as caught:
        asyncio.run(ModelComponent(Settings(folder=folder)).infer(script, {"bytes": [1]}))
    assert caught.value.reason == "INVALID_INPUT"


def test_unknown_models_and_versions_say_what_there_is(folder: Path) -> None:
    with pytest.raises(TerminalError, match="known: magika"):
        asyncio.run(ModelComponent(Settings(folder=folder)).infer("other", {}))
    with pytest.raises(TerminalError, match=r"known: 1\.9, 1\.10"):
        asyncio.run(ModelComponent(Settings(folder=folder)).infer("magika@7", {}))


def test_a_file_that_is_no_model_says_so(folder: Path) -> None:
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(TerminalError) as caught:
        asyncio.run(ModelComponent(Settings(folder=folder)).infer("broken", {"bytes": [1]}))
    assert caught.value.reason == "MODEL_INVALID"


def test_versions_are_ordered_as_people_do() -> None:
    assert sorted(["1.10", "1.9", "2", "1.9-rc1"], key=version_order)[-1] == "2"
    ordered = ["1.9-rc.1", "1.9-rc.2", "1.9", "1.9.1", "1.10", "2.0.0-alpha", "2"]
    assert sorted({*ordered}, key=version_order) == ordered
    assert version_order("1.0") == version_order("1.0.0")
