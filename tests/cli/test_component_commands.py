"""`bend components …`: what people type, what is asked, and what they read."""

from pathlib import Path
from typing import Any

import pytest

from bend.v1 import component_pb2
from bend.v1 import registry_service_pb2 as pb
from tests.kit.command_line import CommandLine
from tests.kit.fakes.engine import FakeEngine

CONTRACT = component_pb2.ComponentContract(name="t.add", version="1.2.3")


def described(*, deprecated: bool = False, **weights: int) -> pb.GetComponentResponse:
    found = pb.GetComponentResponse(
        component=component_pb2.Component(name="t.add", latest_version="1.2.3"),
        version=component_pb2.ComponentVersion(contract=CONTRACT, deprecated=deprecated),
    )
    for version, weight in weights.items():
        found.weights.add(version=version.replace("_", ".").lstrip("v"), weight=weight)
    return found


def test_a_version_is_deprecated_and_restored(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["DeprecateComponentVersion"] = [pb.DeprecateComponentVersionResponse()]
    engine.script["GetComponent"] = [described(deprecated=True), described()]
    assert bend("components", "deprecate", "t.add", "1.2.3").out == "t.add 1.2.3 is deprecated\n"
    done = bend("components", "deprecate", "t.add", "1.2.3", "--restore")
    assert done.out == "t.add 1.2.3 is current\n"
    asked = engine.requests["DeprecateComponentVersion"]
    assert [(one.version, one.restore) for one in asked] == [("1.2.3", False), ("1.2.3", True)]


def test_weights_are_shown_set_and_cleared(engine: FakeEngine, bend: CommandLine) -> None:
    engine.script["GetComponent"] = [described(v2_0_0=5, v1_4_0=95)]
    stored = pb.SetComponentWeightsResponse()
    stored.weights.add(version="2.0.0", weight=1)
    engine.script["SetComponentWeights"] = [stored, pb.SetComponentWeightsResponse()]
    shown = bend("components", "weights", "t.add")
    assert shown.out == "2.0.0=5 (5.0%), 1.4.0=95 (95.0%)\n"
    assert "2.0.0=5 (5.0%)" in bend("components", "get", "t.add").out
    assert bend("components", "weights", "t.add", "2.0.0=1").out == "2.0.0=1 (100.0%)\n"
    assert bend("components", "weights", "t.add", "--clear").out == "the newest version takes all\n"
    asked = engine.requests["SetComponentWeights"]
    assert [[(w.version, w.weight) for w in one.weights] for one in asked] == [[("2.0.0", 1)], []]
    for wrong in (["2.0.0"], ["2.0.0=x"], ["=3"], ["2.0.0=-1"], ["1=1", "1=2"], ["1=1", "--clear"]):
        assert bend("components", "weights", "t.add", *wrong).code == 2, wrong
    assert len(engine.requests["SetComponentWeights"]) == 2


def test_a_check_lists_what_breaks_and_exits_with_it(
    engine: FakeEngine, bend: CommandLine, tmp_path: Path
) -> None:
    broken = pb.CheckCompatibilityResponse(base_version="1.2.3", version="1.3.0")
    broken.changes.add(
        kind=pb.ContractChange.INPUT_REQUIRED, path="$.input.b", message="has to be", breaking=True
    )
    broken.changes.add(kind=pb.ContractChange.ADDED, path="$.output.c", message="is new")
    fine = pb.CheckCompatibilityResponse(compatible=True, base_version="1.2.3", version="1.3.0")
    first = pb.CheckCompatibilityResponse(compatible=True, version="1.3.0")
    engine.script["CheckCompatibility"] = [broken, broken, fine, first]
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from bend import component\n@dataclass\nclass Sum:\n    value: int\n"
        "@component('t.add', version='1.3.0')\ndef add(a: int, b: int) -> Sum:\n"
        "    return Sum(a + b)\n"
    )
    done = bend("components", "check", "t.add", "--component", f"{file}:add")
    assert done.code == 1
    assert done.lines[1].split() == ["breaks", "INPUT_REQUIRED", "$.input.b", "has", "to", "be"]
    assert done.lines[-1] == "t.add 1.3.0 breaks 1.2.3"
    asked = engine.requests["CheckCompatibility"][0]
    assert (asked.contract.name, asked.contract.version) == ("t.add", "1.3.0")
    assert b'"b"' in asked.contract.input_schema
    document: Any = bend("components", "check", "t.add", "--base", "1.2.3", "--json")
    assert document.code == 1
    assert document.json["changes"][0]["path"] == "$.input.b"
    good = bend("components", "check", "t.add")
    assert (good.code, good.lines[-1]) == (0, "t.add 1.3.0 is compatible with 1.2.3")
    assert "nothing older" in bend("components", "check", "t.add").out


@pytest.mark.parametrize("place", ["", "x", "missing.py:f", "bend:nothing", "no_such_module:f"])
def test_a_function_that_is_not_there_is_said(bend: CommandLine, place: str) -> None:
    done = bend("components", "check", "t.add", "--component", place or ":")
    assert done.code == 2
    assert "Error" in done.err


def test_an_instance_is_drained(engine: FakeEngine, bend: CommandLine) -> None:
    drained = component_pb2.Instance(
        instance_id="i-1", component="t.add", version="1.2.3", in_flight=3, draining=True
    )
    back = component_pb2.Instance(instance_id="i-1", component="t.add", version="1.2.3")
    engine.script["DrainInstance"] = [
        pb.DrainInstanceResponse(instances=[drained]),
        pb.DrainInstanceResponse(instances=[back]),
    ]
    assert bend("components", "drain", "i-1").out == "t.add 1.2.3 on i-1 drains, holds 3\n"
    assert "takes tasks" in bend("components", "drain", "i-1", "--restore").out
    assert [one.restore for one in engine.requests["DrainInstance"]] == [False, True]


def test_init_refuses_what_it_cannot_write(bend: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert bend("components", "init", "Not A Name", "--dir", str(folder)).code == 2
    assert not folder.exists()
    done = bend("components", "init", "acme.class", "--dir", str(folder))
    assert done.code == 0
    assert "async def class_(" in (folder / "component.py").read_text()
    assert len(done.lines) == len(list(folder.iterdir())) == 6
    again = bend("components", "init", "acme.class", "--dir", str(folder))
    assert again.code == 2
    assert "is there already" in again.err
