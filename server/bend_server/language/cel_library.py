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


class Programs:
    """Compiled CEL by its rewritten text; tasks that differ in names only share one."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

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
        """Refuse what is no regular expression. Raises BadExpression."""
        program = self.compiled("a.matches(b)", offset)
        try:
            execute(program, {"a": "", "b": pattern})
        except CelFault as fault:
            said = fault.text.partition("error: ")[2].split("\n", 1)[0]
            raise BadExpression(f"not a pattern: {cut(said, 200)}", offset) from None
