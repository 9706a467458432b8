"""What names in an expression stand for, and the paths that start at them.

A path whose steps are all known when the document is compiled (`enrich.items[0].id`) is read by
Python from parsed JSON; CEL sees only its value. So only the tasks that an expression names are
parsed, and an error can name the fields that exist.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from bend_server.core.model import Phase
from bend_server.core.plan import Scope
from bend_server.language.cel_syntax import (
    KEYWORDS,
    RESERVED,
    TYPES,
    BadExpression,
    Index,
    Literal,
    Node,
    Select,
)
from bend_server.language.findings import nearest
from bend_server.language.payloads import Memory, load, show_fields

ITEM_NAMES = frozenset(("item", "index"))
ROUND_NAMES = frozenset(("iteration", "output"))
ROOTS = ("input", "workflow", "tasks", "secrets", "item", "index", "iteration", "output")
WORKFLOW_FIELDS = ("id", "name", "revision", "started_at", "labels")
OWN_FIELDS = ("status", "error", "attempt", "started_at", "finished_at")
RESERVED_IDS = frozenset(ROOTS) | KEYWORDS | RESERVED | TYPES
SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

Steps = tuple[str | int, ...]


class Missing(Exception):
    """A part of an expression has no value: its path leads nowhere, or its operands do not fit.

    It fails the expression only where the value is needed: `has(a.b) && a.b > 1`.
    """


class Reference(NamedTuple):
    """A path that an expression reads; `tested`: only by has().

    `kind` is input, workflow, output (of a task, own facts where it lacks the field), own (of a
    task), item, index, iteration, round (the output of a loop's round: of the one that is judged,
    or of the one before), or local (a variable of a macro that Python runs).
    """

    kind: str
    task: int
    name: str
    steps: Steps
    tested: bool
    offset: int


_PLACES = {
    "item": "inside for_each",
    "index": "inside for_each",
    "iteration": "inside repeat",
    "output": "inside repeat",
}


class Env:
    """What one evaluation may look at."""

    __slots__ = ("budget", "locals", "memory", "output", "scope")

    def __init__(self, scope: Scope, memory: Memory, budget: int, output: bytes = b"") -> None:
        self.scope = scope
        self.memory = memory
        self.budget = budget
        self.output = output
        self.locals: dict[str, Any] = {}


def show_steps(root: str, steps: Steps) -> str:
    """Write a path as an expression does."""
    return root + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps)


def chain_of(node: Node) -> tuple[Node, list[str | int | Node]]:
    """Return where a path starts and its steps; a step that is computed is a node."""
    steps: list[str | int | Node] = []
    while True:
        if isinstance(node, Select):
            steps.append(node.field)
        elif isinstance(node, Index):
            key = node.key
            value = key.value if isinstance(key, Literal) else None
            known = isinstance(value, str | int) and not isinstance(value, bool)
            steps.append(value if known else key)  # type: ignore[arg-type]
        else:
            return node, steps[::-1]
        node = node.operand


class Names:
    """Resolves names of one document's expressions, as one kind of place sees them.

    Args:
        tasks: id to index, those of `on_failure` from `main_count` on.
        local: which of item, index, iteration and output exist here.
        late: whether the tasks of on_failure can be read here.
        remark: added when item, index, iteration or output are named where they do not exist.
    """

    __slots__ = ("_late", "_local", "_main_count", "_remark", "_tasks")

    def __init__(
        self,
        tasks: Mapping[str, int],
        main_count: int,
        local: frozenset[str] = frozenset(),
        *,
        late: bool = False,
        remark: str = "",
    ) -> None:
        self._tasks = tasks
        self._main_count = main_count
        self._local = local
        self._late = late
        self._remark = remark

    def within(self, local: frozenset[str], phase: Phase, remark: str = "") -> "Names":
        """Return the names as another place sees them."""
        late = phase != Phase.MAIN
        return Names(self._tasks, self._main_count, local, late=late, remark=remark)

    def resolve(self, name: str, steps: Steps, tested: bool, offset: int) -> Reference:
        """Return what a path stands for. Raises BadExpression with a reason."""
        if name == "input":
            return Reference("input", -1, name, steps, tested, offset)
        if name == "workflow":
            self._known(steps, WORKFLOW_FIELDS, name, offset)
            return Reference("workflow", -1, name, steps, tested, offset)
        if name == "tasks":
            return self._own(steps, tested, offset)
        if name == "secrets":
            raise BadExpression(
                "secrets.NAME stands alone in a template of a component's input",
                offset,
                "OUT_OF_PLACE",
            )
        if name in ROOTS:
            return self._place(name, steps, tested, offset)
        index = self._tasks.get(name)
        if index is None:
            raise self._unknown(name, offset)
        self._readable(name, index, offset)
        return Reference("output", index, name, steps, tested, offset)

    def _place(self, name: str, steps: Steps, tested: bool, offset: int) -> Reference:
        """Resolve item, index, iteration or output."""
        if name not in self._local:
            where = _PLACES[name]
            raise BadExpression(
                f"'{name}' exists only {where}{self._remark}", offset, "OUT_OF_PLACE"
            )
        if steps and name in {"index", "iteration"}:
            raise BadExpression(f"{name} is a number and has no fields", offset, "UNKNOWN_FIELD")
        kind = "round" if name == "output" else name
        return Reference(kind, -1, name, steps, tested, offset)

    def _readable(self, name: str, index: int, offset: int) -> None:
        if index >= self._main_count and not self._late:
            raise BadExpression(
                f"task '{name}' belongs to on_failure, which comes after all other tasks",
                offset,
                "OUT_OF_PLACE",
            )

    def _unknown(self, name: str, offset: int) -> BadExpression:
        near = nearest(name, (*self._tasks, *ROOTS))
        return BadExpression(f"no task or name '{name}'{near}", offset, "UNKNOWN_TASK")

    def _own(self, steps: Steps, tested: bool, offset: int) -> Reference:
        if not steps or not isinstance(steps[0], str):
            raise BadExpression("'tasks' is followed by a task's id: tasks.ID.status", offset)
        index = self._tasks.get(steps[0])
        if index is None:
            near = nearest(steps[0], self._tasks)
            raise BadExpression(f"no task '{steps[0]}'{near}", offset, "UNKNOWN_TASK")
        self._readable(steps[0], index, offset)
        self._known(steps[1:], (*OWN_FIELDS, "output"), f"tasks.{steps[0]}", offset)
        return Reference("own", index, steps[0], steps[1:], tested, offset)

    def _known(self, steps: Steps, known: tuple[str, ...], root: str, offset: int) -> None:
        if steps and steps[0] not in known:
            near = nearest(str(steps[0]), known)
            raise BadExpression(
                f"{root} has no field '{steps[0]}'{near}; it has: {', '.join(known)}",
                offset,
                "UNKNOWN_FIELD",
            )


def walk(value: Any, steps: Steps, shown: str) -> Any:
    """Follow steps into a JSON value. Raises Missing."""
    for at, step in enumerate(steps):
        if isinstance(step, str):
            if isinstance(value, dict) and step in value:
                value = value[step]
                continue
        elif isinstance(value, list) and 0 <= step < len(value):
            value = value[step]
            continue
        raise Missing(_missing(shown, steps, at, show_fields(value)))
    return value


def _missing(shown: str, steps: Steps, at: int, fields: str) -> str:
    return f"{show_steps(shown, steps[:at])} has no {_step(steps[at])}; {fields}"


def _step(step: str | int) -> str:
    return f"entry {step}" if isinstance(step, int) else f"field '{step}'"


def read(reference: Reference, env: Env) -> Any:
    """Return the value of a path. Raises Missing, or NeedsBlob from the scope."""
    kind, scope = reference.kind, env.scope
    if kind == "output":
        return read_output(reference.task, reference.name, reference.steps, scope, env.memory)
    if kind == "input":
        return walk(env.memory.input(scope), reference.steps, "input")
    if kind == "local":
        return walk(env.locals[reference.name], reference.steps, reference.name)
    if kind == "workflow":
        return walk(dict(scope.workflow()), reference.steps, "workflow")
    if kind in _PLACE_KINDS:
        return _read_place(reference, env)
    return _read_own(reference, scope, env.memory)


_PLACE_KINDS = frozenset(("item", "index", "iteration", "round"))


def _read_place(reference: Reference, env: Env) -> Any:
    """Read what exists only inside for_each or repeat. Raises Missing."""
    kind, scope = reference.kind, env.scope
    if kind == "index":
        return scope.index
    if kind == "iteration":
        return scope.iteration
    if kind == "round":
        return walk(load(env.output or scope.last() or b"null"), reference.steps, "output")
    if scope.item is None:
        raise Missing("there is no item here")
    return walk(env.memory.item(scope.item), reference.steps, "item")


def read_output(task: int, name: str, steps: Steps, scope: Scope, memory: Memory) -> Any:
    """Follow steps into a task's output; a first field it lacks may be one of the task's own.

    Raises:
        Missing: naming the fields that exist.
        NeedsBlob: the output is not loaded.
    """
    data = scope.output(task)
    value = None if data is None else memory.output(data, task)
    if not steps:
        return value
    first = steps[0]
    if isinstance(value, dict) and first in value:
        return walk(value[first], steps[1:], f"{name}.{first}") if len(steps) > 1 else value[first]
    if first in OWN_FIELDS:
        own = scope.own(task)[str(first)]
        return walk(own, steps[1:], f"{name}.{first}") if len(steps) > 1 else own
    if isinstance(first, int) and isinstance(value, list) and 0 <= first < len(value):
        return walk(value[first], steps[1:], f"{name}[{first}]")
    if data is None:
        status = scope.own(task)["status"]
        fields = f"the task is {status} and has no output"
    else:
        fields = "its output: " + show_fields(value).removeprefix("it ")
    raise Missing(f"task {name} has no {_step(first)}; {fields}; its own: {', '.join(OWN_FIELDS)}")


def _read_own(reference: Reference, scope: Scope, memory: Memory) -> Any:
    steps, task = reference.steps, reference.task
    shown = f"tasks.{reference.name}"
    if steps and steps[0] == "output":
        data = scope.output(task)
        value = None if data is None else memory.output(data, task)
        return walk(value, steps[1:], f"{shown}.output")
    own = dict(scope.own(task))
    if not steps:
        data = scope.output(task)
        own["output"] = None if data is None else memory.output(data, task)
        return own
    return walk(own, steps, shown)
