"""The compiled DAG: what the engine runs. Made once per revision by `bend_server.language`.

Tasks are known by their index in the document. Expressions arrive as callables over a `Scope`, so
that the core needs no CEL.
"""

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol

from bend_server.core import limits
from bend_server.core.model import ITEM_NONE, Phase, RunIf, TaskKind

PLAN_FORMAT = 2


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

    def last(self) -> bytes | None:
        """Return what the loop's round before gave, JSON; None in its first round."""
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

    def __init__(self, task: int, key: str, item: int = ITEM_NONE) -> None:
        super().__init__(key)
        self.task = task
        self.key = key
        self.item = item


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
# The items of a for_each, JSON each, at most limits.ITEMS_MAX; raises ExpressionError, NeedsBlob.
ItemsTemplate = Callable[[Scope], list[bytes]]
# A key of a concurrency, rate limit or cache: text of at most limits.KEY_CHARS_MAX.
KeyTemplate = Callable[[Scope], str]
# Whether a repeat loop goes on after a round; the scope has `iteration`, the bytes are `output`.
GoesOn = Callable[[Scope, bytes], bool]


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


class ConcurrencyStrategy(IntEnum):
    """What happens to an execution that finds its concurrency key full."""

    QUEUE = 1
    CANCEL_OLDEST = 2
    CANCEL_NEWEST = 3


class ConcurrencyPlan(NamedTuple):
    """How many executions of the workflow with one key run at once; evaluated at the start."""

    key: KeyTemplate
    limit: int
    strategy: ConcurrencyStrategy


class RepeatPlan(NamedTuple):
    """A loop over one task (or over each item of a for_each). `rounds_max` >= 1."""

    goes_on: GoesOn
    rounds_max: int
    delay_us: int


class CachePlan(NamedTuple):
    """How long an output serves equal inputs. `key` None: the canonical input is the key."""

    ttl_us: int
    key: KeyTemplate | None
    namespace_wide: bool


class SlotPlan(NamedTuple):
    """A task-level limit over all executions of the namespace, per key.

    `per_us` 0: at most `limit` tries run at once (concurrency); otherwise at most `limit` tries
    start in that time (rate_limit).
    """

    key: KeyTemplate
    limit: int
    per_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """One task, compiled.

    Attributes of control flow:
        kind: who does it. Inputs of the engine's own types render to JSON objects:
            WORKFLOW `{"workflow", "revision"?, "input"}`; WAIT `{"duration"}` (text or seconds) or
            `{"until"}` (RFC 3339); SIGNAL `{"name", "timeout"?}`; APPROVAL `{"title", "assignees"?,
            "form"?, "timeout"?}`.
        phase: MAIN tasks come first in Plan.tasks, then ON_FAILURE, then COMPENSATION ones.
            ON_FAILURE tasks depend on each other only; COMPENSATION ones on nothing.
        for_each: makes the list; the task runs once an item, at most `parallel_max` at once.
        compensated_by: index of the COMPENSATION task that undoes this one; None without.
        compensates: the other way round. Its scope sees the item, and the outputs of all tasks.
    """

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
    kind: TaskKind = TaskKind.COMPONENT
    phase: Phase = Phase.MAIN
    for_each: ItemsTemplate | None = None
    parallel_max: int = limits.PARALLEL_DEFAULT
    repeat: RepeatPlan | None = None
    compensated_by: int | None = None
    compensates: int | None = None
    cache: CachePlan | None = None
    slots: tuple[SlotPlan, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A workflow revision, compiled. `dependency_counts[i]` = len(tasks[i].dependencies).

    `main_count` tasks are MAIN; `roots` and `leaves` are among them. `pause_on_failure`: the
    execution pauses when a task fails it (on_failure: pause). `failure_roots` are the ON_FAILURE
    tasks without dependencies. `plain`: no task uses anything but components, conditions, retries
    and run_if, so that the hot path may skip what follows from the rest.
    """

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
    main_count: int = 0
    pause_on_failure: bool = False
    failure_roots: tuple[int, ...] = ()
    concurrency: ConcurrencyPlan | None = None
    plain: bool = True
