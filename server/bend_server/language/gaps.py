"""What a template writes while an execution runs: the gaps between its literal JSON.

A gap gets the scope of its task and returns JSON. One that may not be filled here, a secret or a
stored output taken whole, returns null and notes a hole for the executor.
"""

from collections.abc import Callable
from typing import NamedTuple

from bend_server.core import limits
from bend_server.core.plan import ExpressionError, Hole, HolePart, Scope
from bend_server.language.costs import COST_MAX
from bend_server.language.expressions import Expression
from bend_server.language.findings import Path, cut, show_path
from bend_server.language.names import Env, Missing, read_output, walk
from bend_server.language.payloads import Memory, as_text, dump

TOO_LARGE = f"the rendered value is larger than the limit of {limits.BLOB_BYTES_MAX} bytes"

Gap = Callable[[Scope, list[Hole]], bytes]


class Secret(NamedTuple):
    """A secret's name inside a string."""

    name: str


class Label(NamedTuple):
    """Whose string it is, and where it stands: for errors."""

    owner: str
    path: Path


def _failed(label: Label, expression: Expression, error: Exception) -> ExpressionError:
    """Name owner, place and expression; made only when needed."""
    shown = cut(expression.source.strip(), 200)
    return ExpressionError(f"{label.owner}, {show_path(label.path)}: '{shown}': {error}")


def value_gap(
    expression: Expression, pointer: str, label: Label, memory: Memory, holes_allowed: bool
) -> Gap:
    """Return the gap of a string that is one template: it keeps the value's type."""
    reference = expression.piece.reference
    if reference is None:
        return _computed(expression, label, memory)
    task, name, steps = reference.task, reference.name, reference.steps
    if (reference.kind == "output" and not steps) or (
        reference.kind == "own" and steps == ("output",)
    ):
        return _whole(task, pointer, holes_allowed)
    if reference.kind == "output":

        def output_gap(scope: Scope, _holes: list[Hole]) -> bytes:
            try:
                return dump(read_output(task, name, steps, scope, memory))
            except (Missing, ExpressionError) as error:
                raise _failed(label, expression, error) from None

        return output_gap
    if reference.kind in {"input", "item"} and not steps:
        return _raw(reference.kind)
    if reference.kind == "input":

        def input_gap(scope: Scope, _holes: list[Hole]) -> bytes:
            try:
                return dump(walk(memory.input(scope), steps, "input"))
            except (Missing, ExpressionError) as error:
                raise _failed(label, expression, error) from None

        return input_gap
    return _computed(expression, label, memory)


def _raw(kind: str) -> Gap:
    """Return the gap of the whole input or item: the bytes as they are."""
    if kind == "input":
        return lambda scope, _holes: scope.input
    return lambda scope, _holes: scope.item or b"null"


def _whole(task: int, pointer: str, holes_allowed: bool) -> Gap:
    """Return the gap of a task's whole output: its bytes as they are, or a blob's hole."""

    def whole_gap(scope: Scope, holes: list[Hole]) -> bytes:
        if holes_allowed:
            blob = scope.blob(task)
            # Size 0 means not loaded: outputs go to the blob store only when they are large.
            if blob is not None and not 0 < blob[1] < limits.REFERENCE_HOLE_BYTES_MIN:
                holes.append(Hole(pointer, (HolePart(blob=blob[0], blob_bytes=blob[1]),)))
                return b"null"
        data = scope.output(task)
        return b"null" if data is None else data

    return whole_gap


def _computed(expression: Expression, label: Label, memory: Memory) -> Gap:
    piece = expression.piece

    def computed_gap(scope: Scope, _holes: list[Hole]) -> bytes:
        try:
            return dump(piece.value(Env(scope, memory, COST_MAX)))
        except (Missing, ExpressionError) as error:
            raise _failed(label, expression, error) from None

    return computed_gap


def _joined(
    pieces: list[str | Secret | Expression], label: Label, memory: Memory
) -> Callable[[Scope], list[str | Secret]]:
    """Return what evaluates the expressions of a string to text."""

    def joined(scope: Scope) -> list[str | Secret]:
        texts: list[str | Secret] = []
        room = limits.BLOB_BYTES_MAX
        for piece in pieces:
            if isinstance(piece, Expression):
                try:
                    text = as_text(piece.piece.value(Env(scope, memory, COST_MAX)))
                except (Missing, ExpressionError) as error:
                    raise _failed(label, piece, error) from None
                room -= len(text)
                if room < 0:
                    raise _failed(label, piece, ExpressionError(TOO_LARGE))
                texts.append(text)
            else:
                texts.append(piece)
        return texts

    return joined


def text_gap(pieces: list[str | Secret | Expression], label: Label, memory: Memory) -> Gap:
    """Return the gap of a string with expressions in it: their values as text."""
    join = _joined(pieces, label, memory)
    return lambda scope, _holes: dump("".join(str(text) for text in join(scope)))


def secret_gap(
    pieces: list[str | Secret | Expression], pointer: str, label: Label, memory: Memory
) -> Gap:
    """Return the gap of a string with secrets in it: null, and a hole for the executor."""
    join = _joined(pieces, label, memory)

    def secret_gap(scope: Scope, holes: list[Hole]) -> bytes:
        parts = tuple(
            HolePart(secret=piece.name) if isinstance(piece, Secret) else HolePart(text=piece)
            for piece in join(scope)
        )
        holes.append(Hole(pointer, parts))
        return b"null"

    return secret_gap
