"""Tasks as the document gives them; what later steps of the compiler add stands last."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from bend_server.core import limits
from bend_server.core.model import Phase, RunIf, TaskKind
from bend_server.core.plan import CachePlan, ItemsTemplate, RepeatPlan, RetryPolicy, SlotPlan
from bend_server.language.expressions import Expression
from bend_server.language.findings import Path
from bend_server.language.names import Reference
from bend_server.language.templates import Compiled


class RepeatSource(NamedTuple):
    """A `repeat` map: its condition as written, and whether it says when to stop."""

    condition: str
    until: bool
    rounds_max: int
    delay_us: int
    path: Path


class CacheSource(NamedTuple):
    """A `cache` map; `key` is a template, or None."""

    ttl_us: int
    key: str | None
    namespace_wide: bool
    path: Path


class SlotSource(NamedTuple):
    """A task's `concurrency` (`per_us` 0) or `rate_limit` map."""

    key: str
    limit: int
    per_us: int
    path: Path


class Control:
    """What a task does beyond one input and one output; most tasks have none of it."""

    __slots__ = (
        "cache",
        "cache_plan",
        "compensation",
        "for_each",
        "items",
        "parallel_max",
        "references",
        "repeat",
        "repeat_plan",
        "slot_plans",
        "slots",
    )

    def __init__(self) -> None:
        self.for_each: str | list[Any] | None = None
        self.parallel_max = limits.PARALLEL_DEFAULT
        self.repeat: RepeatSource | None = None
        self.cache: CacheSource | None = None
        self.slots: list[SlotSource] = []
        self.compensation: TaskSource | None = None
        self.items: ItemsTemplate | None = None
        self.repeat_plan: RepeatPlan | None = None
        self.cache_plan: CachePlan | None = None
        self.slot_plans: tuple[SlotPlan, ...] = ()
        self.references: list[tuple[Reference, Path]] = []


class TaskSource:
    """One task. `compensates` is the index of the task that it undoes."""

    __slots__ = (
        "allow_failure",
        "allow_unregistered",
        "compensates",
        "component",
        "condition",
        "control",
        "depends_on",
        "expression",
        "heartbeat_timeout_us",
        "id",
        "index",
        "input",
        "inputs",
        "kind",
        "major",
        "never",
        "path",
        "phase",
        "places",
        "requires",
        "retry",
        "run_if",
        "schedule_timeout_us",
        "timeout_us",
    )

    def __init__(
        self, index: int, path: Path, phase: Phase, retry: RetryPolicy, timeout_us: int
    ) -> None:
        self.index = index
        self.path = path
        self.phase = phase
        self.id = ""
        self.kind = TaskKind.COMPONENT
        self.component = ""
        self.major: int | None = None
        self.depends_on: list[tuple[str, Path]] = []
        self.condition: str | None = None
        self.never = False
        self.run_if = RunIf.SUCCESS
        self.retry = retry
        self.timeout_us = timeout_us
        self.schedule_timeout_us = limits.SCHEDULE_TIMEOUT_US
        self.heartbeat_timeout_us = limits.HEARTBEAT_TIMEOUT_US
        self.allow_failure = False
        self.allow_unregistered = False
        self.requires: tuple[tuple[str, str], ...] = ()
        self.inputs: dict[str, Any] = {}
        self.places: dict[str, Path] = {}
        self.control: Control | None = None
        self.compensates: int | None = None
        self.expression: Expression | None = None
        self.input: Compiled | None = None

    @property
    def fans_out(self) -> bool:
        """Whether the task runs once per item of a list."""
        return self.control is not None and self.control.for_each is not None

    def place_of(self, steps: Path) -> Path:
        """Return the document's path of a place inside the input."""
        if not steps:
            return self.path
        first = self.places.get(str(steps[0]))
        return (*self.path, *steps) if first is None else (*first, *steps[1:])

    def controlled(self) -> Control:
        """Return the task's control, made when there was none."""
        if self.control is None:
            self.control = Control()
        return self.control

    def references(self) -> Iterator[tuple[Reference, Path]]:
        """Yield every path that the task's own expressions read, and where they stand."""
        if self.expression is not None:
            for reference in self.expression.references:
                yield reference, (*self.path, "condition")
        if self.input is not None:
            yield from self.input.references
        if self.control is not None:
            yield from self.control.references
