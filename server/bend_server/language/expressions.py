"""Expressions: checked when the document is compiled, cut into pieces for evaluation."""

import re
from itertools import takewhile

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
from bend_server.language.findings import cut, nearest
from bend_server.language.names import Names, Reference, Steps, chain_of
from bend_server.language.pieces import (
    BooleanText,
    DeepSlot,
    HasSlot,
    MacroSlot,
    PathSlot,
    Piece,
    SizeSlot,
    Slot,
)

MACRO_DEPTH_MAX = 3
_PURE_PATH = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)((?:\.[A-Za-z_][A-Za-z0-9_]*){0,16})\s*")
_NO_ROOTS = KEYWORDS | RESERVED | TYPES
# Functions by how they are called, with the number of arguments: x.contains(y), int(x).
METHODS = {
    "contains": 1,
    "startsWith": 1,
    "endsWith": 1,
    "matches": 1,
    "getFullYear": 0,
    "getMonth": 0,
    "getDayOfYear": 0,
    "getDayOfMonth": 0,
    "getDate": 0,
    "getDayOfWeek": 0,
    "getHours": 0,
    "getMinutes": 0,
    "getSeconds": 0,
    "getMilliseconds": 0,
}
CONVERSIONS = dict.fromkeys(
    ("int", "uint", "double", "string", "bytes", "dyn", "type", "timestamp", "duration"), 1
)
SIZE, STRING = "size", "string"
BOOLEAN_TEXT = BooleanText()
FUNCTIONS = frozenset((SIZE, *METHODS, *CONVERSIONS))


class Expression:
    """One checked expression; `references` are all paths it reads."""

    __slots__ = ("piece", "references", "source")

    def __init__(self, source: str, piece: Piece, references: tuple[Reference, ...]) -> None:
        self.source = source
        self.piece = piece
        self.references = references


class Builder:
    """Compiles one expression's tree into pieces."""

    __slots__ = ("_names", "_prefix", "_source", "depth", "programs", "references")

    def __init__(self, source: str, names: Names, programs: Programs) -> None:
        self._source = source
        self._names = names
        self.programs = programs
        self.depth = 0
        self._prefix = "v"
        while self._prefix in source:
            self._prefix += "_"
        self.references: list[Reference] = []

    def piece(self, node: Node, variables: frozenset[str]) -> Piece:
        """Compile a tree; `variables` are those of macros that Python runs around it."""
        walker = _Walker(self, variables)
        walker.visit(node)
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

    def refer(self, name: str, steps: Steps, tested: bool, offset: int) -> Reference:
        """Resolve a path and remember it. Raises BadExpression."""
        reference = self._names.resolve(name, steps, tested, offset)
        self.references.append(reference)
        return reference

    def text(self, node: Node) -> str:
        """Return the source of a node, shortened for errors."""
        return cut(self._source[node.start : node.end], 120)


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

    def _slot(self, node: Node, slot: Slot) -> None:
        reference = slot.reference if isinstance(slot, PathSlot) else None
        key = (
            (id(slot),)
            if reference is None
            else (reference.kind, reference.name, *((type(s), s) for s in reference.steps))
        )
        name = self._known.get(key)
        if name is None:
            name = self._known[key] = self._builder.slot_name(len(self.slots))
            self.slots.append((name, slot))
        self.spans[node.start, node.end] = name

    def visit(self, node: Node) -> None:
        """Walk a tree and turn paths, has() and macros into slots."""
        if isinstance(node, Name | Select | Index | Macro):
            slot = self._path(node, tested=False)
            if slot is not None:
                self._slot(node, slot)
        elif isinstance(node, Has):
            slot = self._path(node.operand, tested=True)
            if slot is not None:
                self._slot(node, HasSlot(slot))
        elif isinstance(node, Call):
            self._call(node)
        elif isinstance(node, Operation):
            self.costly |= node.operators[0] in {"+", "in"}
            for part in node.operands:
                self.visit(part)
        elif isinstance(node, Collection):
            for part in node.items:
                self.visit(part)

    def _path(self, node: Node, *, tested: bool) -> Slot | None:
        """Return the slot of a path; None when it is left to CEL, its parts visited."""
        start, steps = chain_of(node)
        known = list(takewhile(lambda step: isinstance(step, str | int), steps))
        slot: Slot
        if isinstance(start, Name):
            if start.name in TYPES and not steps and start.name not in self._variables:
                return None
            slot = PathSlot(self._reference(start, tuple(known), tested))  # type: ignore[arg-type]
        elif isinstance(start, Macro):
            slot, known = self._macro(start), []
        else:
            self.visit(start)
            for step in steps:
                if not isinstance(step, str | int):
                    self.visit(step)
            return None
        rest = steps[len(known) :]
        if not rest:
            return slot
        pieces = tuple(
            step if isinstance(step, str | int) else self._builder.piece(step, self._variables)
            for step in rest
        )
        return DeepSlot(slot, pieces, self._builder.text(node))

    def _reference(self, start: Name, steps: Steps, tested: bool) -> Reference:
        if start.name in self._variables:
            return Reference("local", -1, start.name, steps, tested, start.start)
        return self._builder.refer(start.name, steps, tested, start.start)

    def _macro(self, node: Macro) -> MacroSlot:
        builder = self._builder
        if builder.depth >= MACRO_DEPTH_MAX:
            raise BadExpression(
                f"macros nest deeper than {MACRO_DEPTH_MAX}", node.start, "TOO_COMPLEX"
            )
        over = builder.piece(node.range, self._variables)
        inner = self._variables | {node.variable}
        builder.depth += 1
        parts = [builder.piece(part, inner) for part in node.args]
        builder.depth -= 1
        body = parts[-1] if node.name == "map" else None
        only = parts[0] if body is None or len(parts) == 2 else None
        return MacroSlot(node.name, over, node.variable, only, body)

    def _call(self, node: Call) -> None:
        if node.function not in FUNCTIONS:
            near = nearest(node.function, FUNCTIONS)
            raise BadExpression(
                f"no function '{node.function}'{near}", node.start, "UNKNOWN_FUNCTION"
            )
        _check_form(node)
        if node.function == SIZE:
            operand = node.args[0] if node.target is None else node.target
            self._slot(node, SizeSlot(self._builder.piece(operand, self._variables)))
            return
        if node.function == STRING and (STRING, BOOLEAN_TEXT) not in self.slots:
            self.slots.append((STRING, BOOLEAN_TEXT))
        if node.function == "matches":
            _check_pattern(node, self._builder.programs)
        self.costly |= node.function in {"matches", "contains", "string", "bytes"}
        for part in node.args if node.target is None else (node.target, *node.args):
            self.visit(part)


def _check_form(node: Call) -> None:
    """Refuse a call that could never be evaluated. Raises BadExpression."""
    name, given = node.function, len(node.args)
    if name == SIZE:
        wanted = 1 if node.target is None else 0
    elif name in METHODS:
        wanted = METHODS[name]
        if node.target is None:
            raise BadExpression(f"{name}() belongs to a value: write x.{name}(…)", node.start)
        if given and not wanted:
            raise BadExpression(f"{name}() takes no time zone: times are UTC", node.start)
    else:
        wanted = CONVERSIONS[name]
        if node.target is not None:
            raise BadExpression(f"{name}() belongs to no value: write {name}(x)", node.start)
    if given != wanted:
        what = "argument" if wanted == 1 else "arguments"
        raise BadExpression(f"{name}() takes {wanted or 'no'} {what}, not {given}", node.start)


def _check_pattern(node: Call, programs: Programs) -> None:
    pattern = node.args[-1] if node.args else None
    if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
        raise BadExpression("matches() takes a literal pattern", node.start)
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
    programs.spend(size)
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
