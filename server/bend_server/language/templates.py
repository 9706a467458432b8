"""Templates: `{{ expr }}` in the strings of a task's input and of a workflow's output.

An input is compiled to literal JSON with gaps. Gaps of plain paths are filled without CEL; an
input without gaps is written once. A secret, or a stored output taken whole, becomes a hole that
the executor fills: what is filled in is never read as a template again.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from bend_server.core.model import Phase
from bend_server.core.plan import ExpressionError, Scope
from bend_server.language.cel_library import Programs
from bend_server.language.cel_syntax import BadExpression, Select, parse_expression
from bend_server.language.cel_syntax import Name as NameNode
from bend_server.language.costs import COST_MAX
from bend_server.language.expressions import Expression, compile_expression
from bend_server.language.findings import Findings, Path, cut
from bend_server.language.gaps import Gap, Label, Secret, secret_gap, text_gap, value_gap
from bend_server.language.names import SECRET_NAME, Env, Missing, Names, Reference
from bend_server.language.payloads import Memory, as_text, dump

TEMPLATES_MAX = 1000
# What the expressions of a document that read nothing may cost together: under a second.
CONSTANTS_COST_MAX = 5_000_000

Part = bytes | Gap
OPEN, CLOSE = "{{", "}}"
_WHOLE_PATH = re.compile(r"\{\{\s*[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*\s*\}\}")
_INNER = re.compile(r"\{\{.*?\}\}", re.DOTALL)
# With one of these in it, or a third brace after it, a template may not end at the first }}.
_INTRICATE = re.compile(r"""['"{]|\}\}\}""")


class Embedded(NamedTuple):
    """An expression's text inside a string, and where it starts."""

    source: str
    offset: int


class Compiled(NamedTuple):
    """A compiled template: literal JSON and gaps, what it reads, and which secrets it names."""

    parts: tuple[Part, ...]
    references: tuple[tuple[Reference, Path], ...]
    secrets: frozenset[str]

    @property
    def constant(self) -> bytes | None:
        """The JSON, when there are no gaps."""
        if all(isinstance(part, bytes) for part in self.parts):
            return b"".join(part for part in self.parts if isinstance(part, bytes))
        return None


def split_template(text: str) -> list[str | Embedded]:
    """Split a string into text and expressions.

    Raises:
        BadExpression: a `{{` is not closed.
    """
    pieces: list[str | Embedded] = []
    at = 0
    while (start := text.find(OPEN, at)) >= 0:
        if start > at:
            pieces.append(text[at:start])
        end = text.find(CLOSE, start + 2)
        if end < 0 or _INTRICATE.search(text, start + 2, end + 3):
            end = _end_of(text, start + 2)
        pieces.append(Embedded(text[start + 2 : end], start + 2))
        if len(pieces) > TEMPLATES_MAX:
            raise BadExpression(f"more than {TEMPLATES_MAX} templates", start, "TOO_LARGE")
        at = end + 2
    if at < len(text):
        pieces.append(text[at:])
    return pieces


def _end_of(text: str, start: int) -> int:
    """Return where the `}}` stands that closes a template; quotes and braces are respected."""
    depth, at, quote = 0, start, ""
    while at < len(text):
        char = text[at]
        if quote:
            if char == "\\":
                at += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif char == "{":
            depth += 1
        elif char == "}":
            if depth == 0:
                if text.startswith(CLOSE, at):
                    return at
                break
            depth -= 1
        at += 1
    raise BadExpression("'{{' is not closed by '}}'", start - 2, "BAD_TEMPLATE")


def _bare(text: str) -> str:
    """Return the expression that a bare one or one template stands for."""
    if not text.startswith(OPEN):
        if _INNER.search(text):
            said = "in an expression names stand bare: a.x, not '{{a.x}}'"
            raise BadExpression(said, text.index(OPEN), "BAD_TEMPLATE")
        return text
    pieces = split_template(text)
    if len(pieces) != 1 or not isinstance(pieces[0], Embedded):
        raise BadExpression("a bare expression or one {{ }} goes here", 0)
    return pieces[0].source


def secret_name(source: str) -> str | None:
    """Return the name when an expression is `secrets.NAME` and nothing else."""
    if "secrets" not in source:
        return None
    tree = parse_expression(source)
    if (
        isinstance(tree, Select)
        and isinstance(tree.operand, NameNode)
        and tree.operand.name == "secrets"
        and SECRET_NAME.fullmatch(tree.field)
    ):
        return tree.field
    return None


class Templates:
    """Compiles the templates of one document; findings go to `findings`."""

    __slots__ = ("_constants", "_findings", "_memory", "_names", "_programs")

    def __init__(
        self, names: Names, programs: Programs, memory: Memory, findings: Findings
    ) -> None:
        self._names = names
        self._constants = Env(None, memory, CONSTANTS_COST_MAX)  # type: ignore[arg-type]
        self._programs = programs
        self._memory = memory
        self._findings = findings

    def within(self, local: frozenset[str], phase: Phase, remark: str = "") -> "Templates":
        """Return what compiles the templates of a place that sees other names."""
        names = self._names.within(local, phase, remark)
        other = Templates(names, self._programs, self._memory, self._findings)
        other._constants = self._constants
        return other

    def expression(self, source: str, path: Path) -> Expression | None:
        """Compile a bare expression or one template; None after a finding."""
        text = source.strip()
        try:
            text = _bare(text)
            return compile_expression(text, self._names, self._programs)
        except BadExpression as error:
            self.refuse(error, text, path)
            return None

    def judge(self, expression: Expression, task: str) -> Callable[[Scope], bool]:
        """Return the callable of a condition."""
        piece, memory = expression.piece, self._memory
        label = f"task {task}, condition '{cut(expression.source, 200)}': "

        def judged(scope: Scope) -> bool:
            try:
                value = piece.value(Env(scope, memory, COST_MAX))
            except (Missing, ExpressionError) as error:
                raise ExpressionError(label + str(error)) from None
            if value is True or value is False:
                return bool(value)
            raise ExpressionError(label + f"gives {cut(as_text(value), 100)}, not true or false")

        return judged

    def compile(
        self, value: object, path: Path, owner: str, *, secrets: bool, places: Mapping[str, Path]
    ) -> Compiled:
        """Compile a JSON value whose strings are templates; what is refused becomes a finding.

        Args:
            path: place of the value in the document.
            owner: names the task or the output in errors.
            secrets: whether `secrets.NAME` is allowed here, and holes.
            places: places of the value's own keys where they are not below `path`.
        """
        compiler = _Compiler(self, owner, secrets)
        compiler.add(value, path, "", places)
        return compiler.done()

    def embedded(self, piece: Embedded) -> Expression:
        """Compile an expression inside a string. Raises BadExpression."""
        return compile_expression(piece.source, self._names, self._programs)

    def refuse(self, error: BadExpression, text: str, path: Path) -> None:
        """Record what was refused."""
        where = f" at character {error.offset + 1} of '{cut(text, 120)}'"
        self._findings.add(error.reason, error.message + where, path)

    def evaluated(self, expression: Expression) -> object:
        """Evaluate an expression that reads nothing, here and now. Raises BadExpression.

        All of a document share one budget.
        """
        budget = self._constants.budget
        self._constants.budget = min(budget, COST_MAX)
        try:
            return expression.piece.value(self._constants)
        except (Missing, ExpressionError) as error:
            raise BadExpression(str(error), 0) from None
        finally:
            self._constants.budget += budget - min(budget, COST_MAX)

    @property
    def memory(self) -> Memory:
        """The parsed documents of the plan."""
        return self._memory

    @property
    def findings(self) -> Findings:
        """Where findings go."""
        return self._findings


class _Compiler:
    """Writes literal JSON and gaps, in order."""

    __slots__ = ("_literal", "_owner", "_parts", "_references", "_secrets", "_used", "_with")

    def __init__(self, templates: Templates, owner: str, secrets: bool) -> None:
        self._with = templates
        self._owner = owner
        self._secrets = secrets
        self._parts: list[Part] = []
        self._literal = bytearray()
        self._references: list[tuple[Reference, Path]] = []
        self._used: set[str] = set()

    def done(self) -> Compiled:
        self._flush()
        return Compiled(tuple(self._parts), tuple(self._references), frozenset(self._used))

    def _flush(self) -> None:
        if self._literal:
            self._parts.append(bytes(self._literal))
            self._literal.clear()

    def _gap(self, gap: Gap) -> None:
        self._flush()
        self._parts.append(gap)

    def add(
        self, value: object, path: Path, pointer: str, places: Mapping[str, Path] | None = None
    ) -> None:
        if isinstance(value, str):
            if OPEN in value:
                self._string(value, path, pointer)
            else:
                self._literal += dump(value)
        elif isinstance(value, dict):
            self._literal += b"{"
            for number, (key, entry) in enumerate(value.items()):
                self._literal += (b"," if number else b"") + dump(key) + b":"
                place = places.get(key) if places else None
                step = key.replace("~", "~0").replace("/", "~1")
                self.add(entry, (*path, key) if place is None else place, f"{pointer}/{step}")
            self._literal += b"}"
        elif isinstance(value, list):
            self._literal += b"["
            for number, entry in enumerate(value):
                self._literal += b"," if number else b""
                self.add(entry, (*path, number), f"{pointer}/{number}")
            self._literal += b"]"
        else:
            self._literal += dump(value)

    def _path(self, text: str, path: Path, pointer: str) -> bool:
        """Compile a string that is one path, the most frequent template; False: look closer."""
        try:
            expression = self._with.embedded(Embedded(text[2:-2], 2))
        except BadExpression:
            return False
        if expression.piece.reference is None:
            return False
        self._references.append((expression.references[0], path))
        label = Label(self._owner, path)
        self._gap(value_gap(expression, pointer, label, self._with.memory, self._secrets))
        return True

    def _string(self, text: str, path: Path, pointer: str) -> None:
        if _WHOLE_PATH.fullmatch(text) and self._path(text, path, pointer):
            return
        source = text
        try:
            pieces: list[str | Secret | Expression] = []
            split = split_template(text)
            for piece in split:
                if isinstance(piece, str):
                    pieces.append(piece)
                    continue
                source = piece.source
                name = secret_name(source) if self._secrets else None
                if name is not None:
                    self._used.add(name)
                    pieces.append(Secret(name))
                else:
                    pieces.append(self._embedded(piece, path, whole=len(split) == 1))
            first = pieces[0]
            if len(pieces) == 1 and isinstance(first, Expression) and first.piece.constant:
                self._literal += dump(self._with.evaluated(first))
                return
        except BadExpression as error:
            self._with.refuse(error, source, path)
            return
        else:
            self._emit(pieces, path, pointer)

    def _embedded(self, piece: Embedded, path: Path, *, whole: bool) -> str | Expression:
        """Compile one expression; inside a longer text, one that reads nothing becomes text."""
        expression = self._with.embedded(piece)
        self._references.extend((reference, path) for reference in expression.references)
        if whole or not expression.piece.constant:
            return expression
        return as_text(self._with.evaluated(expression))

    def _emit(self, pieces: list[str | Secret | Expression], path: Path, pointer: str) -> None:
        label = Label(self._owner, path)
        first, memory = pieces[0], self._with.memory
        if any(isinstance(piece, Secret) for piece in pieces):
            self._gap(secret_gap(pieces, pointer, label, memory))
        elif all(isinstance(piece, str) for piece in pieces):
            self._literal += dump("".join(str(piece) for piece in pieces))
        elif len(pieces) == 1 and isinstance(first, Expression):
            self._gap(value_gap(first, pointer, label, memory, self._secrets))
        else:
            self._gap(text_gap(pieces, label, memory))
