"""If these fail, a tensor of some ONNX type arrives as other values than were sent."""

import asyncio
import base64
import struct
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bend import TerminalError
from bend_executors.model import ModelComponent, Settings
from tests.components import onnx_files as onnx
from tests.components.calls import call


def infer(folder: Path, script: str, body: dict[str, Any], **inputs: Any) -> Any:
    component = ModelComponent(Settings(folder=folder))
    values = {"script": script, "body": body} | inputs
    return asyncio.run(call(component.infer, values)).output


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (onnx.FLOAT, "float32", [1.5, -2.0]),
        (onnx.DOUBLE, "float64", [0.1, 1e300]),
        (onnx.FLOAT16, "float16", [0.5, 65504.0]),
        (onnx.INT8, "int8", [-128, 127]),
        (onnx.INT16, "int16", [-32768, 32767]),
        (onnx.INT32, "int32", [-(2**31), 2**31 - 1]),
        (onnx.INT64, "int64", [-(2**63), 2**63 - 1]),
        (onnx.UINT8, "uint8", [0, 255]),
        (onnx.UINT16, "uint16", [0, 65535]),
        (onnx.UINT32, "uint32", [0, 2**32 - 1]),
        (onnx.UINT64, "uint64", [0, 2**64 - 1]),
        (onnx.BOOL, "bool", [True, False]),
    ],
)
def test_every_type_goes_in_and_out_as_json_and_as_bytes(
    tmp_path: Path, kind: int, name: str, values: list[Any]
) -> None:
    onnx.placed(tmp_path, "same", onnx.same(kind, ["N", 2]))
    raw = np.asarray(values, dtype=name).tobytes()
    assert infer(tmp_path, "same", {"a": values}) == {"y": values}
    assert infer(tmp_path, "same", {"a": {"base64": text(raw)}}) == {"y": values}
    packed = {"base64": text(raw), "dtype": name, "shape": [2]}
    assert infer(tmp_path, "same", {"a": values}, encoding="base64") == {"y": packed}
    two = {"base64": text(raw * 2), "shape": [2, 2]}
    assert infer(tmp_path, "same", {"a": two}) == {"y": [values, values]}


def test_text_keeps_every_character(tmp_path: Path) -> None:
    onnx.placed(tmp_path, "same", onnx.same(onnx.STRING, ["N"]))
    said = ["", "é\u4e16\U0001f600", "a\0b\0", " x "]
    assert infer(tmp_path, "same", {"a": said}) == {"y": said}
    assert infer(tmp_path, "same", {"a": said}, encoding="base64") == {"y": said}


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (onnx.STRING, [1], "body.a: wants [2] of string: got values, not text"),
        (onnx.STRING, [["a"], ["b", "c"]], "different lengths"),
        (onnx.STRING, {"base64": ""}, "text cannot come as base64"),
        (onnx.FLOAT16, [1.0, 70000.0], "outside -65504 to 65504"),
        (onnx.FLOAT, [1.0, 1e300], "outside"),
        (onnx.UINT8, [0, 256], "outside 0 to 255"),
        (onnx.BOOL, [1, 0], "got whole numbers"),
        (onnx.FLOAT, [1.0, 2.0, 3.0], "wants [2] of float or a list of these, got [3]"),
        (onnx.FLOAT, {"base64": "!"}, "got no base64"),
        (onnx.FLOAT, {"base64": text(b"123")}, "got 3 bytes, one value has 4"),
        (onnx.FLOAT, {"base64": text(b"1234")}, "got 1 values without a shape"),
        (onnx.FLOAT, {"base64": text(b"1234"), "shape": [2]}, "the shape [2] has 2"),
        (onnx.FLOAT, {"base64": text(b"1234"), "shape": [-1]}, "a list of sizes is wanted"),
        (onnx.FLOAT, {"base64": text(b"1234"), "kind": 1}, 'not {"base64"'),
        (onnx.BOOL, {"base64": text(b"\2\1")}, "neither 0 nor 1"),
    ],
)
def test_what_does_not_fit_says_what_is_wanted_and_what_came(
    tmp_path: Path, kind: int, value: Any, said: str
) -> None:
    onnx.placed(tmp_path, "same", onnx.same(kind, ["N", 2]))
    with pytest.raises(TerminalError) as caught:
        infer(tmp_path, "same", {"a": value})
    assert caught.value.reason == "SHAPE_MISMATCH"
    assert said in caught.value.message
    assert isinstance(caught.value.details, dict)
    assert caught.value.details["input"] == "a"
    assert caught.value.details["shape"] == [2]


def test_a_type_that_numpy_has_not_is_refused_by_name(tmp_path: Path) -> None:
    onnx.placed(tmp_path, "same", onnx.same(onnx.BFLOAT16, ["N"]))
    with pytest.raises(TerminalError, match="input a has type") as caught:
        infer(tmp_path, "same", {"a": [1.0]})
    assert caught.value.reason == "UNSUPPORTED_MODEL"
    assert "tensor(bfloat16)" in caught.value.message


def test_sequences_of_maps_come_as_json(tmp_path: Path) -> None:
    """What classifiers of scikit-learn answer; the model is the one onnxruntime carries."""
    data = (files("onnxruntime") / "datasets" / "logreg_iris.onnx").read_bytes()
    onnx.placed(tmp_path, "iris", data)
    raw = struct.pack("<6f", 5.0, 3.4, 6.0, 2.7, 7.2, 3.6)
    got = infer(tmp_path, "iris", {"float_input": {"base64": text(raw), "shape": [3, 2]}})
    assert len(got["label"]) == 3
    for row, label in zip(got["probabilities"], got["label"], strict=True):
        assert set(row) == {"0", "1", "2"}
        assert max(row, key=lambda key: float(row[key])) == str(label)
        assert sum(row.values()) == pytest.approx(1.0, abs=1e-5)


def test_an_output_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bend_executors.model import outputs

    monkeypatch.setattr(outputs, "OUTPUT_BYTES_MAX", 7)
    onnx.placed(tmp_path, "same", onnx.same(onnx.FLOAT, ["N", 2]))
    with pytest.raises(TerminalError) as caught:
        infer(tmp_path, "same", {"a": [1.0, 2.0]})
    assert caught.value.reason == "OUTPUT_TOO_LARGE"
