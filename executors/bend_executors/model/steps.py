"""Steps before and after a model: CEL expressions, bounded before anything is evaluated.

The library holds Python's lock while it evaluates and cannot be interrupted, so what an expression
may cost is computed from its text and from the sizes of its values. `map` and `filter` of the
library copy their list with every element, hence the square in `cost`.
"""

import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from bend import TerminalError

# The package imports its interactive prompt, half a second of terminal libraries; not needed here.
sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel  # noqa: E402 - after the line above

EXPRESSION_CHARS_MAX = 1000
EXPRESSIONS_MAX = 32
VALUES_MAX = 100_000
# Touched elements, 25 to 250 nanoseconds each.
COST_MAX = 1_000_000
DEPTH_MAX = 2
BRACKETS_MAX = 24
NESTED_MAX = 32
PROGRAMS_MAX = 256
# Text counts as one value for so many characters.
CHARS_A_VALUE = 16

# What may be called; everything else, a macro above all, would have a cost that nobody counted.
MACROS: Mapping[str, int] = {"map": 2, "filter": 2, "all": 1, "exists": 1, "exists_one": 1}
PLAIN = frozenset(
    ("size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "bool", "has")
)

_WORDS = re.compile(
    r"""(?P<text>'(?:[^\\'\n]|\\.)*'|"(?:[^\\"\n]|\\.)*")
    |(?P<call>(?:\.\s*)?(?P<called>[A-Za-z_][A-Za-z0-9_]*)\s*\()
    |(?P<field>\.\s*[A-Za-z_][A-Za-z0-9_]*)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<open>[(\[{])|(?P<close>[)\]}])
    |(?P<mark>==|!=|[+])
    |(?P<odd>//|['"`\\])""",
    re.VERBOSE,
)


class Odd(ValueError):
    """A text with something that this reader and the library could understand differently."""


class Measured:
    """What a text tells without being run.

    `names` are the variables and functions, `depth` how deep macros nest, `power` the exponent of
    what they cost together, `work` how many operations may look at a whole list.

    Raises Odd: comments, raw, bytes and triple-quoted text could hide brackets; unknown functions.
    """

    def __init__(self, text: str) -> None:
        self.names: set[str] = set()
        self.depth = self.power = self.brackets = self.macros = self.pluses = self.work = 0
        stack: list[int] = []
        for word in _WORDS.finditer(text):
            kind = word.lastgroup
            quoted = text[word.end() : word.end() + 1] in {"'", '"'}
            if kind == "odd" or (quoted and kind in {"text", "name", "field"}):
                raise Odd("comments, raw, bytes and triple-quoted text are not taken")
            if kind in {"open", "call"}:
                stack.append(self._called(word["called"]) if kind == "call" else 0)
                self.depth = max(self.depth, sum(power > 0 for power in stack))
                self.power = max(self.power, sum(stack))
                self.brackets = max(self.brackets, len(stack))
                self.work += 1
            elif kind == "close":
                del stack[-1:]
            elif kind == "name":
                self.names.add(word[0])
                self.work += word[0] == "in"
            elif kind == "mark":
                self.pluses += word[0] == "+"
                self.work += 1

    def _called(self, name: str) -> int:
        """Note a call; return its power when it is a macro, else 0."""
        power = MACROS.get(name, 0)
        if not power and name not in PLAIN and name not in FUNCTIONS and name != "in":
            raise Odd(f"there is no function {name}")
        self.macros += power > 0
        self.names.add(name)
        return power

    def cost(self, values: int) -> int:
        """Return the most elements that evaluation touches, with so many values in reach."""
        # Each `+` may add a list to itself, inside of each macro again.
        width: int = max(1, values) * (1 + self.pluses) ** max(1, self.depth)
        return width * (1 + self.work) + self.macros * int(width**self.power)


def weight(value: Any, depth: int = 0) -> int:
    """Return how many values a JSON value holds; long text counts for more than one.

    Raises Odd for values nested deeper than NESTED_MAX, which recursion would not survive.
    """
    if isinstance(value, (str, bytes)):
        return 1 + len(value) // CHARS_A_VALUE
    if not isinstance(value, (Mapping, list, tuple)):
        return 1
    if depth > NESTED_MAX:
        raise Odd(f"the values are nested deeper than {NESTED_MAX}")
    inner = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
    more = (weight(e, depth + 1) - 1 for e in inner if not isinstance(e, (int, float)))
    return 1 + len(inner) + sum(more)


def numbers(values: Any) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return a list of numbers for the functions below. Raises ValueError for anything else."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not found.size:
        raise ValueError("a list of numbers is wanted")
    return found


def softmax(values: Any) -> list[float]:
    """Return shares that sum to 1."""
    found = numbers(values)
    powers = np.exp(found - found.max())
    return [float(value) for value in powers / powers.sum()]


def sigmoid(values: Any) -> Any:
    """Return the logistic function of a number, or of each of a list."""
    if isinstance(values, (int, float)):
        return float(1 / (1 + np.exp(-float(values))))
    return [float(value) for value in 1 / (1 + np.exp(-numbers(values)))]


def top(values: Any, count: Any) -> list[int]:
    """Return the places of the largest numbers, largest first."""
    order = np.argsort(-numbers(values), kind="stable")
    return [int(at) for at in order[: max(0, int(count))]]


def scale(values: Any, factor: Any, offset: Any) -> list[float]:
    """Return each number times `factor` plus `offset`."""
    return [float(value) for value in numbers(values) * float(factor) + float(offset)]


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "argmax": lambda values: int(numbers(values).argmax()),
    "max": lambda values: float(numbers(values).max()),
    "min": lambda values: float(numbers(values).min()),
    "sum": lambda values: float(numbers(values).sum()),
    "softmax": softmax,
    "sigmoid": sigmoid,
    "top": top,
    "scale": scale,
}


def refused(place: str, text: str) -> TerminalError:
    """Return the error of an expression, which names its place."""
    return TerminalError("EXPRESSION_FAILED", f"{place}: {text}", details={"expression": place})


class Steps:
    """Evaluates expressions, keeps the PROGRAMS_MAX last ones compiled; for one thread."""

    def __init__(self) -> None:
        self._programs: OrderedDict[str, tuple[Measured, Any]] = OrderedDict()

    def evaluate(
        self, step: str, expressions: Mapping[str, str], samples: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return for each sample name → value of each expression.

        Args:
            step: `pre` or `post`, for errors.
            expressions: name → CEL, at most EXPRESSIONS_MAX.
            samples: of each the variables: JSON values.

        Raises:
            TerminalError: EXPRESSION_FAILED, for text that is no CEL, that costs too much (all
                expressions and samples together), or that the values do not fit.
        """
        if len(expressions) > EXPRESSIONS_MAX:
            raise refused(step, f"has {len(expressions)} expressions, at most {EXPRESSIONS_MAX}")
        spent = 0
        answers: list[dict[str, Any]] = []
        for values in samples:
            try:
                weights = {name: weight(value) for name, value in values.items()}
            except Odd as error:
                raise refused(step, str(error)) from None
            answer: dict[str, Any] = {}
            for name, text in expressions.items():
                place = f"{step}.{name}"
                measured, program = self._compiled(place, text)
                used = measured.names & set(values)
                reach = sum(weights[variable] for variable in used) + len(text) // CHARS_A_VALUE
                spent += measured.cost(reach)
                if reach > VALUES_MAX or spent > COST_MAX:
                    raise refused(
                        place, f"costs up to {spent} with {reach} values; {COST_MAX} is the bound"
                    )
                context = cel.Context(
                    variables={variable: values[variable] for variable in used},
                    functions={f: FUNCTIONS[f] for f in measured.names & set(FUNCTIONS)},
                )
                answer[name] = guarded(place, program.execute, context)
            answers.append(answer)
        return answers

    def _compiled(self, place: str, text: str) -> tuple[Measured, Any]:
        known = self._programs.get(text)
        if known is not None:
            self._programs.move_to_end(text)
            return known
        if len(text) > EXPRESSION_CHARS_MAX:
            raise refused(place, f"has {len(text)} characters, at most {EXPRESSION_CHARS_MAX}")
        try:
            measured = Measured(text)
        except Odd as error:
            raise refused(place, str(error)) from None
        if measured.depth > DEPTH_MAX or measured.brackets > BRACKETS_MAX:
            raise refused(place, f"macros go {DEPTH_MAX} deep at most, brackets {BRACKETS_MAX}")
        made = (measured, guarded(place, cel.compile, text))
        self._programs[text] = made
        while len(self._programs) > PROGRAMS_MAX:
            self._programs.popitem(last=False)
        return made


def guarded(place: str, call: Callable[..., Any], *arguments: object) -> Any:
    """Call the library; whatever it raises becomes the task's error."""
    try:
        return call(*arguments)
    except BaseException as error:
        # A fault of the library's own is a PanicException, which is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        said = " ".join(str(error).split())[:300]
        raise refused(place, said or type(error).__name__) from None
