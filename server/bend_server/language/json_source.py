"""JSON text to plain values: duplicate keys refused, integers keep their digits.

Positions are found by a second pass over the text, for findings only.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from bend_server.language.findings import Path, Place

DEPTH_MAX = 64
INTEGER_DIGITS_MAX = 300

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+', re.DOTALL)
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class BadText(Exception):
    """The text cannot be read; `offset` counts characters, or line and column are given."""

    def __init__(
        self,
        reason: str,
        message: str,
        offset: int = 0,
        path: Path = (),
        line: int = 0,
        column: int = 0,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.offset = offset
        self.path = path
        self.line = line
        self.column = column


class _Refused(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, from 1, of a character."""
    start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - start + 1


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) != len(pairs):
        raise _Refused("DUPLICATE_KEY", "")
    return built


def _integer(digits: str) -> int:
    if len(digits) > INTEGER_DIGITS_MAX:
        raise _Refused("BAD_NUMBER", "")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if value - value != 0:
        raise _Refused("BAD_NUMBER", "")
    return value


def _constant(_name: str) -> float:
    raise _Refused("BAD_NUMBER", "")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def decode_text(data: bytes) -> str:
    """Return the text of UTF-8 bytes; a byte order mark is left out. Raises BadText."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", errors="replace")
        line, column = line_and_column(before, len(before))
        raise BadText("BAD_ENCODING", "the text is not UTF-8", line=line, column=column) from error


def parse_json(text: str) -> object:
    """Return the value of a JSON text.

    Guarantees: no duplicate key, no NUL, no lone surrogate, every number finite, nesting at most
    DEPTH_MAX, integers exact.

    Raises:
        BadText: with line and column of the first problem.
    """
    try:
        value = _DECODER.decode(text)
    except (_Refused, RecursionError) as error:
        raise _examined(text) from error
    except json.JSONDecodeError as error:
        problem = _examined(text, before=error.pos)
        if problem.reason == "SYNTAX":
            problem = BadText("SYNTAX", f"not JSON: {error.msg}", error.pos)
            problem.line, problem.column = line_and_column(text, error.pos)
        raise problem from error
    if too_deep(value) or ("\\u" in text and _ESCAPED.search(text) is not None):
        found = next(_problems(text), None)
        if found is not None:
            raise _at(text, found)
    return value


def _at(text: str, problem: BadText) -> BadText:
    problem.line, problem.column = line_and_column(text, problem.offset)
    return problem


def _examined(text: str, before: int | None = None) -> BadText:
    """Return the first problem that a second look finds, with its place."""
    for problem in _problems(text):
        if before is None or problem.offset < before:
            return _at(text, problem)
        break
    return BadText("SYNTAX", "not JSON", 0, line=1, column=1)


def _problems(text: str) -> Iterator[BadText]:
    """Yield what is wrong besides the grammar, in order."""
    for offset, token, path, is_key, repeated in _walk(text):
        if len(path) > DEPTH_MAX:
            yield BadText("TOO_DEEP", f"nested deeper than {DEPTH_MAX}", offset, path[:8])
            return
        if repeated:
            yield BadText("DUPLICATE_KEY", f"key {token} stands here twice", offset, path)
        first = token[0]
        if first == '"':
            if "\\u" in token and _unclean(token):
                yield BadText(
                    "BAD_TEXT", "text holds NUL or half of a surrogate pair", offset, path
                )
        elif not is_key and first in "-0123456789NI" and _overflows(token):
            yield BadText("BAD_NUMBER", "the number is too large, or none", offset, path)


def _unclean(token: str) -> bool:
    try:
        value = json.loads(token)
        value.encode("utf-8")
    except ValueError:
        return True
    return "\0" in value


def _overflows(token: str) -> bool:
    if len(token) > INTEGER_DIGITS_MAX and token.lstrip("-").isdigit():
        return True
    try:
        value = float(token)
    except (ValueError, OverflowError):
        return True
    return value - value != 0


def _walk(text: str) -> Iterator[tuple[int, str, Path, bool, bool]]:
    """Yield (offset, token, path, is key, key seen before) of keys and of values' starts.

    Tolerates broken JSON: it only has to name the place of what a strict parser refused.
    """
    path: list[str | int] = []
    seen: list[set[str] | None] = []
    expect_key = False
    for match in _TOKEN.finditer(text):
        token = match.group()
        first = token[0]
        if first == ":":
            expect_key = False
        elif first == ",":
            if seen and seen[-1] is None:
                last = path[-1]
                path[-1] = last + 1 if isinstance(last, int) else 0
            expect_key = bool(seen) and seen[-1] is not None
        elif first in "}]":
            if seen:
                seen.pop()
                path.pop()
            expect_key = False
        elif first == '"' and expect_key and seen:
            keys = seen[-1]
            key = _key_of(token)
            path[-1] = key
            repeated = keys is not None and key in keys
            if keys is not None:
                keys.add(key)
            yield match.start(), token, tuple(path), True, repeated
        else:
            yield match.start(), token, tuple(path), False, False
            if first in "{[":
                seen.append(set() if first == "{" else None)
                path.append("" if first == "{" else 0)
                expect_key = first == "{"


def _key_of(token: str) -> str:
    if "\\" not in token:
        return token[1:-1]
    try:
        return str(json.loads(token, strict=False))
    except ValueError:
        return token[1:-1]


def too_deep(value: object) -> bool:
    """Tell whether lists and maps are nested deeper than DEPTH_MAX."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(DEPTH_MAX + 1):
        level = [
            child
            for node in level
            for child in (node.values() if node.__class__ is dict else node)
            if child.__class__ is dict or child.__class__ is list
        ]
        if not level:
            return False
    return True


class JsonLocator:
    """Finds places in a JSON text in one pass for all of them."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def locate(self, places: Sequence[Place]) -> list[tuple[int, int]]:
        """Return (line, column) of each place, or of its nearest parent that exists."""
        if not places:
            return []
        wanted = {place.path[:n] for place in places for n in range(len(place.path) + 1)}
        offsets: dict[Place, int] = {}
        for offset, _token, path, is_key, _repeated in _walk(self._text):
            if path in wanted:
                offsets.setdefault(Place(path, is_key), offset)
        return [line_and_column(self._text, nearest_offset(offsets, place)) for place in places]


def nearest_offset(offsets: dict[Place, int], place: Place) -> int:
    """Return the offset of a place, or of its nearest known parent."""
    path, at_key = place
    while True:
        for key in (at_key, not at_key):
            found = offsets.get(Place(path, key))
            if found is not None:
                return found
        if not path:
            return 0
        path, at_key = path[:-1], False
