"""What the language costs: seconds to compile 20,000 tasks, microseconds to render an input.

`python -m tests.benchmarks.language` prints one JSON line per figure.
"""

import json
import time
from collections.abc import Callable

import yaml

from bend_server.language import compile_document
from tests.language.documents import plan_of
from tests.language.scopes import FakeScope
from tests.language.test_bounds import SHAPES

TASKS = 20_000
ROUNDS = 3
CALLS = 20_000


def document(conditions: bool) -> bytes:
    """Return YAML of a chain of 20,000 tasks with two templates each."""
    rows = ["name: big", "tasks:"]
    for number in range(TASKS):
        read = f"t{number - 1}.value" if number else "input.value"
        rows.append(f"  - id: t{number}\n    type: http\n    timeout: 5s")
        rows.append(f'    url: "http://host/{{{{{read}}}}}"')
        rows.append(f'    body: {{value: "{{{{{read}}}}}", step: 1}}')
        if number:
            rows.append(f"    depends_on: [t{number - 1}]")
            if conditions:
                rows.append(f"    condition: {read} > {number}")
    return "\n".join(rows).encode()


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of the fastest of a few rounds."""
    spent = []
    for _ in range(ROUNDS):
        began_ns = time.process_time_ns()
        work()
        spent.append((time.process_time_ns() - began_ns) / 1e9)
    return min(spent)


def call_us(work: Callable[[], object]) -> float:
    """Return the CPU microseconds of one call, in the fastest of a few rounds."""

    def many() -> None:
        for _ in range(CALLS):
            work()

    return seconds(many) / CALLS * 1e6


def report(name: str, value: float, unit: str) -> None:
    """Print one figure."""
    print(json.dumps({"name": name, "value": round(value, 3), "unit": unit}))


def compilation() -> None:
    """Print the figures of compiling."""
    for conditions in (False, True):
        suffix = "_conditions" if conditions else ""
        yaml = document(conditions)
        definition = compile_document(yaml, "application/yaml")
        canonical = definition.canonical
        report(
            f"compile_yaml_20000{suffix}",
            seconds(lambda data=yaml: compile_document(data, "application/yaml")),
            "s",
        )
        report(
            f"compile_json_20000{suffix}",
            seconds(lambda data=canonical: compile_document(data, "application/json")),
            "s",
        )
        report(
            f"plan_20000{suffix}",
            seconds(lambda made=definition: made.plan("default", 1, {"http": 1})),
            "s",
        )


def shapes() -> None:
    """Print what creating a workflow of each shape costs: compiling its YAML, and the plan."""
    for shape, tasks in SHAPES.items():
        data = yaml.dump({"name": "w", "tasks": tasks}, Dumper=yaml.CSafeDumper).encode()

        def create(data: bytes = data) -> None:
            compile_document(data, "application/yaml").plan("default", 1, {"x": 1})

        report(f"create {shape}", seconds(create), "s")


def rendering() -> None:
    """Print the figures of filling templates."""
    scope = FakeScope(
        {"user": {"id": 7, "name": "ada"}},
        {0: {"value": 12345, "text": "a short output", "rows": [{"p": n} for n in range(10)]}},
    )
    tasks = plan_of(
        {"id": "a"},
        {"id": "literal", "url": "http://x", "n": 1},
        {"id": "path", "value": "{{a.value}}"},
        {"id": "paths", "value": "{{a.value}}", "user": "{{input.user.id}}", "n": 1},
        {"id": "whole", "value": "{{a}}", "input": "{{input}}"},
        {"id": "text", "value": "{{a.text}} of {{input.user.name}}"},
        {"id": "cel", "value": "{{a.value + 1}}"},
        {"id": "macro", "value": "{{a.rows.map(r, r.p)}}"},
        {"id": "condition", "condition": "a.value > 100"},
    ).tasks
    for task in tasks[1:-1]:
        report(f"render_{task.id}", call_us(lambda task=task: task.render(scope)), "us")
    judge = tasks[-1].condition
    if judge is not None:
        report("condition", call_us(lambda: judge(scope)), "us")


if __name__ == "__main__":
    rendering()
    compilation()
    shapes()
