"""Whether the parser and the database read the same words.

Two readers that disagree about where a text or a comment ends would let the one check what the
other does not run. So only quotes that both read alike are taken, and outside of them nothing that
a database could take for the beginning of a comment or of a text.
"""

import re
from collections.abc import Mapping, Sequence

from sqlglot import Token

from bend_executors.sql.connections import Dialect

_QUOTED: Mapping[Dialect, re.Pattern[str]] = {
    "postgresql": re.compile(r"""[nxb]?'(?:[^']|'')*'|"(?:[^"\\]|"")*\"""", re.IGNORECASE),
    "sqlite": re.compile(
        r"""x?'(?:[^']|'')*'|"(?:[^"\\]|"")*"|`(?:[^`\\]|``)*`|\[[^\]\\]*\]""", re.IGNORECASE
    ),
}
_MARKS: Mapping[Dialect, str] = {"postgresql": "'\"`", "sqlite": "'\"`["}
_OPENING = re.compile(r"--|/\*|\*/|\$\w*\$|\\")


def disagreement(dialect: Dialect, query: str, tokens: Sequence[Token]) -> str | None:
    """Return the first place that two readers may read in two ways, or None."""
    outside = ""
    end = tokens[0].start
    for token in tokens:
        word = query[token.start : token.end + 1]
        # What stood between two words goes to the database as a blank, so it parts them.
        apart = " " if token.start > end else ""
        end = token.end + 1
        if not any(mark in word for mark in _MARKS[dialect]):
            outside += apart + word
            continue
        if not _QUOTED[dialect].fullmatch(word):
            return word
        before = outside[-1:]
        if not apart and (before.isalnum() or before in ("_", "&")) and before:
            # A letter before a quote can give it another meaning, as in E'\'' or U&"\0041".
            return before + word
        outside += apart + "\0"
    found = _OPENING.search(outside)
    return found[0] if found is not None else None
