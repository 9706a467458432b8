"""Inputs that another language reads: what a template puts into their text would be read as code.

Known are those of the built-in components that bind values by another input.
"""

from collections.abc import Mapping
from typing import NamedTuple

from bend_server.language.cel_syntax import BadExpression
from bend_server.language.findings import Path
from bend_server.language.sources import TaskSource
from bend_server.language.templates import Embedded, Templates, split_template


class Statement(NamedTuple):
    """An input that is code, and what to do instead."""

    key: str
    advice: str


STATEMENTS: Mapping[str, Statement] = {
    "sql": Statement("query", "write :name there and give the value in 'parameters'"),
}


def check_statement(task: TaskSource, templates: Templates) -> None:
    """Refuse templates inside of the text of a statement; what is wrong becomes a finding.

    A text that is one template as a whole passes: a statement that was made elsewhere, by a model
    for example, is meant as one, and is held by what its connection may do.
    """
    known = STATEMENTS.get(task.component)
    text = task.inputs.get(known.key) if known is not None else None
    if known is None or not isinstance(text, str):
        return
    place: Path = task.place_of((known.key,))
    try:
        pieces = split_template(text.strip())
    except BadExpression:
        # A finding already.
        return
    if len(pieces) == 1 or all(_fixed(piece, templates) for piece in pieces):
        return
    templates.findings.add(
        "TEMPLATE_IN_QUERY", f"a value inside of the statement would be code: {known.advice}", place
    )


def _fixed(piece: str | Embedded, templates: Templates) -> bool:
    """Whether it is the same in every execution."""
    if isinstance(piece, str):
        return True
    try:
        return templates.embedded(piece).piece.constant
    except BadExpression:
        return False
