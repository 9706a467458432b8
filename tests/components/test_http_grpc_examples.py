"""The example workflows of http and grpc, each with the stand-in server beside it."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from bend_executors.grpc import GrpcComponent
from bend_executors.grpc import Options as GrpcOptions
from bend_executors.http import HttpComponent
from bend_executors.http import Options as HttpOptions
from bend_executors.reach import Allowance
from bend_server.language import compile_document
from tests.components.calls import call

ROOT = Path(__file__).resolve().parents[2] / "examples"
LOOPBACK = Allowance(["127.0.0.0/8"])
EXPECTED = {
    "http": {
        "enrich": {"ip": "198.51.100.7", "risk": 0.93},
        "follow": {"event": "message", "data": {"step": "done"}, "id": "2"},
        "block": {"blocked": "198.51.100.7", "once": "default/e-1/t/-1/0"},
    },
    "grpc": {
        "price": {"symbol": "ACME", "cents": 1250},
        "follow": [{"symbol": "ACME", "cents": 1250 + n} for n in range(3)],
    },
}


@contextmanager
def server(folder: str) -> Iterator[str]:
    """Run an example's server on a free port; gives where it listens."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / folder / "server.py"), "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().strip()  # type: ignore[union-attr]
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()  # type: ignore[union-attr]


def filled(value: Any, scope: dict[str, Any]) -> Any:
    """Fill templates that only walk from a name to a field."""

    def look_up(match: re.Match[str]) -> str:
        found: Any = scope
        for key in match[1].split("."):
            found = found[key]
        return str(found)

    return orjson.loads(re.sub(r"\{\{([a-z_.]+)\}\}", look_up, orjson.dumps(value).decode()))


@pytest.mark.parametrize("folder", ["http", "grpc"])
def test_an_example_compiles_and_its_tasks_run(folder: str) -> None:
    data = (ROOT / folder / "workflow.yaml").read_bytes()
    assert compile_document(data, "application/yaml").components
    document = yaml.safe_load(data)
    fields = document["input"]["properties"]
    given = {name: field["default"] for name, field in fields.items()}

    async def use(place: str) -> dict[str, Any]:
        scope: dict[str, Any] = {"input": given | {"service": place}}
        http = HttpComponent(HttpOptions(allow=LOOPBACK))
        grpc = GrpcComponent(GrpcOptions(allow=LOOPBACK))
        served = {"http": http.request, "grpc": grpc.invoke}
        for task in document["tasks"]:
            engine = {"id", "type", "timeout", "depends_on", "condition"}
            values = filled({k: v for k, v in task.items() if k not in engine}, scope)
            scope[task["id"]] = (await call(served[task["type"]], values)).output
        await http.close()
        await grpc.close()
        del scope["input"]
        return scope

    with server(folder) as place:
        assert asyncio.run(use(place)) == EXPECTED[folder]
