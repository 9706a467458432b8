"""A builder for workflow documents; the document is the contract, this only writes it.

flow = Workflow("report", description="Fetch and write")
fetch = flow.task("fetch", "http", url="{{input.url}}")
flow.task("write", "report.write", body=fetch.ref("body"), timeout="1m")
print(flow.to_yaml())
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import orjson
import yaml

# Keys of a task that belong to the engine; all others are the component's input.
TASK_KEYS = frozenset(
    {
        "id", "type", "depends_on", "condition", "run_if", "for_each", "max_parallel", "repeat",
        "timeout", "schedule_timeout", "heartbeat_timeout", "retry", "cacheable", "cache",
        "allow_failure", "compensate", "rate_limit", "concurrency", "requires",
        "allow_unregistered", "version", "with",
    }
)  # fmt: skip


class Task:
    """A task in a workflow; `ref` names its output in another task's input."""

    def __init__(self, task_id: str, document: dict[str, Any]) -> None:
        self.id = task_id
        self.document = document

    def ref(self, path: str = "") -> str:
        """Return a template for the output, or for a field of it: `ref("body.items")`."""
        return f"{{{{{self.expression(path)}}}}}"

    def expression(self, path: str = "") -> str:
        """Return the bare expression, for `condition` and longer templates."""
        return f"{self.id}.{path}" if path else self.id


class Workflow:
    """Builds one workflow document.

    Args:
        name: `[a-z0-9][a-z0-9_.-]{0,127}`.
        description: text for people.
        labels: usable in list filters.
        input: JSON Schema of the parameters.
        output: template map of the result.
        timeout: of the whole execution: `"1h"`, seconds, or a timedelta.
        more: any other key of a workflow: `concurrency`, `priority`, `defaults`, `on_failure`.
    """

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        labels: dict[str, str] | None = None,
        input: dict[str, Any] | None = None,
        output: dict[str, Any] | None = None,
        timeout: str | float | timedelta | None = None,
        **more: Any,
    ) -> None:
        self.name = name
        self._head: dict[str, Any] = {
            "name": name,
            "description": description or None,
            "labels": labels,
            "input": input,
            "output": output,
            "timeout": duration(timeout),
            **more,
        }
        self._tasks: list[dict[str, Any]] = []
        self._ids: set[str] = set()

    def output(self, **fields: Any) -> "Workflow":
        """Set the result: field name to template, for example `output(total=add.ref("sum"))`."""
        self._head["output"] = fields
        return self

    def task(
        self,
        task_id: str,
        task_type: str,
        *,
        depends_on: Iterable["str | Task"] = (),
        **fields: Any,
    ) -> Task:
        """Add a task.

        Args:
            task_id: unique in the workflow.
            task_type: a component, with or without a version: `vision.detect@2`.
            depends_on: ids or tasks; those named in expressions are added by the engine.
            fields: the engine's keys (`condition`, `timeout`, `retry`, `with_`, …) and the
                component's input. A trailing underscore is cut: `with_` means `with`.

        Raises ValueError when the id is taken.
        """
        if task_id in self._ids:
            raise ValueError(f"task id {task_id!r} is taken")
        self._ids.add(task_id)
        document: dict[str, Any] = {"id": task_id, "type": task_type}
        needs = [one.id if isinstance(one, Task) else one for one in depends_on]
        if needs:
            document["depends_on"] = needs
        for key, value in fields.items():
            name = key.removesuffix("_")
            document[name] = duration(value) if name in TASK_KEYS else value
        self._tasks.append(document)
        return Task(task_id, document)

    def to_dict(self) -> dict[str, Any]:
        """Return the document."""
        head = {key: value for key, value in self._head.items() if value is not None}
        return {**head, "tasks": [dict(task) for task in self._tasks]}

    def to_json(self) -> bytes:
        """Return the document as JSON."""
        return orjson.dumps(self.to_dict())

    def to_yaml(self) -> str:
        """Return the document as YAML, keys in their order."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)


def duration(value: Any) -> Any:
    """Write a timedelta as the language does (`90s`, `1500ms`); leave everything else alone."""
    if not isinstance(value, timedelta):
        return value
    milliseconds = round(value.total_seconds() * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
