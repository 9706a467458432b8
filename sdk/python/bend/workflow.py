"""A builder for workflow documents; the document is the contract, this only writes it.

flow = Workflow("report", description="Fetch and write")
fetch = flow.task("fetch", "http", url="{{input.url}}")
flow.task("write", "report.write", body=fetch.ref("body"), timeout="1m")
print(flow.to_yaml())
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from bend.errors import InvalidDocument
from bend.yaml_core import read_json, read_yaml, write_json, write_yaml

# Keys of a task that belong to the engine; all others are the component's input.
TASK_KEYS = frozenset(
    {
        "id", "type", "depends_on", "condition", "run_if", "for_each", "max_parallel", "repeat",
        "timeout", "schedule_timeout", "heartbeat_timeout", "retry", "cacheable", "cache",
        "allow_failure", "compensate", "rate_limit", "concurrency", "requires",
        "allow_unregistered", "version", "with",
    }
)  # fmt: skip
Duration = str | float | timedelta


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

    def undone_by(self, task_type: str, **fields: Any) -> Self:
        """Say what undoes this task (`compensate`): a component or `workflow`, and its input."""
        self.document["compensate"] = {"type": task_type, **_fields(fields)}
        return self


class Workflow:
    """Builds one workflow document.

    Args:
        name: `[a-z0-9][a-z0-9_.-]{0,127}`.
        description: text for people.
        labels: usable in list filters.
        input: JSON Schema of the parameters.
        output: template map of the result.
        timeout: of the whole execution: `"1h"`, seconds, or a timedelta.
        priority: 1 (first) to 9.
        concurrency: `{"key", "limit", "strategy"}`.
        defaults: `{"retry", "timeout"}` of tasks that do not say otherwise.
        on_failure: `"fail"` or `"pause"`; tasks are added by `on_failure`.
        more: any other key of a workflow that a newer server knows.
    """

    def __init__(
        self,
        name: str,
        *,
        description: str = "",
        labels: dict[str, str] | None = None,
        input: dict[str, Any] | None = None,
        output: dict[str, Any] | None = None,
        timeout: Duration | None = None,
        priority: int | None = None,
        concurrency: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        on_failure: str | None = None,
        **more: Any,
    ) -> None:
        self._head: dict[str, Any] = {
            "name": name,
            "description": description or None,
            "labels": labels,
            "input": input,
            "output": output,
            "timeout": duration(timeout),
            "priority": priority,
            "concurrency": concurrency,
            "defaults": _written(defaults),
            "on_failure": on_failure,
            **more,
            "tasks": [],
        }
        self._tasks: dict[str, Task] = {}

    @classmethod
    def from_document(cls, source: str | bytes | Mapping[str, Any]) -> Self:
        """Return the builder of a document: YAML or JSON text, or a map.

        What it writes compiles to the same revision: keys keep their order, numbers their digits.
        Whether the document makes sense is the server's to say.

        Raises InvalidDocument when it is no map with a list of tasks, each a map with an id.
        """
        document = _parsed(source)
        flow = cls(str(document.get("name", "")))
        flow._head = document
        document.setdefault("tasks", [])
        late = document.get("on_failure")
        for tasks in (document["tasks"], late if isinstance(late, list) else []):
            if not isinstance(tasks, list):
                raise InvalidDocument("'tasks' is no list")
            for one in tasks:
                if not isinstance(one, dict) or not isinstance(one.get("id"), str):
                    raise InvalidDocument("a task is a map with an 'id'")
                flow._keep(one["id"], one)
        return flow

    @property
    def name(self) -> str:
        """The workflow's name."""
        return str(self._head["name"])

    @property
    def tasks(self) -> list[Task]:
        """All tasks, those of `on_failure` last; changes of their `document` are kept."""
        return list(self._tasks.values())

    def __getitem__(self, task_id: str) -> Task:
        """Return a task by its id. Raises KeyError."""
        return self._tasks[task_id]

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
            fields: the engine's keys (`condition`, `for_each`, `repeat`, `cache`, `retry`,
                `compensate`, `with_`, …) and the component's input. A trailing underscore is cut:
                `with_` means `with`. Durations may be timedeltas, in nested maps too.

        Raises ValueError when the id is taken.
        """
        tasks: list[dict[str, Any]] = self._head["tasks"]
        return self._add(tasks, task_id, task_type, depends_on, fields)

    def on_failure(
        self,
        task_id: str,
        task_type: str,
        *,
        depends_on: Iterable["str | Task"] = (),
        **fields: Any,
    ) -> Task:
        """Add a task that runs when the execution fails; its arguments are those of `task`.

        It may depend on other tasks of on_failure, and read what all tasks gave. Raises ValueError
        when the id is taken, or the workflow says `on_failure="pause"`.
        """
        tasks = self._head.get("on_failure")
        if tasks is None:
            tasks = self._head["on_failure"] = []
        if tasks in ("fail", "pause"):
            raise ValueError(f"the workflow says on_failure: {tasks}")
        return self._add(tasks, task_id, task_type, depends_on, fields)

    def workflow(
        self,
        task_id: str,
        workflow: str,
        *,
        input: Any = None,
        revision: int | str | None = None,
        **fields: Any,
    ) -> Task:
        """Add a sub-workflow: a child execution, cancelled with its parent."""
        given = {"workflow": workflow, "revision": revision, "input": input}
        return self.task(task_id, "workflow", **_present(given), **fields)

    def wait(
        self,
        task_id: str,
        duration: Duration | None = None,
        *,
        until: str | datetime | None = None,
        **fields: Any,
    ) -> Task:
        """Add a durable timer: a duration, or a time (RFC 3339 or an aware datetime)."""
        if isinstance(until, datetime):
            if until.tzinfo is None:
                raise ValueError("a time needs a time zone")
            until = until.astimezone(UTC).isoformat().replace("+00:00", "Z")
        given = {"duration": _written(duration), "until": until}
        return self.task(task_id, "wait", **_present(given), **fields)

    def signal(
        self, task_id: str, name: str, *, timeout: Duration | None = None, **fields: Any
    ) -> Task:
        """Add a task that waits for a signal; its output is the payload."""
        given = {"name": name, "timeout": timeout}
        return self.task(task_id, "signal", **_present(given), **fields)

    def approval(
        self,
        task_id: str,
        title: str,
        *,
        assignees: Iterable[str] | str | None = None,
        form: Mapping[str, Any] | None = None,
        timeout: Duration | None = None,
        **fields: Any,
    ) -> Task:
        """Add a task that waits for a person's decision.

        Its output is `{"approved", "comment", "data", "decided_by", "decided_at"}`.
        """
        if assignees is not None and not isinstance(assignees, str):
            assignees = list(assignees)
        given = {"title": title, "assignees": assignees, "form": form, "timeout": timeout}
        return self.task(task_id, "approval", **_present(given), **fields)

    def _add(
        self,
        tasks: list[dict[str, Any]],
        task_id: str,
        task_type: str,
        depends_on: Iterable["str | Task"],
        fields: dict[str, Any],
    ) -> Task:
        document: dict[str, Any] = {"id": task_id, "type": task_type}
        needs = [one.id if isinstance(one, Task) else one for one in depends_on]
        if needs:
            document["depends_on"] = needs
        document.update(_fields(fields))
        task = self._keep(task_id, document)
        tasks.append(document)
        return task

    def _keep(self, task_id: str, document: dict[str, Any]) -> Task:
        if task_id in self._tasks:
            raise ValueError(f"task id {task_id!r} is taken")
        task = self._tasks[task_id] = Task(task_id, document)
        return task

    def to_dict(self) -> dict[str, Any]:
        """Return the document: a copy."""
        return {key: _copied(value) for key, value in self._head.items() if value is not None}

    def to_json(self) -> bytes:
        """Return the document as JSON."""
        return write_json(self.to_dict())

    def to_yaml(self) -> str:
        """Return the document as YAML, keys in their order."""
        return write_yaml(self.to_dict())


def duration(value: Any) -> Any:
    """Write a timedelta as the language does (`90s`, `1500ms`); leave everything else alone."""
    if not isinstance(value, timedelta):
        return value
    milliseconds = round(value.total_seconds() * 1000)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _parsed(source: str | bytes | Mapping[str, Any]) -> dict[str, Any]:
    document: Any = source
    try:
        if isinstance(source, bytes):
            document = source.decode("utf-8-sig")
        if isinstance(document, str):
            is_json = document.lstrip().startswith("{")
            document = read_json(document) if is_json else read_yaml(document)
        document = _copied(document)
    except ValueError as error:
        raise InvalidDocument(str(error)) from error
    except RecursionError as error:
        raise InvalidDocument("the document holds itself, or nests too deep") from error
    if not isinstance(document, dict):
        raise InvalidDocument("a workflow is a map")
    return document


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a task: underscores cut, durations of the engine's keys written."""
    made: dict[str, Any] = {}
    for key, value in fields.items():
        name = key.removesuffix("_")
        made[name] = _written(value) if name in TASK_KEYS else value
    return made


def _written(value: Any) -> Any:
    """Write timedeltas, in maps too."""
    if isinstance(value, Mapping):
        return {key: _written(entry) for key, entry in value.items()}
    return duration(value)


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(entry) for key, entry in value.items()}
    return [_copied(entry) for entry in value] if isinstance(value, (list, tuple)) else value
