"""Expressions: checked when the document is compiled, cut into pieces for evaluation."""

import re

from bend_server.core import limits
from bend_server.language.cel_library import Programs
from bend_server.language.cel_syntax import (
    KEYWORDS,
    RESERVED,
    TYPES,
    BadExpression,
    Call,
    Collection,
    Has,
    Index,
    Literal,
    Macro,
    Name,
    Node,
    Operation,
    Select,
    parse_expression,
)
from bend_server.language.costs import PATTERN_CHARS_MAX, PATTERN_WEIGHT_MAX, pattern_weight
from bend_server.language.findings import nearest
from bend_server.language.names import Names, Reference, chain_of
from bend_server.language.pieces import GatherSlot, HasSlot, PathSlot, Piece, Slot

MACRO_DEPTH_MAX = 3
_PURE_PATH = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)((?:\.[A-Za-z_][A-Za-z0-9_]*){0,16})\s*")
_NO_ROOTS = KEYWORDS | RESERVED | TYPES
FUNCTIONS = frozenset(
    [
        "size",
        "contains",
        "startsWith",
        "endsWith",
        "matches",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "dyn",
        "type",
        "timestamp",
        "duration",
        "getFullYear",
        "getMonth",
        "getDayOfYear",
        "getDayOfMonth",
        "getDate",
        "getDayOfWeek",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
    ]
)


class Expression:
    """One checked expression; `references` are all paths it reads."""

    __slots__ = ("piece", "references", "source")

    def __init__(self, source: str, piece: Piece, references: tuple[Reference, ...]) -> None:
        self.source = source
        self.piece = piece
        self.references = references


class Builder:
    """Compiles one expression's tree into pieces."""

    __slots__ = ("_names", "_prefix", "_source", "programs", "references")

    def __init__(self, source: str, names: Names, programs: Programs) -> None:
        self._source = source
        self._names = names
        self.programs = programs
        self._prefix = "v"
        while self._prefix in source:
            self._prefix += "_"
        self.references: list[Reference] = []

    def piece(self, node: Node, variables: frozenset[str]) -> Piece:
        """Compile a tree; `variables` are those of macros that Python runs around it."""
        walker = _Walker(self, variables)
        walker.visit(node, frozenset(), 0)
        whole = walker.spans.get((node.start, node.end))
        if whole is not None and len(walker.slots) == 1:
            return Piece(None, walker.slots, walker.spans, node, bounded=True)
        text, at = "", node.start
        for (start, end), name in sorted(walker.spans.items()):
            text += self._source[at:start] + name
            at = end
        text += self._source[at : node.end]
        program = self.programs.compiled(text, node.start)
        return Piece(program, walker.slots, walker.spans, node, bounded=not walker.costly)

    def slot_name(self, number: int) -> str:
        """Name the variable of a slot; the source does not contain it."""
        return f"{self._prefix}{number}"

    def refer(self, name: str, node: Node, tested: bool, variables: frozenset[str]) -> Reference:
        """Resolve a path and remember it. Raises BadExpression."""
        found = chain_of(node)
        steps = found[1] if found else ()
        if name in variables:
            return Reference("local", -1, name, steps, tested, node.start)
        reference = self._names.resolve(name, steps, tested, node.start)
        self.references.append(reference)
        return reference


class _Walker:
    """Finds the slots of one piece."""

    __slots__ = ("_builder", "_known", "_variables", "costly", "slots", "spans")

    def __init__(self, builder: Builder, variables: frozenset[str]) -> None:
        self._builder = builder
        self._variables = variables
        self._known: dict[tuple[object, ...], str] = {}
        self.slots: list[tuple[str, Slot]] = []
        self.spans: dict[tuple[int, int], str] = {}
        self.costly = False

    def _slot(self, node: Node, slot: Slot, key: tuple[object, ...] | None) -> None:
        name = self._known.get(key) if key is not None else None
        if name is None:
            name = self._builder.slot_name(len(self.slots))
            self.slots.append((name, slot))
            if key is not None:
                self._known[key] = name
        self.spans[node.start, node.end] = name

    def visit(self, node: Node, bound: frozenset[str], depth: int) -> None:
        """Walk a tree; `bound` are variables of macros that CEL runs, `depth` counts macros."""
        if isinstance(node, Literal):
            return
        if isinstance(node, Name | Select | Index):
            self._path(node, bound, depth)
        elif isinstance(node, Has):
            self._has(node, bound, depth)
        elif isinstance(node, Macro):
            self._macro(node, bound, depth)
        elif isinstance(node, Call):
            self._call(node, bound, depth)
        else:
            self._several(node, bound, depth)

    def _several(self, node: Operation | Collection, bound: frozenset[str], depth: int) -> None:
        if isinstance(node, Operation):
            self.costly |= node.operators[0] in {"+", "in"}
            parts = node.operands
        else:
            parts = node.items
        for part in parts:
            self.visit(part, bound, depth)

    def _path(self, node: Name | Select | Index, bound: frozenset[str], depth: int) -> None:
        found = chain_of(node)
        if found is None:
            if isinstance(node, Index):
                self.visit(node.key, bound, depth)
            if not isinstance(node, Name):
                self.visit(node.operand, bound, depth)
            return
        name, steps = found
        if name in bound or (name in TYPES and not steps and name not in self._variables):
            return
        reference = self._builder.refer(name, node, False, self._variables)
        self._slot(node, PathSlot(reference), (reference.kind, name, steps))

    def _has(self, node: Has, bound: frozenset[str], depth: int) -> None:
        found = chain_of(node.operand)
        if found is None:
            self.visit(node.operand.operand, bound, depth)
        elif found[0] not in bound:
            reference = self._builder.refer(found[0], node.operand, True, self._variables)
            self._slot(node, HasSlot(reference), None)

    def _macro(self, node: Macro, bound: frozenset[str], depth: int) -> None:
        if depth >= MACRO_DEPTH_MAX:
            raise BadExpression(
                f"macros nest deeper than {MACRO_DEPTH_MAX}", node.start, "TOO_COMPLEX"
            )
        if node.name in {"map", "filter"} and not bound:
            self._gather(node, depth)
            return
        self.costly = True
        self.visit(node.range, bound, depth)
        inner = bound | {node.variable}
        for part in node.args:
            self.visit(part, inner, depth + 1)

    def _gather(self, node: Macro, depth: int) -> None:
        """Split a macro that Python runs into pieces of their own."""
        _check_depth(node, depth)
        builder, around = self._builder, self._variables
        over = builder.piece(node.range, around)
        inner = around | {node.variable}
        parts = [builder.piece(part, inner) for part in node.args]
        body = parts[-1] if node.name == "map" else None
        only = parts[0] if node.name == "filter" or len(parts) == 2 else None
        self._slot(node, GatherSlot(node.name, over, node.variable, only, body), None)

    def _call(self, node: Call, bound: frozenset[str], depth: int) -> None:
        if node.function not in FUNCTIONS:
            near = nearest(node.function, FUNCTIONS)
            raise BadExpression(
                f"no function '{node.function}'{near}", node.start, "UNKNOWN_FUNCTION"
            )
        if node.function == "matches":
            self.costly = True
            _check_pattern(node, self._builder.programs)
        self.costly |= node.function in {"contains", "string", "bytes"}
        for part in node.args if node.target is None else (node.target, *node.args):
            self.visit(part, bound, depth)


def _check_depth(node: Node, depth: int) -> None:
    """Refuse macros that nest too deep, whoever runs them."""
    stack: list[tuple[Node, int]] = [(node, depth)]
    while stack:
        at, level = stack.pop()
        if level > MACRO_DEPTH_MAX:
            raise BadExpression(
                f"macros nest deeper than {MACRO_DEPTH_MAX}", at.start, "TOO_COMPLEX"
            )
        if isinstance(at, Macro):
            stack.append((at.range, level))
            stack.extend((part, level + 1) for part in at.args)
        elif isinstance(at, Operation):
            stack.extend((part, level) for part in at.operands)
        elif isinstance(at, Collection):
            stack.extend((part, level) for part in at.items)
        elif isinstance(at, Call):
            stack.extend((part, level) for part in at.args)
            if at.target is not None:
                stack.append((at.target, level))
        elif isinstance(at, Has | Select | Index):
            stack.append((at.operand, level))
            if isinstance(at, Index):
                stack.append((at.key, level))


def _check_pattern(node: Call, programs: Programs) -> None:
    pattern = node.args[-1] if node.args else None
    if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
        raise BadExpression("matches() takes a literal pattern", node.start)
    if len(pattern.value) > PATTERN_CHARS_MAX or pattern_weight(pattern.value) > PATTERN_WEIGHT_MAX:
        raise BadExpression("the pattern is too large", pattern.start, "TOO_COMPLEX")
    programs.check_pattern(pattern.value, pattern.start)


def compile_expression(source: str, names: Names, programs: Programs) -> Expression:
    """Check an expression and make it ready.

    Raises:
        BadExpression: with a reason and an offset in the source.
    """
    size = len(source.encode())
    if size > limits.EXPRESSION_BYTES_MAX:
        raise BadExpression(
            f"the expression has {size} bytes; {limits.EXPRESSION_BYTES_MAX} are allowed",
            0,
            "TOO_LARGE",
        )
    pure = _PURE_PATH.fullmatch(source)
    if pure is not None and pure[1] not in _NO_ROOTS:
        return _path_expression(source, pure, names)
    tree = parse_expression(source)
    builder = Builder(source, names, programs)
    piece = builder.piece(tree, frozenset())
    return Expression(source, piece, tuple(builder.references))


def _path_expression(source: str, match: re.Match[str], names: Names) -> Expression:
    """Make a path ready without a tree: most templates are nothing else."""
    offset = match.start(1)
    steps: tuple[str, ...] = tuple(match[2].split(".")[1:])
    for step in steps:
        if step in KEYWORDS:
            raise BadExpression(f"expected a name, found '{step}'", match.start(2))
    reference = names.resolve(match[1], steps, False, offset)
    node = Name(offset, match.end(2), match[1])
    piece = Piece(None, [("v0", PathSlot(reference))], {}, node, bounded=True)
    return Expression(source, piece, (reference,))
