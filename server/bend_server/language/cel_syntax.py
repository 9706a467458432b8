"""CEL text to a syntax tree: what static checks and the cost bound need.

The library that evaluates CEL gives no tree. This parser accepts no more than the library does;
both have to accept an expression. Chains (`a + b + c`, `a.b.c`) are flat, so that the depth of
the tree is the depth of its parentheses.

Source: the CEL specification, doc/langdef.md, "Syntax".
"""

import ast
import re
from typing import NamedTuple

DEPTH_MAX = 24
CHAIN_MAX = 64
MACROS = frozenset(("all", "exists", "exists_one", "map", "filter"))
RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
KEYWORDS = frozenset(("true", "false", "null", "in"))
TYPES = frozenset(
    [
        "bool",
        "bytes",
        "double",
        "duration",
        "dyn",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "timestamp",
        "type",
        "uint",
    ]
)

_TOKEN = re.compile(
    r"""(?P<space>[\s\x0c]+|//[^\n]*)
    |(?P<text>(?P<prefix>[rRbB]{0,2})(?:'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\"
        |'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))
    |(?P<double>(?:\d+\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.\d+(?:[eE][-+]?\d+)?))
    |(?P<int>(?:0x[0-9a-fA-F]+|\d+)[uU]?)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_RAW_TEXT = re.compile(
    r"""[rR]('''.*?'''|\"\"\".*?\"\"\"|'[^'\n]*'|"[^"\n]*")""",
    re.DOTALL,
)
_ESCAPES = re.compile(
    r"""(?:[^\\]|\\(?:[abfnrtv\\"']|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}))*""",
    re.DOTALL,
)
_LEVELS = (("||",), ("&&",), ("<", "<=", ">=", ">", "==", "!=", "in"), ("+", "-"), ("*", "/", "%"))
_OPERATORS = frozenset(mark for marks in _LEVELS for mark in marks)


class BadExpression(Exception):
    """The text is refused; `offset` counts its characters from 0."""

    def __init__(self, message: str, offset: int, reason: str = "BAD_EXPRESSION") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.reason = reason


class Token(NamedTuple):
    """One word: kind is text, double, int, name, mark or end."""

    kind: str
    text: str
    start: int
    end: int


class Literal(NamedTuple):
    """A constant; `value` is None for those whose value no check needs."""

    start: int
    end: int
    value: object
    kind: str


class Name(NamedTuple):
    """An identifier."""

    start: int
    end: int
    name: str


class Select(NamedTuple):
    """`operand.field`."""

    start: int
    end: int
    operand: "Node"
    field: str


class Index(NamedTuple):
    """`operand[key]`."""

    start: int
    end: int
    operand: "Node"
    key: "Node"


class Call(NamedTuple):
    """`function(args)` or `target.function(args)`."""

    start: int
    end: int
    function: str
    target: "Node | None"
    args: "tuple[Node, ...]"


class Macro(NamedTuple):
    """`range.name(variable, args)`: one of MACROS."""

    start: int
    end: int
    name: str
    range: "Node"
    variable: str
    args: "tuple[Node, ...]"


class Has(NamedTuple):
    """`has(operand.field)`."""

    start: int
    end: int
    operand: Select


class Operation(NamedTuple):
    """Operators of one level and their operands; `? :` has three operands."""

    start: int
    end: int
    operators: tuple[str, ...]
    operands: "tuple[Node, ...]"


class Collection(NamedTuple):
    """A list or map literal; of a map, keys and values alternate."""

    start: int
    end: int
    kind: str
    items: "tuple[Node, ...]"


Node = Literal | Name | Select | Index | Call | Macro | Has | Operation | Collection


def tokenize(source: str) -> list[Token]:
    """Split a text into words, the last of kind `end`. Raises BadExpression."""
    tokens: list[Token] = []
    offset, length = 0, len(source)
    match_at = _TOKEN.match
    while offset < length:
        match = match_at(source, offset)
        if match is None:
            raise BadExpression(f"unexpected character {source[offset]!r}", offset)
        kind, end = match.lastgroup, match.end()
        if kind == "space":
            offset = end
            continue
        if kind in {"text", "prefix"}:
            end = _end_of_text(match, source, offset)
            kind = "text"
        tokens.append(Token(str(kind), source[offset:end], offset, end))
        offset = end
    tokens.append(Token("end", "", length, length))
    return tokens


def _end_of_text(match: re.Match[str], source: str, offset: int) -> int:
    """Return where a text literal ends; in a raw one, a backslash hides nothing."""
    prefix = (match["prefix"] or "").lower()
    if prefix in {"rr", "bb"}:
        raise BadExpression("unknown prefix of a text", offset)
    raw = _RAW_TEXT.match(source, offset) if prefix == "r" else None
    return (raw or match).end()


def parse_expression(source: str) -> Node:
    """Return the tree of an expression. Raises BadExpression."""
    parser = _Parser(tokenize(source))
    node = parser.expression(0)
    if parser.token.kind != "end":
        raise BadExpression(f"unexpected '{parser.token.text}'", parser.token.start)
    return node


def text_value(token: str) -> str | None:
    """Return what a text literal stands for, None for bytes and rare escapes."""
    body = token.lstrip("rRbB")
    prefix = token[: len(token) - len(body)].lower()
    if "b" in prefix:
        return None
    size = 3 if body[:3] in {"'''", '"""'} else 1
    inner = body[size:-size]
    if "\\" not in inner or prefix == "r":
        return inner
    if _ESCAPES.fullmatch(inner) is None:
        return None
    try:
        value = ast.literal_eval(token)
    except (SyntaxError, ValueError):
        return None
    return value if isinstance(value, str) else None


class _Parser:
    """Recursive descent; every recursion counts towards DEPTH_MAX."""

    __slots__ = ("_at", "_tokens", "token")

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self.token = tokens[0]

    def _next(self) -> Token:
        token = self.token
        self._at += 1
        self.token = self._tokens[min(self._at, len(self._tokens) - 1)]
        return token

    def _is(self, mark: str) -> bool:
        return self.token.text == mark and self.token.kind in {"mark", "name"}

    def _take(self, mark: str) -> Token:
        if not self._is(mark):
            found = f"'{self.token.text}'" if self.token.kind != "end" else "the end"
            raise BadExpression(f"expected '{mark}', found {found}", self.token.start)
        return self._next()

    def expression(self, depth: int) -> Node:
        """Parse `a ? b : c` and all below."""
        if depth > DEPTH_MAX:
            raise BadExpression(f"nested deeper than {DEPTH_MAX}", self.token.start)
        node = self._level(0, depth)
        if not self._is("?"):
            return node
        self._next()
        first = self._level(0, depth + 1)
        self._take(":")
        second = self.expression(depth + 1)
        return Operation(node.start, second.end, ("?",), (node, first, second))

    def _level(self, level: int, depth: int) -> Node:
        """Parse operators of a level and of all that bind tighter."""
        node = self._unary(depth)
        if self.token.text in _OPERATORS and self.token.kind != "text":
            for rank in range(len(_LEVELS) - 1, level - 1, -1):
                node = self._chain(node, rank, depth)
        return node

    def _chain(self, node: Node, rank: int, depth: int) -> Node:
        """Parse the operators of one level that follow a node."""
        marks = _LEVELS[rank]
        if self.token.text not in marks or self.token.kind == "text":
            return node
        operators: list[str] = []
        operands: list[Node] = [node]
        while self.token.text in marks and self.token.kind != "text":
            operators.append(self._next().text)
            operands.append(self._level(rank + 1, depth))
        return Operation(node.start, operands[-1].end, tuple(operators), tuple(operands))

    def _unary(self, depth: int) -> Node:
        if not (self._is("!") or self._is("-")):
            return self._member(depth)
        first = self._next()
        count = 1
        while self._is(first.text):
            self._next()
            count += 1
        if count > CHAIN_MAX:
            raise BadExpression("too many operators in a row", first.start)
        node = self._member(depth)
        return Operation(first.start, node.end, (first.text,), (node,))

    def _member(self, depth: int) -> Node:
        node = self._primary(depth)
        for _ in range(CHAIN_MAX):
            if self._is("."):
                self._next()
                name = self._name()
                if self._is("("):
                    node = self._method(node, name, depth)
                else:
                    node = Select(node.start, name.end, node, name.text)
            elif self._is("["):
                self._next()
                index = self.expression(depth + 1)
                node = Index(node.start, self._take("]").end, node, index)
            else:
                return node
        raise BadExpression(f"more than {CHAIN_MAX} steps in one path", self.token.start)

    def _name(self) -> Token:
        if self.token.kind != "name" or self.token.text in KEYWORDS:
            found = f"'{self.token.text}'" if self.token.kind != "end" else "the end"
            raise BadExpression(f"expected a name, found {found}", self.token.start)
        return self._next()

    def _arguments(self, depth: int, close: str) -> tuple[tuple[Node, ...], int]:
        items: list[Node] = []
        while not self._is(close):
            items.append(self.expression(depth + 1))
            if not self._is(","):
                break
            comma = self._next()
            if close == ")" and self._is(close):
                raise BadExpression("unexpected ','", comma.start)
        return tuple(items), self._take(close).end

    def _method(self, target: Node, name: Token, depth: int) -> Node:
        self._next()
        args, end = self._arguments(depth, ")")
        if name.text in MACROS:
            first = args[0] if args else None
            if not isinstance(first, Name) or len(args) not in (
                (2, 3) if name.text == "map" else (2,)
            ):
                raise BadExpression(f"{name.text}() takes a variable and a predicate", name.start)
            return Macro(target.start, end, name.text, target, first.name, args[1:])
        return Call(target.start, end, name.text, target, args)

    def _primary(self, depth: int) -> Node:
        token = self.token
        if token.kind == "name":
            return self._named(depth)
        if token.kind in {"text", "double", "int"}:
            self._next()
            return _literal(token)
        if self._is("("):
            self._next()
            node = self.expression(depth + 1)
            end = self._take(")").end
            return node._replace(start=token.start, end=end)
        if self._is("["):
            self._next()
            items, end = self._arguments(depth, "]")
            return Collection(token.start, end, "list", items)
        if self._is("{"):
            return self._map(depth)
        found = f"'{token.text}'" if token.kind != "end" else "the end"
        raise BadExpression(f"expected a value, found {found}", token.start)

    def _named(self, depth: int) -> Node:
        token = self._next()
        if token.text in {"true", "false", "null"}:
            value = {"true": True, "false": False, "null": None}[token.text]
            return Literal(token.start, token.end, value, token.text)
        if token.text in KEYWORDS or token.text in RESERVED:
            raise BadExpression(f"'{token.text}' is a reserved word", token.start)
        if not self._is("("):
            return Name(token.start, token.end, token.text)
        self._next()
        args, end = self._arguments(depth, ")")
        if token.text == "has":
            if len(args) != 1 or not isinstance(args[0], Select):
                raise BadExpression("has() takes a path such as task.field", token.start)
            return Has(token.start, end, args[0])
        return Call(token.start, end, token.text, None, args)

    def _map(self, depth: int) -> Node:
        start = self._next().start
        items: list[Node] = []
        while not self._is("}"):
            items.append(self.expression(depth + 1))
            self._take(":")
            items.append(self.expression(depth + 1))
            if not self._is(","):
                break
            self._next()
        return Collection(start, self._take("}").end, "map", tuple(items))


def _literal(token: Token) -> Literal:
    value: object = None
    if token.kind == "text":
        value = text_value(token.text)
    elif token.kind == "int" and token.text[-1] not in "uU":
        value = int(token.text, 16 if token.text[1:2] in {"x", "X"} else 10)
    return Literal(token.start, token.end, value, token.kind)
