"""The examples of sql and kafka: their scripts run, their workflows fit the components."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bend_executors import configuration
from bend_executors.kafka import KafkaComponent
from bend_executors.kafka.clusters import read_clusters
from bend_executors.sql import SqlComponent
from bend_executors.sql.connections import read_connections
from bend_server.language.compiler import compile_document
from tests.components.calls import call
from tests.kit.waiting import wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LANGUAGE = ("id", "type", "timeout", "condition", "depends_on")


def tasks(folder: str) -> dict[str, dict[str, Any]]:
    """Compile an example's workflow; return its tasks' inputs by id."""
    data = (EXAMPLES / folder / "workflow.yaml").read_bytes()
    compile_document(data, "application/yaml")
    return {
        task["id"]: {key: value for key, value in task.items() if key not in LANGUAGE}
        for task in yaml.safe_load(data)["tasks"]
    }


def test_the_sql_example(tmp_path: Path) -> None:
    environment = os.environ | {"BEND_HOME": str(tmp_path)}
    script = EXAMPLES / "sql" / "make_database.py"
    subprocess.run([sys.executable, script], env=environment, check=True, timeout=30)
    section = configuration.load(environment).section("sql")
    component = SqlComponent(read_connections(environment, section))
    given = tasks("sql")
    given["large"]["parameters"] = {"least": 50, "statuses": ["new", "paid"]}

    async def run() -> tuple[Any, Any]:
        large = (await call(component.query, given["large"])).output
        note = (await call(component.query, given["note"])).output
        again = (await call(component.query, given["note"])).output
        await component.close()
        return large["rows"][0], (note["row_count"], again["row_count"])

    assert asyncio.run(run()) == ({"id": 4, "customer": "Ada", "total": 310.0}, (1, 0))


def test_the_kafka_example(tmp_path: Path) -> None:
    environment = os.environ | {"BEND_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    out = tmp_path / "out"
    with out.open("wb") as file:
        script = [sys.executable, EXAMPLES / "kafka" / "broker.py"]
        process = subprocess.Popen(script, env=environment, stdout=file, stderr=file)
    try:
        wait_until(lambda: b"waiting for" in out.read_bytes(), "the brokers are up", 30)
        section = configuration.load(environment).section("kafka")
        component = KafkaComponent(read_clusters(section))
        given = tasks("kafka")

        async def run() -> list[int]:
            counts = []
            for values in given.values():
                made = await call(component.publish, values)
                counts.append(made.output["count"])
            return counts

        assert asyncio.run(run()) == [1, 2]
        component.close()
        wait_until(lambda: b'"article":"ink"' in out.read_bytes(), "all messages came", 30)
    finally:
        process.terminate()
        process.wait(30)
    lines = [line for line in out.read_text().splitlines() if "order-" in line]
    assert len(lines) == 3
    assert process.returncode == 0
