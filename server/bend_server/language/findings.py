"""Findings of one document: collected by path, given places at the end, in document order.

Places are looked up only for findings, because positions of 20,000 tasks cost more than the whole
compilation.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple, Protocol

from bend_server.core.errors import Finding

FINDINGS_MAX = 100
MESSAGE_CHARS_MAX = 500
CANDIDATES_MAX = 200
PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

Path = tuple[str | int, ...]


class Place(NamedTuple):
    """A path in a document; `at_key` means the key itself rather than its value."""

    path: Path
    at_key: bool = False


class Locator(Protocol):
    """Finds lines and columns, from 1, in the text a document came from."""

    def locate(self, places: Sequence[Place]) -> list[tuple[int, int]]:
        """Return (line, column) of each place, or of its nearest parent that exists."""
        ...


class _Found(NamedTuple):
    reason: str
    message: str
    place: Place


def show_path(path: Path) -> str:
    """Write a path as people do: `tasks[2].condition`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{cut(repr(step), 80)}]"
    return text


def cut(text: str, chars: int = MESSAGE_CHARS_MAX) -> str:
    """Shorten a text for people; lone surrogates and control characters become escapes."""
    if len(text) > chars:
        text = text[: chars - 1] + "…"
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the nearest known name, or nothing."""
    candidates = list(known)
    if len(candidates) > CANDIDATES_MAX:
        # Comparing with 20,000 ids would take longer than compiling them.
        start = name[:2]
        candidates = [other for other in candidates if other[:2] == start][:CANDIDATES_MAX]
    close = get_close_matches(name[:80], candidates, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""


class Findings:
    """Collects at most FINDINGS_MAX findings."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: list[_Found] = []

    def __len__(self) -> int:
        return len(self._found)

    @property
    def full(self) -> bool:
        """Whether more findings would be dropped."""
        return len(self._found) >= FINDINGS_MAX

    def add(self, reason: str, message: str, path: Path, *, at_key: bool = False) -> None:
        """Record one finding; beyond the bound it is dropped."""
        if not self.full:
            self._found.append(_Found(reason, cut(message), Place(path, at_key)))

    def placed(self, locator: Locator) -> list[Finding]:
        """Return the findings with line and column, in document order."""
        places = locator.locate([found.place for found in self._found])
        listed = [
            Finding(found.reason, found.message, show_path(found.place.path), line, column)
            for found, (line, column) in zip(self._found, places, strict=True)
        ]
        return sorted(listed, key=lambda finding: (finding.line, finding.column))
