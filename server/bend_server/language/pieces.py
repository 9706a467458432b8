"""The parts an expression is evaluated in: variables that Python reads, and what CEL does.

Before CEL sees an expression, every path of known steps becomes a variable, and `map` and `filter`
are run by Python, because the library's cost of gathering grows with the square of the list. What
is left is small; its cost is bounded before it runs.
"""

from typing import Any

from bend_server.core.plan import ExpressionError
from bend_server.language.cel_library import CelFault, execute
from bend_server.language.cel_syntax import Node
from bend_server.language.costs import COST_MAX, SCALAR, Estimate, Size, measure
from bend_server.language.findings import cut
from bend_server.language.names import Env, Missing, Reference, read
from bend_server.language.payloads import from_cel, show_fields


class PathSlot:
    """A variable that stands for a path."""

    __slots__ = ("reference",)

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def value(self, env: Env) -> Any:
        return read(self.reference, env)


class HasSlot:
    """A variable that stands for has(path): false also when the path ends before its last step."""

    __slots__ = ("reference",)

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def value(self, env: Env) -> bool:
        try:
            read(self.reference, env)
        except Missing:
            return False
        return True


class GatherSlot:
    """A variable that stands for `range.map(…)` or `range.filter(…)`, run here in linear time."""

    __slots__ = ("_body", "_name", "_only", "_range", "_variable")

    def __init__(
        self, name: str, over: "Piece", variable: str, only: "Piece | None", body: "Piece | None"
    ) -> None:
        self._name = name
        self._range = over
        self._variable = variable
        self._only = only
        self._body = body

    def value(self, env: Env) -> list[Any]:
        over = self._range.value(env)
        if not isinstance(over, list | dict):
            raise Missing(f"{self._name}() needs a list or a map; {show_fields(over)}")
        before = env.locals
        inner = env.locals = dict(before)
        gathered: list[Any] = []
        try:
            for item in list(over):
                spend(env, 8)
                inner[self._variable] = item
                if self._only is not None and not self._judged(env):
                    continue
                gathered.append(item if self._body is None else self._body.value(env))
        finally:
            env.locals = before
        return gathered

    def _judged(self, env: Env) -> bool:
        verdict = self._only.value(env) if self._only is not None else True
        if not isinstance(verdict, bool):
            raise Missing(f"{self._name}() needs true or false; {show_fields(verdict)}")
        return verdict


Slot = PathSlot | HasSlot | GatherSlot


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
        return not self._slots

    def value(self, env: Env) -> Any:
        """Evaluate. Raises Missing, ExpressionError, NeedsBlob."""
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
            result = execute(self._program, context)
        except CelFault as fault:
            raise _translated(fault, missing) from None
        return from_cel(result)

    def _spend(self, env: Env, context: dict[str, Any]) -> None:
        sizes = {name: measure(value) for name, value in context.items()}
        units = 6 + sum(size.weight for size in sizes.values())
        if not self._bounded:
            spans: dict[tuple[int, int], Size] = {
                span: sizes.get(name, SCALAR) for span, name in self._spans.items()
            }
            units += Estimate(spans).of(self._tree, {})[0]
        spend(env, units)


def _translated(fault: CelFault, missing: dict[str, Missing]) -> Exception:
    if fault.name:
        if fault.name in missing:
            return missing[fault.name]
        return ExpressionError(f"{fault.name}() does not take such a value")
    if fault.kind == "KeyError":
        return Missing(f"no field {fault.text}")
    if fault.kind == "TypeError":
        return ExpressionError(
            "operands do not fit together; CEL does not mix int, double and text: convert with "
            "double(x), int(x) or string(x)"
        )
    return ExpressionError(cut(fault.text.split("\n", 1)[0], 200))
