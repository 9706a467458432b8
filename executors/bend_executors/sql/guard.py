"""The parser's half of the guard: what a query is, before any database sees it.

One statement of a kind that the mode allows, no denied function, only named parameters. What the
parser does not understand is refused. The text that goes to the database is put together from the
parser's own tokens, without comments, so that both read the same words.
"""

import logging
import re
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from bend import TerminalError
from bend_executors.sql.connections import Dialect
from bend_executors.sql.functions import denied
from bend_executors.sql.words import disagreement

Mode = Literal["read", "write"]

QUERY_CHARS_MAX = 64 * 1024
STATEMENTS_CACHED_MAX = 256
PARSERS = {"postgresql": "postgres", "sqlite": "sqlite"}
BLANK = " \t\r\n\f\v"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NO_PLACEHOLDER_AFTER = re.compile(r"[\w\])\"']")

READS = (exp.Select, exp.SetOperation, exp.Values, exp.Subquery)
WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge)
NEVER = (
    exp.Command, exp.Into, exp.Lock, exp.Copy, exp.Pragma, exp.Attach, exp.Detach, exp.Set,
    exp.Use, exp.Transaction, exp.Commit, exp.Rollback, exp.Create, exp.Drop, exp.Alter,
    exp.TruncateTable, exp.Describe, exp.Kill, exp.LoadData, exp.Cache, exp.Uncache, exp.Analyze,
    exp.Grant, exp.Revoke, exp.Comment, exp.Show, exp.Declare, exp.Execute,
)  # fmt: skip
# These hide characters from one of the two readers, or name things by codes.
CODED = frozenset(
    {TokenType.HEREDOC_STRING, TokenType.BYTE_STRING, TokenType.UNICODE_STRING, TokenType.UNKNOWN}
)

# It warns about each statement that it does not understand; ours are refused then, with a reason.
logging.getLogger("sqlglot").setLevel(logging.ERROR)


class Slot(NamedTuple):
    """A place for a parameter; `listed`: 1 in `IN :x`, 2 in `IN (:x)`, 0 elsewhere."""

    name: str
    listed: int


class Statement(NamedTuple):
    """A checked statement: text and slots in turn, and whether it returns rows."""

    parts: tuple[str | Slot, ...]
    names: frozenset[str]
    returns: bool


def refused(text: str) -> TerminalError:
    """Return the error for a query that may not run."""
    return TerminalError("SQL_REFUSED", text)


@lru_cache(maxsize=STATEMENTS_CACHED_MAX)
def checked(dialect: Dialect, mode: Mode, query: str) -> Statement:
    """Read a query. Raises TerminalError SQL_SYNTAX or SQL_REFUSED."""
    if len(query) > QUERY_CHARS_MAX:
        raise refused(f"the query has {len(query)} characters, at most {QUERY_CHARS_MAX}")
    if "\0" in query:
        raise refused("the query has a character NUL")
    tokens, root = _parsed(dialect, query)
    _check_kinds(root, mode)
    _check_tokens(dialect, query, tokens)
    parts = tuple(_parts(query, tokens))
    names = frozenset(part.name for part in parts if isinstance(part, Slot))
    if names != _placeholders(root):
        raise refused("a ':' stands where it could be a parameter or not")
    returns = isinstance(root, READS) or root.args.get("returning") is not None
    return Statement(parts, names, returns)


def _parsed(dialect: Dialect, query: str) -> tuple[list[Token], exp.Expression]:
    parser = PARSERS[dialect]
    try:
        tokens = list(sqlglot.tokenize(query, read=parser))
        while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
            tokens.pop()
        if not tokens:
            raise TerminalError("SQL_SYNTAX", "the query is empty")
        if any(token.token_type is TokenType.SEMICOLON for token in tokens):
            raise refused("one statement is wanted, not more")
        end = tokens[-1].end + 1
        found = [one for one in sqlglot.parse(query[:end], read=parser) if one is not None]
    except SqlglotError as error:
        raise TerminalError("SQL_SYNTAX", _plain(error)) from None
    except RecursionError:
        raise refused("the query is nested too deeply") from None
    if len(found) != 1:
        raise refused("one statement is wanted, not more")
    root: Any = found[0]
    return tokens, root


def _plain(error: SqlglotError) -> str:
    """Return a parser's message without the colours that it has for a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error).partition("\n")[0])[:500]


def _check_kinds(root: exp.Expression, mode: Mode) -> None:
    allowed = READS if mode == "read" else READS + WRITES
    if not isinstance(root, allowed):
        kinds = "SELECT, VALUES or WITH" + ("" if mode == "read" else ", INSERT, UPDATE, DELETE")
        raise refused(f"mode {mode} takes {kinds}; this is {root.key.upper()}")
    for node in root.walk():
        if isinstance(node, NEVER) or (mode == "read" and isinstance(node, exp.DML)):
            raise refused(f"mode {mode} has no place for {node.key.upper()}")
        if isinstance(node, exp.Parameter) or (isinstance(node, exp.Placeholder) and not node.name):
            raise refused("parameters are written :name")


def _check_tokens(dialect: Dialect, query: str, tokens: list[Token]) -> None:
    word = disagreement(dialect, query, tokens)
    if word is not None:
        raise refused(f"the notation {word[:20]!r} is not taken: use a parameter")
    for at, token in enumerate(tokens):
        text = query[token.start : token.end + 1]
        following = tokens[at + 1] if at + 1 < len(tokens) else None
        if token.token_type in CODED:
            raise refused(f"the notation {text[:20]!r} is not taken: use a parameter")
        # U&"\0070g_read_file" is a name in disguise.
        if text.upper() == "U" and following is not None and following.text == "&":
            raise refused("names and texts of the form U& are not taken")
        if dialect == "sqlite" and text[0] in "$@?#":
            raise refused("parameters are written :name")
        called = following is not None and following.token_type is TokenType.L_PAREN
        if (called or _table_like(tokens, at)) and denied(dialect, token.text):
            raise refused(f"the function {token.text.lower()} may not be called")


def _table_like(tokens: list[Token], at: int) -> bool:
    """Tell whether a token may be a table: SQLite calls functions there without parentheses."""
    before = tokens[at - 1] if at else None
    return (
        before is not None
        and before.token_type in (TokenType.FROM, TokenType.JOIN, TokenType.COMMA)
        and tokens[at].text.lower().startswith("pragma_")
    )


def _parts(query: str, tokens: list[Token]) -> list[str | Slot]:
    """Return the query's words with what stood between them, and slots for the parameters."""
    parts: list[str | Slot] = []
    text = ""
    done = tokens[0].start
    at = 0
    while at < len(tokens):
        token = tokens[at]
        between = query[done : token.start]
        text += between if not between.strip(BLANK) else " "
        slot = _slot(query, tokens, at)
        if slot is None:
            text += query[token.start : token.end + 1]
        else:
            parts += [text, slot]
            text = ""
            at += 1
        done = tokens[at].end + 1
        at += 1
    parts.append(text)
    return parts


def _slot(query: str, tokens: list[Token], at: int) -> Slot | None:
    """Return the slot that begins at a token `:`, when a name follows at once."""
    token = tokens[at]
    if token.token_type is not TokenType.COLON or at + 1 == len(tokens):
        return None
    following = tokens[at + 1]
    name = query[following.start : following.end + 1]
    if following.start != token.end + 1 or not NAME.fullmatch(name):
        return None
    if token.start and NO_PLACEHOLDER_AFTER.match(query[token.start - 1]):
        return None
    kinds = [one.token_type for one in tokens[max(0, at - 2) : at]]
    closed = at + 2 < len(tokens) and tokens[at + 2].token_type is TokenType.R_PAREN
    if kinds[-1:] == [TokenType.IN]:
        return Slot(name, 1)
    return Slot(name, 2 if closed and kinds == [TokenType.IN, TokenType.L_PAREN] else 0)


def _placeholders(root: exp.Expression) -> frozenset[str]:
    return frozenset(node.name for node in root.find_all(exp.Placeholder))
