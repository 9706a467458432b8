"""The parts an expression is evaluated in: variables that Python reads, and what CEL does.

Before CEL sees an expression, every path becomes a variable, and macros are run by Python: the
library gathers in time that grows with the square of the list, and it cannot say which fields
exist. What is left for it is small; its cost is bounded before it runs.
"""

from collections.abc import Callable
from typing import Any

from bend_server.core.plan import ExpressionError
from bend_server.language.cel_library import CelFault, execute
from bend_server.language.cel_syntax import Node
from bend_server.language.costs import COST_MAX, SCALAR, Estimate, Size, measure
from bend_server.language.findings import cut
from bend_server.language.names import Env, Missing, Reference, read, walk
from bend_server.language.payloads import from_cel, show_fields


class PathSlot:
    """A variable that stands for a path."""

    __slots__ = ("reference",)

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def value(self, env: Env) -> Any:
        return read(self.reference, env)


class DeepSlot:
    """A variable that stands for a path with steps that are computed: `a.rows[input.n].id`."""

    __slots__ = ("_over", "_shown", "_steps")

    def __init__(self, over: "Slot", steps: "tuple[str | int | Piece, ...]", shown: str) -> None:
        self._over = over
        self._steps = steps
        self._shown = shown

    def value(self, env: Env) -> Any:
        value = self._over.value(env)
        for step in self._steps:
            key = step.value(env) if isinstance(step, Piece) else step
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise Missing(f"in '{self._shown}', [] needs text or a whole number")
            value = walk(value, (key,), f"'{self._shown}'")
        return value


class HasSlot:
    """A variable that stands for has(path): false also when the path ends before its last step."""

    __slots__ = ("_path",)

    def __init__(self, path: "Slot") -> None:
        self._path = path

    def value(self, env: Env) -> bool:
        try:
            self._path.value(env)
        except Missing:
            return False
        return True


class SizeSlot:
    """A variable that stands for size(x): of a text the library counts bytes, CEL characters."""

    __slots__ = ("_of",)

    def __init__(self, of: "Piece") -> None:
        self._of = of

    @property
    def constant(self) -> bool:
        """Whether it reads nothing."""
        return self._of.constant

    def value(self, env: Env) -> int:
        value = self._of.raw(env)
        if not isinstance(value, str | bytes | list | dict):
            raise Missing(f"size() needs text, a list or a map; {show_fields(value)}")
        return len(value)


class BooleanText:
    """Stands behind string(): the library has it for all but booleans."""

    __slots__ = ()
    constant = True

    def value(self, _env: Env) -> Callable[[object], str]:
        return _boolean_text


def _boolean_text(value: object) -> str:
    if not isinstance(value, bool):
        raise TypeError("string() does not take such a value")
    return "true" if value else "false"


class MacroSlot:
    """A variable that stands for a macro over a list or a map, run here in linear time."""

    __slots__ = ("_body", "_name", "_only", "_range", "_variable")

    def __init__(
        self, name: str, over: "Piece", variable: str, only: "Piece | None", body: "Piece | None"
    ) -> None:
        self._name = name
        self._range = over
        self._variable = variable
        self._only = only
        self._body = body

    def value(self, env: Env) -> Any:
        over = self._range.value(env)
        if not isinstance(over, list | dict):
            raise Missing(f"{self._name}() needs a list or a map; {show_fields(over)}")
        before = env.locals
        env.locals = dict(before)
        try:
            if self._name in {"map", "filter"}:
                return self._gathered(over, env)
            if self._name == "exists_one":
                return sum(self._judged(item, env) for item in over) == 1
            return self._searched(over, env, self._name == "exists")
        finally:
            env.locals = before

    def _gathered(self, over: list[Any] | dict[str, Any], env: Env) -> list[Any]:
        body = self._body
        return [
            item if body is None else body.value(env) for item in over if self._judged(item, env)
        ]

    def _searched(self, over: list[Any] | dict[str, Any], env: Env, wanted: bool) -> bool:
        """Run exists (wanted: true) or all: an item that decides outweighs one that fails."""
        failed: Missing | None = None
        for item in over:
            try:
                if self._judged(item, env) is wanted:
                    return wanted
            except Missing as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return not wanted

    def _judged(self, item: Any, env: Env) -> bool:
        spend(env, 8)
        env.locals[self._variable] = item
        if self._only is None:
            return True
        verdict = self._only.value(env)
        if not isinstance(verdict, bool):
            raise Missing(f"{self._name}() needs true or false; {show_fields(verdict)}")
        return verdict


Slot = PathSlot | DeepSlot | HasSlot | SizeSlot | BooleanText | MacroSlot


def spend(env: Env, units: int) -> None:
    """Take from the budget. Raises ExpressionError when it is used up."""
    env.budget -= units
    if env.budget < 0:
        raise ExpressionError(
            f"too costly: over {COST_MAX} units, counting macros times the lengths of the lists"
        )


class Piece:
    """A part of an expression that CEL runs at once, with its variables."""

    __slots__ = ("_bounded", "_lone", "_program", "_slots", "_spans", "_tree")

    def __init__(
        self,
        program: Any,
        slots: list[tuple[str, Slot]],
        spans: dict[tuple[int, int], str],
        tree: Node,
        *,
        bounded: bool,
    ) -> None:
        self._program = program
        self._slots = slots
        self._spans = spans
        self._tree = tree
        self._bounded = bounded
        self._lone = slots[0][1] if program is None else None

    @property
    def reference(self) -> Reference | None:
        """The path, when the piece is nothing else."""
        return self._lone.reference if isinstance(self._lone, PathSlot) else None

    @property
    def constant(self) -> bool:
        """Whether the piece reads nothing."""
        return all(
            isinstance(slot, SizeSlot | BooleanText) and slot.constant for _, slot in self._slots
        )

    def value(self, env: Env) -> Any:
        """Evaluate to JSON. Raises Missing, ExpressionError, NeedsBlob."""
        if self._lone is not None:
            return self._lone.value(env)
        return from_cel(self.raw(env))

    def raw(self, env: Env) -> Any:
        """Evaluate to what CEL gives, bytes and times too; raises as `value` does."""
        if self._lone is not None:
            return self._lone.value(env)
        context: dict[str, Any] = {}
        missing: dict[str, Missing] = {}
        for name, slot in self._slots:
            try:
                context[name] = slot.value(env)
            except Missing as error:
                # The expression may not need it: `has(a.b) && a.b > 1`.
                missing[name] = error
        self._spend(env, context)
        try:
            return execute(self._program, context)
        except CelFault as fault:
            raise _translated(fault, missing) from None

    def _spend(self, env: Env, context: dict[str, Any]) -> None:
        sizes = {name: measure(value) for name, value in context.items()}
        units = 6 + sum(size.weight for size in sizes.values())
        if not self._bounded:
            spans: dict[tuple[int, int], Size] = {
                span: sizes.get(name, SCALAR) for span, name in self._spans.items()
            }
            units += Estimate(spans).of(self._tree)[0]
        spend(env, units)


def _translated(fault: CelFault, missing: dict[str, Missing]) -> Missing:
    if fault.name:
        if fault.name in missing:
            return missing[fault.name]
        return Missing(f"{fault.name}() does not take such a value")
    if fault.kind == "KeyError":
        return Missing(f"no field {fault.text}")
    if fault.kind == "TypeError":
        return Missing(
            "operands do not fit together; CEL does not mix int, double and text: convert with "
            "double(x), int(x) or string(x)"
        )
    return Missing(cut(fault.text.split("\n", 1)[0], 200))
