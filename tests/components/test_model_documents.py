"""If these fail, what we show about the model component does not work."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bend_executors.model import ModelComponent, Settings
from bend_server.language import compile_document
from tests.components import onnx_files as onnx
from tests.components.calls import call, documented
from tests.kit.documents import blocks

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "executors" / "bend_executors" / "model" / "README.md"
EXAMPLE = ROOT / "examples" / "model"
TASK_KEYS = {"id", "type", "timeout"}
RISK = onnx.model(
    [onnx.node("ReduceSum", ["features"], "risk", keepdims=0)],
    [onnx.port("features", onnx.FLOAT, ["N", 3])],
    [onnx.port("risk", onnx.FLOAT, [])],
)
GREY = onnx.model(
    [onnx.node("Identity", ["pixels"], "grey")],
    [onnx.port("pixels", onnx.UINT8, ["N", 4])],
    [onnx.port("grey", onnx.UINT8, ["N", 4])],
)
ANIMALS = onnx.model(
    [onnx.node("Identity", ["pixels"], "scores")],
    [onnx.port("pixels", onnx.FLOAT, ["N", 3])],
    [onnx.port("scores", onnx.FLOAT, ["N", 3])],
)
RIGHT = {
    "score": {"risk": 1.5},
    "animals": {"label": ["dog", "cat"]},
    "best_two": {"places": [2, 1], "sure": True},
    "picture": {"grey": {"base64": "AAEC/w==", "dtype": "uint8", "shape": [1, 4]}},
}


def infer(folder: Path, task: dict[str, Any]) -> Any:
    values = {key: value for key, value in task.items() if key not in TASK_KEYS}
    component = ModelComponent(Settings(folder=folder))
    return asyncio.run(call(component.infer, values)).output


def test_the_readmes_tasks_run(tmp_path: Path) -> None:
    config = next(block.text for block in blocks(README) if block.language == "json")
    onnx.placed(tmp_path, "threat_scoring", RISK)
    onnx.placed(tmp_path, "grey", GREY)
    onnx.placed(tmp_path, "animals", ANIMALS, "1.2.0", config)
    tasks = documented("model")
    tasks[0]["body"] = {"features": [0.25, 0.25, 1.0]}
    assert {task["id"]: infer(tmp_path, task) for task in tasks} == RIGHT


def test_the_example_runs(tmp_path: Path) -> None:
    environment = os.environ | {"BEND_HOME": str(tmp_path)}
    subprocess.run(
        [sys.executable, str(EXAMPLE / "prepare.py")], env=environment, check=True, timeout=60
    )
    document = (EXAMPLE / "workflow.yaml").read_bytes()
    assert compile_document(document, "application/yaml").name == "iris"
    task = yaml.safe_load(document)["tasks"][0]
    default = yaml.safe_load(document)["input"]["properties"]["flowers"]["default"]
    task["body"] = {"flower": default}
    got = infer(tmp_path / "models", task)
    assert got["species"] == ["setosa", "versicolor", "virginica"]
    assert json.loads((tmp_path / "models/iris/1.0.0/model.json").read_text())["labels"]
