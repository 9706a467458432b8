"""The compiled DAG: what the engine runs. Made once per revision by `bend_server.language`.

Tasks are known by their index in the document. Expressions arrive as callables over a `Scope`, so
that the core needs no CEL.
"""

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from bend_server.core import limits
from bend_server.core.model import RunIf

PLAN_FORMAT = 1


class Scope(Protocol):
    """What an expression can see of an execution: bytes and numbers, parsed by the expression."""

    @property
    def input(self) -> bytes:
        """The parameters, JSON."""
        ...

    @property
    def item(self) -> bytes | None:
        """The current for_each item, JSON; None outside one."""
        ...

    @property
    def index(self) -> int:
        """The current item's index; -1 outside a for_each."""
        ...

    @property
    def iteration(self) -> int:
        """The repeat loop's round, from 0."""
        ...

    def workflow(self) -> Mapping[str, object]:
        """Return id, name, revision, started_at (RFC 3339) and labels of the execution."""
        ...

    def output(self, task: int) -> bytes | None:
        """Return a task's output as JSON; None when it has none (not completed)."""
        ...

    def own(self, task: int) -> Mapping[str, object]:
        """Return a task's own facts: status (lower case), error, attempt, start and end.

        Keys: `status`, `error` (mapping or None), `attempt`, `started_at`, `finished_at` (RFC 3339
        or None). All of them are always there.
        """
        ...

    def blob(self, task: int) -> tuple[str, int] | None:
        """Return key and size of an output that lives in the blob store, else None.

        The size is in bytes, 0 while it is not known.

        `output` of such a task gives its bytes once the engine has loaded them; until then it
        raises NeedsBlob.
        """
        ...


class ExpressionError(Exception):
    """An expression could not be evaluated; the text names task, expression and known fields."""


class NeedsBlob(Exception):
    """An expression reads into an output that is not loaded: load the blob, then ask again."""

    def __init__(self, task: int, key: str) -> None:
        super().__init__(key)
        self.task = task
        self.key = key


class HolePart(NamedTuple):
    """One piece of a hole: exactly one of literal text, a secret's name, a blob's key is set."""

    text: str | None = None
    secret: str | None = None
    blob: str | None = None
    blob_bytes: int = 0


class Hole(NamedTuple):
    """A place in a rendered input, as a JSON pointer, that the executor fills once."""

    path: str
    parts: tuple[HolePart, ...]


class Rendered(NamedTuple):
    """A task's input: literal JSON and the holes in it (null where a hole goes)."""

    data: bytes
    holes: tuple[Hole, ...] = ()


Condition = Callable[[Scope], bool]
InputTemplate = Callable[[Scope], Rendered]
OutputTemplate = Callable[[Scope], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How a failed attempt is followed by another; times in microseconds.

    `attempts_max` counts the first attempt too. `budget_us` bounds the time from the first
    attempt's start. `on` empty means every retryable reason.
    """

    attempts_max: int = 3
    initial_us: int = 1_000_000
    multiplier: float = 2.0
    max_us: int = 60_000_000
    jitter: bool = True
    budget_us: int | None = None
    on: frozenset[str] = frozenset()
    not_on: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """One task, compiled."""

    index: int
    id: str
    component: str
    major: int | None = None
    exact_version: str | None = None
    dependencies: tuple[int, ...] = ()
    successors: tuple[int, ...] = ()
    run_if: RunIf = RunIf.SUCCESS
    condition: Condition | None = None
    render: InputTemplate
    allow_failure: bool = False
    timeout_us: int = limits.TASK_TIMEOUT_US
    schedule_timeout_us: int = limits.SCHEDULE_TIMEOUT_US
    heartbeat_timeout_us: int = limits.HEARTBEAT_TIMEOUT_US
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    requires: tuple[tuple[str, str], ...] = ()
    secrets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A workflow revision, compiled. `dependency_counts[i]` = len(tasks[i].dependencies)."""

    namespace: str
    workflow: str
    revision: int
    tasks: tuple[TaskPlan, ...]
    index: Mapping[str, int]
    dependency_counts: "array[int]"
    roots: tuple[int, ...]
    leaves: tuple[int, ...]
    timeout_us: int = limits.EXECUTION_TIMEOUT_US
    priority: int = 5
    labels: Mapping[str, str] = field(default_factory=dict)
    output: OutputTemplate | None = None
    input_schema: Mapping[str, object] | None = None
    format: int = PLAN_FORMAT
