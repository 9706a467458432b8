"""A checked document, and the plan it becomes."""

from array import array
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bend_server.core import limits
from bend_server.core.errors import Finding
from bend_server.core.model import TaskKind
from bend_server.core.plan import ConcurrencyPlan, Plan, Scope, TaskPlan
from bend_server.language.collector import paused_collector
from bend_server.language.contracts import ContractView, check_contracts
from bend_server.language.findings import Findings, Locator, Place, show_path
from bend_server.language.graph import Graph
from bend_server.language.parameters import check_parameters
from bend_server.language.picture import Picture, picture_of
from bend_server.language.rendering import output_renderer, renderer
from bend_server.language.schemas import Schema
from bend_server.language.sources import Control, TaskSource
from bend_server.language.templates import Compiled, Templates


class ComponentUse(NamedTuple):
    """A component that a document names, where it does so first."""

    name: str
    major: int | None
    allow_unregistered: bool
    path: str
    line: int
    column: int


class Header:
    """What a document says besides its tasks."""

    __slots__ = (
        "concurrency",
        "description",
        "labels",
        "main_count",
        "name",
        "pause_on_failure",
        "priority",
        "timeout_us",
    )

    def __init__(self) -> None:
        self.name = ""
        self.description = ""
        self.labels: dict[str, str] = {}
        self.priority = 5
        self.timeout_us = limits.EXECUTION_TIMEOUT_US
        self.main_count = 0
        self.pause_on_failure = False
        self.concurrency: ConcurrencyPlan | None = None


class Definition:
    """A document without findings.

    `canonical` is its JSON: keys in order, integers with all digits. Compiling it again gives
    the same plan.
    """

    __slots__ = (
        "_components",
        "_graph",
        "_header",
        "_locator",
        "_output",
        "_schema",
        "_tasks",
        "_templates",
        "canonical",
    )

    def __init__(
        self,
        header: Header,
        tasks: list[TaskSource],
        graph: Graph,
        output: Compiled | None,
        schema: Schema | None,
        templates: Templates,
        canonical: bytes,
        locator: Locator,
    ) -> None:
        self._header = header
        self._tasks = tasks
        self._graph = graph
        self._output = output
        self._schema = schema
        self._templates = templates
        self._locator = locator
        self._components: list[ComponentUse] | None = None
        self.canonical = canonical

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self._header.name

    @property
    def description(self) -> str:
        """Text for people."""
        return self._header.description

    @property
    def labels(self) -> dict[str, str]:
        """The workflow's labels."""
        return dict(self._header.labels)

    @property
    def task_count(self) -> int:
        """How many tasks it has: those of on_failure too, those that undo others not."""
        return len(self._graph.dependencies)

    @property
    def input_schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema of the parameters."""
        return _document_of(self._schema)

    @property
    def components(self) -> list[ComponentUse]:
        """Each (component, major, allow_unregistered) once, where the document names it first."""
        if self._components is None:
            first: dict[tuple[str, int | None, bool], TaskSource] = {}
            for task in self._tasks:
                if task.kind != TaskKind.COMPONENT:
                    continue
                first.setdefault((task.component, task.major, task.allow_unregistered), task)
            paths = [(*task.path, "type") for task in first.values()]
            places = self._locator.locate([Place(path) for path in paths])
            self._components = [
                ComponentUse(*key, show_path(path), line, column)
                for key, path, (line, column) in zip(first, paths, places, strict=True)
            ]
        return list(self._components)

    def picture(self) -> Picture:
        """Return what a drawing of the workflow shows."""
        return picture_of(self.name, self._tasks, self._graph)

    def check_contracts(self, contracts: Mapping[str, ContractView]) -> list[Finding]:
        """Return what contradicts the components' contracts, in document order.

        Args:
            contracts: by `name@major`, or by `name` for tasks that pin no major or whose pinned
                major is not listed. Components that are missing are not checked.
        """
        findings = Findings()
        check_contracts(self._tasks, contracts, findings)
        return findings.placed(self._locator)

    def check_parameters(self, data: bytes) -> bytes:
        """Return the parameters of an execution as JSON, checked, with top-level defaults.

        Args:
            data: JSON; empty means `{}`.

        Raises:
            InvalidInput: INVALID_PARAMETERS, with the path of the first problem.
            LimitExceeded: TOO_LARGE.
        """
        return check_parameters(data, self._schema)

    def plan(self, namespace: str, revision: int, pins: Mapping[str, int]) -> Plan:
        """Return what the engine runs.

        Args:
            pins: component's name to the major version chosen when the revision was created; a
                task's own pin goes before it.
        """
        header, graph = self._header, self._graph
        with paused_collector():
            tasks = tuple(self._task_plan(task, pins) for task in self._tasks)
        late = range(header.main_count, len(graph.dependencies))
        main = range(header.main_count)
        counts = array("I", (len(task.dependencies) for task in tasks))
        return Plan(
            namespace=namespace,
            workflow=header.name,
            revision=revision,
            tasks=tasks,
            index={task.id: task.index for task in self._tasks},
            dependency_counts=counts,
            roots=tuple(at for at in main if not graph.dependencies[at]),
            leaves=tuple(at for at in main if not graph.successors[at]),
            timeout_us=header.timeout_us,
            priority=header.priority,
            labels=dict(header.labels),
            output=None if self._output is None else output_renderer(self._output),
            input_schema=_document_of(self._schema),
            main_count=header.main_count,
            pause_on_failure=header.pause_on_failure,
            failure_roots=tuple(at for at in late if not graph.dependencies[at]),
            concurrency=header.concurrency,
            plain=self._plain,
        )

    @property
    def _plain(self) -> bool:
        header, tasks = self._header, self._tasks
        if header.pause_on_failure or header.concurrency is not None:
            return False
        return len(tasks) == header.main_count and all(
            task.control is None and task.kind == TaskKind.COMPONENT for task in tasks
        )

    def _task_plan(self, task: TaskSource, pins: Mapping[str, int]) -> TaskPlan:
        compiled = task.input or Compiled((b"{}",), (), frozenset())
        undoes = task.compensates is not None
        return TaskPlan(
            index=task.index,
            id=task.id,
            component=task.component,
            major=pins.get(task.component) if task.major is None else task.major,
            dependencies=() if undoes else self._graph.dependencies[task.index],
            successors=() if undoes else self._graph.successors[task.index],
            run_if=task.run_if,
            condition=self._condition(task),
            render=renderer(compiled),
            allow_failure=task.allow_failure,
            timeout_us=task.timeout_us,
            schedule_timeout_us=task.schedule_timeout_us,
            heartbeat_timeout_us=task.heartbeat_timeout_us,
            retry=task.retry,
            requires=task.requires,
            secrets=compiled.secrets,
            kind=task.kind,
            phase=task.phase,
            compensates=task.compensates,
            **_control_plan(task.control),
        )

    def _condition(self, task: TaskSource) -> Callable[[Scope], bool] | None:
        if task.never:
            return _never
        if task.expression is None:
            return None
        return self._templates.judge(task.expression, task.id)


def _control_plan(control: Control | None) -> dict[str, Any]:
    """Return the attributes of a TaskPlan that most tasks leave at their defaults."""
    if control is None:
        return {}
    undo = control.compensation
    return {
        "for_each": control.items,
        "parallel_max": control.parallel_max,
        "repeat": control.repeat_plan,
        "cache": control.cache_plan,
        "slots": control.slot_plans,
        "compensated_by": None if undo is None else undo.index,
    }


def _never(_scope: Scope) -> bool:
    return False


def _document_of(schema: Schema | None) -> Mapping[str, Any] | None:
    if schema is None or isinstance(schema.document, bool):
        return None
    return schema.document
