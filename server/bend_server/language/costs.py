"""The cost bound of an expression, computed before it is evaluated.

The library that evaluates CEL has no budget, so its work is bounded from the tree and the actual
sizes of what the expression reads. Macros run outside it and spend from the same budget with every
item. One unit is about 0.15 microseconds.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from bend_server.language.cel_syntax import (
    Call,
    Collection,
    Index,
    Literal,
    Node,
    Operation,
    Select,
)

COST_MAX = 500_000
PATTERN_CHARS_MAX = 256
PATTERN_WEIGHT_MAX = 25_000
_CHARS_PER_UNIT = 32

_CLASS_WEIGHTS = {"w": 600, "W": 600, "p": 600, "P": 600, "d": 80, "D": 80, "s": 20, "S": 20}
_PATTERN_TOKEN = re.compile(
    r"\\(?P<escape>.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<open>\((?:\?[^:)]*:?)?)|(?P<close>\))"
    r"|\{(?P<low>\d+)(?:,(?P<high>\d*))?\}|(?P<other>.)",
    re.DOTALL,
)


class Size(NamedTuple):
    """Upper bounds of a value: entries (or characters), weight of one entry, weight of all."""

    length: int
    entry: int
    weight: int


SCALAR = Size(1, 1, 1)


def measure(value: object) -> Size:
    """Return the size of a JSON value."""
    if isinstance(value, str):
        return Size(len(value), 1, 1 + len(value) // _CHARS_PER_UNIT)
    if isinstance(value, list):
        return _sum_up([weigh(item) for item in value], 1)
    if isinstance(value, dict):
        return _sum_up([weigh(item) + 5 + len(key) // 32 for key, item in value.items()], 10)
    return SCALAR


def _sum_up(weights: list[int], own: int) -> Size:
    return Size(len(weights), max(weights, default=1), own + sum(weights))


def weigh(value: object) -> int:
    """Return the weight of a JSON value without recursion."""
    weight = 0
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            weight += 1 + len(node) // _CHARS_PER_UNIT
        elif isinstance(node, list):
            weight += 1
            stack.extend(node)
        elif isinstance(node, dict):
            weight += 10 + 5 * len(node)
            stack.extend(node.values())
        else:
            weight += 1
    return weight


def pattern_weight(pattern: str) -> int:
    """Return how much a regular expression costs to build: classes times repetitions."""
    totals = [0]
    last = 0
    for match in _PATTERN_TOKEN.finditer(pattern):
        if match["open"] is not None:
            totals.append(0)
            last = 0
        elif match["close"] is not None:
            last = totals.pop() if len(totals) > 1 else 0
            totals[-1] += last
        elif match["low"] is not None:
            times = max(int(match["low"]), int(match["high"] or 0)) + (match["high"] == "")
            totals[-1] += last * max(times - 1, 0)
            last *= max(times, 1)
        elif match["set"] is not None:
            last = (
                10
                + sum(_CLASS_WEIGHTS.get(char, 0) for char in re.findall(r"\\(.)", match["set"]))
                + len(match["set"])
            )
            totals[-1] += last
        elif match["escape"] is not None:
            last = _CLASS_WEIGHTS.get(match["escape"], 20)
            totals[-1] += last
        elif match["other"] not in {"*", "+", "?", "|", "^", "$"}:
            last = 10 if match["other"] == "." else 1
            totals[-1] += last
    return sum(totals)


class Estimate:
    """Bounds the cost of one tree, given the sizes of what its paths read.

    Args:
        spans: (start, end) of a path in the source to the size of its value.
    """

    __slots__ = ("_spans",)

    def __init__(self, spans: Mapping[tuple[int, int], Size]) -> None:
        self._spans = spans

    def of(self, node: Node) -> tuple[int, Size]:  # noqa: PLR0911 - one for each kind of node
        """Return (cost, size of the value). Paths and macros are known by their spans."""
        known = self._spans.get((node.start, node.end))
        if known is not None:
            return 1, known
        if isinstance(node, Literal):
            chars = node.end - node.start
            return 1, Size(chars, 1, 1 + chars // _CHARS_PER_UNIT)
        if isinstance(node, Select | Index):
            cost, size = self.of(node.operand)
            if isinstance(node, Index):
                cost += self.of(node.key)[0]
            return cost + 2, Size(size.entry, size.entry, size.entry)
        if isinstance(node, Operation):
            return self._operation(node)
        if isinstance(node, Collection):
            return self._collection(node)
        if isinstance(node, Call):
            return self._call(node)
        return 2, SCALAR

    def _operation(self, node: Operation) -> tuple[int, Size]:
        parts = [self.of(operand) for operand in node.operands]
        cost = sum(part[0] for part in parts) + len(parts)
        sizes = [part[1] for part in parts]
        first = node.operators[0]
        if first == "?":
            return cost, Size(
                max(size.length for size in sizes[1:]),
                max(size.entry for size in sizes[1:]),
                max(size.weight for size in sizes[1:]),
            )
        if first in {"+", "-"} and len(parts) > 1:
            total = Size(
                sum(size.length for size in sizes),
                max(size.entry for size in sizes),
                sum(size.weight for size in sizes),
            )
            return cost + total.weight * len(parts) // 2, total
        if first in {"in", "==", "!=", "<", "<=", ">", ">="}:
            cost += sum(size.weight for size in sizes) // 4
        return cost, SCALAR

    def _collection(self, node: Collection) -> tuple[int, Size]:
        parts = [self.of(item) for item in node.items]
        weights = [part[1].weight for part in parts]
        return sum(part[0] for part in parts) + 2, _sum_up(weights, 10)

    def _call(self, node: Call) -> tuple[int, Size]:
        operands = node.args if node.target is None else (node.target, *node.args)
        parts = [self.of(operand) for operand in operands]
        cost = 3 + sum(part[0] + part[1].weight // 4 for part in parts)
        if node.function == "matches":
            pattern = operands[-1]
            if isinstance(pattern, Literal) and isinstance(pattern.value, str):
                cost += 3 * pattern_weight(pattern.value)
        if node.function in {"string", "bytes", "dyn"} and parts:
            size = parts[0][1]
            return cost, Size(size.length + 32, size.entry, size.weight + 1)
        return cost, SCALAR
