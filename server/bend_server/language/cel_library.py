"""The only place that calls the CEL library: its faults and texts stay here.

The library answers a fault of its own with a PanicException, which derives from BaseException and
exists only once it happened; it must not end the engine.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

# The package imports its interactive prompt, and with it half a second of terminal libraries at
# each start of a server. Nothing here needs it: an empty module stands in its place.
sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel  # noqa: E402 - after the line above

from bend_server.language.cel_syntax import BadExpression  # noqa: E402
from bend_server.language.costs import (  # noqa: E402
    PATTERN_CHARS_MAX,
    PATTERN_WEIGHT_MAX,
    pattern_weight,
)
from bend_server.language.findings import cut  # noqa: E402


class CelFault(Exception):
    """The library refused. `kind` is the class of its error, `name` what it could not find."""

    def __init__(self, kind: str, text: str, name: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.name = name


_UNDEFINED = "Undefined variable or function: '"


def _guarded(call: Callable[..., Any], *args: object) -> Any:
    try:
        return call(*args)
    except BaseException as error:
        kind = type(error).__name__
        if not isinstance(error, Exception) and kind != "PanicException":
            raise
        text = str(error)
        name = text.split("'", 2)[1] if text.startswith(_UNDEFINED) else ""
        raise CelFault(kind, text, name) from None


def execute(program: Any, context: dict[str, Any]) -> Any:
    """Evaluate. Raises CelFault."""
    return _guarded(program.execute, context)


# What the patterns of one document may weigh together (`costs.pattern_weight`): about a second.
PATTERNS_WEIGHT_MAX = 4_000_000
# What checking the expressions of one document may cost together (`Programs.spend`): 5 seconds
# for the worst of them. 20,000 tasks with three expressions of 60 bytes each take two thirds.
EXPRESSIONS_COST_MAX = 6_000_000


class Programs:
    """Compiled CEL by its rewritten text; tasks that differ in names only share one.

    Bounds what the expressions of one document cost together before they are ever evaluated.
    """

    __slots__ = ("_cost", "_known", "_patterns", "_weight")

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._patterns: set[str] = set()
        self._cost = 0
        self._weight = 0

    def spend(self, size: int) -> None:
        """Count an expression of so many bytes. Raises BadExpression when all are too much.

        The library takes a time that grows with the square of the text: 0.1 ms for 100 bytes,
        35 ms for 4 KiB.
        """
        self._cost += size + size * size // 512
        if self._cost > EXPRESSIONS_COST_MAX:
            raise BadExpression(
                "the expressions of the document are too long together; "
                "many short ones cost less than few long ones",
                0,
                "TOO_COMPLEX",
            )

    def compiled(self, text: str, offset: int) -> Any:
        """Return the library's program. Raises BadExpression."""
        program = self._known.get(text)
        if program is None:
            try:
                program = self._known[text] = _guarded(cel.compile, text)
            except CelFault as fault:
                said = fault.text.split("ERROR: ", 1)[-1].split("\n", 1)[0]
                said = said.split(": ", 1)[-1].split(" expecting", 1)[0]
                raise BadExpression(f"not CEL: {cut(said, 200)}", offset) from None
        return program

    def check_pattern(self, pattern: str, offset: int) -> None:
        """Refuse what is no regular expression, or too large a one. Raises BadExpression.

        The library's expressions take a time that is linear in the text (no backtracking), but
        building a pattern takes longer than its length says.
        """
        if pattern in self._patterns:
            return
        weight = pattern_weight(pattern)
        if len(pattern) > PATTERN_CHARS_MAX or weight > PATTERN_WEIGHT_MAX:
            raise BadExpression("the pattern is too large", offset, "TOO_COMPLEX")
        self._weight += weight
        if self._weight > PATTERNS_WEIGHT_MAX:
            raise BadExpression(
                "the patterns of the document are too large together", offset, "TOO_COMPLEX"
            )
        program = self.compiled("a.matches(b)", offset)
        try:
            execute(program, {"a": "", "b": pattern})
        except CelFault as fault:
            said = fault.text.partition("error: ")[2].split("\n", 1)[0]
            raise BadExpression(f"not a pattern: {cut(said, 200)}", offset) from None
        self._patterns.add(pattern)
