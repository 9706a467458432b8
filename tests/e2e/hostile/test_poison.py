"""Executions at the limits and over them: a clear result or a failed task, and the engine goes on.

What would break in production if these fail: one user's payload stops everybody's workflows.
"""

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.e2e.hostile.house import House

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

KIB, MIB = 1024, 1024 * 1024
JOINED = 5000
LARGEST = 20_000


def one(name: str, **task: Any) -> dict[str, Any]:
    """Return a workflow of one task with the id `only`."""
    return {"name": name, "tasks": [{"id": "only", **task}]}


def healthy(house: House) -> None:
    """Fail unless the engine still does right what it did before."""
    house.judge(house.start_load(3))


@pytest.mark.parametrize("size", [64 * KIB - 1, 64 * KIB, 64 * KIB + 1])
def test_outputs_around_the_inline_limit_arrive_whole(house: House, size: int) -> None:
    document = one("hostile_edge", type="hostile.text", size="{{input.size}}")
    document["tasks"].append({"id": "next", "type": "hostile.count", "values": "{{only}}"})
    done = house.run(document, size=size)
    assert done["status"] == "COMPLETED", done["error"]
    assert done["output"] == {"next": {"bytes": size, "items": size - 2}}
    assert len(done_output(house, done)) == size - 2


def done_output(house: House, done: dict[str, Any]) -> str:
    """Return the output of the task `only`, as REST shows it."""
    answer = house.rest.get(f"/v1/executions/{done['execution_id']}")
    assert answer.status_code == 200
    return str(answer.json()["tasks"]["only"]["output"])


def test_parameters_of_the_whole_megabyte_run(house: House) -> None:
    house.deploy(one("hostile_wide", type="hostile.count", values="{{input.text}}"))
    text = "x" * (MIB - len(b'{"text":""}'))
    raw = b'{"workflow":"hostile_wide","parameters":{"text":"%b"}}' % text.encode()
    answer = house.rest.post("/v1/run", content=raw)
    assert answer.status_code == 200, answer.text
    assert answer.json()["output"] == {"only": {"bytes": len(text) + 2, "items": len(text)}}


def test_the_largest_output_is_kept_and_a_byte_more_fails(house: House) -> None:
    document = one("hostile_huge", type="hostile.text", size="{{input.size}}")
    # The default output is an object around it, which would be over the limit itself.
    document["output"] = {"done": "yes"}
    kept = house.run(document, size=50 * MIB)
    assert kept["status"] == "COMPLETED", kept["error"]
    failed = house.run(document, size=50 * MIB + 1)
    assert failed["status"] == "FAILED"
    assert failed["error"]["reason"] == "TOO_LARGE"
    assert str(50 * MIB) in failed["error"]["message"]
    healthy(house)


def test_thousands_of_outputs_are_joined(house: House) -> None:
    tasks: list[dict[str, Any]] = [
        {"id": f"t{n}", "type": "hostile.step", "value": n} for n in range(JOINED)
    ]
    values = [f"{{{{t{n}.value}}}}" for n in range(JOINED)]
    tasks.append({"id": "join", "type": "hostile.count", "values": values})
    done = house.run({"name": "hostile_join", "tasks": tasks})
    assert done["status"] == "COMPLETED", done["error"]
    whole = orjson.dumps([n + 1 for n in range(JOINED)])
    assert done["output"] == {"join": {"bytes": len(whole), "items": JOINED}}


def test_a_fan_in_of_300_kb_arrives_whole(house: House) -> None:
    tasks: list[dict[str, Any]] = [
        {"id": f"t{n}", "type": "hostile.text", "size": 60_000} for n in range(5)
    ]
    values = [f"{{{{t{n}}}}}" for n in range(5)]
    tasks.append({"id": "join", "type": "hostile.count", "values": values})
    done = house.run({"name": "hostile_fan_in", "tasks": tasks})
    assert done["output"] == {"join": {"bytes": 5 * 60_000 + 6, "items": 5}}, done["error"]


@pytest.mark.parametrize("separate", [True, False])
def test_a_template_that_explodes_fails_its_own_task(house: House, *, separate: bool) -> None:
    """A megabyte used a thousand times would be a gigabyte of input."""
    use = "{{big}}"
    values: Any = [use] * 1000 if separate else use * 1000
    document = {
        "name": "hostile_explosion",
        "tasks": [
            {"id": "big", "type": "hostile.text", "size": MIB},
            {"id": "boom", "type": "hostile.count", "values": values, "retry": {"max_attempts": 1}},
        ],
    }
    done = house.run(document)
    assert done["status"] == "FAILED", done
    assert done["error"]["task"] == "boom"
    assert done["error"]["reason"] in (
        "TOO_LARGE",
        "INPUT_TOO_LARGE",
        "EXPRESSION_ERROR",
    ), done["error"]
    assert str(50 * MIB) in done["error"]["message"]
    healthy(house)


def test_labels_at_their_limits_are_kept(house: House) -> None:
    house.deploy(one("hostile_labels", type="hostile.step", value=1))
    labels = {f"{n:02}" + "k" * 61: "v" * 255 for n in range(64)}
    body = {"workflow": "hostile_labels", "labels": labels}
    answer = house.rest.post("/v1/executions", json=body)
    assert answer.status_code == 200, answer.text
    assert house.ended(answer.json()["execution_id"])["labels"] == labels


def test_the_largest_document_runs_to_its_end(house: House, figure: Callable[[str], None]) -> None:
    tasks: list[dict[str, Any]] = [
        {"id": f"t{n}", "type": "hostile.step", "value": n, "depends_on": ["t0"] if n else []}
        for n in range(LARGEST)
    ]
    document: dict[str, Any] = {
        "name": "hostile_largest",
        "tasks": tasks,
        "output": {"last": "{{t19999}}"},
    }
    began = time.monotonic()
    house.deploy(document)
    created = time.monotonic()
    done = house.ended(house.start("hostile_largest"), 120)
    ended = time.monotonic()
    figure(f"{LARGEST} tasks: created in {created - began:.2f} s, ran {ended - created:.2f} s")
    assert done["status"] == "COMPLETED", done["error"]
    assert done["output"] == {"last": {"value": LARGEST}}
    tasks.append({"id": "one_more", "type": "hostile.step", "value": 1})
    over = house.rest.put("/v1/workflows/hostile_largest", json=document)
    assert over.status_code in (400, 429)
    assert "20000" in over.json()["message"]
