"""Compiled templates at work: from a scope to the bytes of an input or an output."""

from collections.abc import Callable

from bend_server.core import limits
from bend_server.core.plan import ExpressionError, Hole, Rendered, Scope
from bend_server.language.gaps import TOO_LARGE
from bend_server.language.templates import Compiled

# So few gaps cannot fill the memory, and counting would cost time.
GAPS_UNBOUNDED_MAX = 8


def renderer(compiled: Compiled) -> Callable[[Scope], Rendered]:
    """Return what renders a task's input; without gaps it is written here, once."""
    constant = compiled.constant
    if constant is not None:
        fixed = Rendered(constant)
        return lambda _scope: fixed
    parts = list(compiled.parts)
    gaps = [(at, part) for at, part in enumerate(parts) if not isinstance(part, bytes)]

    def rendered(scope: Scope) -> Rendered:
        out = parts[:]
        holes: list[Hole] = []
        for at, gap in gaps:
            out[at] = gap(scope, holes)
        data = b"".join(out)  # type: ignore[arg-type]
        return Rendered(data, tuple(holes)) if holes else Rendered(data)

    def rendered_bounded(scope: Scope) -> Rendered:
        """Stop early: a large value in each of many gaps would fill the memory."""
        out = parts[:]
        holes: list[Hole] = []
        room = limits.BLOB_BYTES_MAX
        for at, gap in gaps:
            value = gap(scope, holes)
            room -= len(value)
            if room < 0:
                raise ExpressionError(TOO_LARGE)
            # A copy: orjson's buffers may be several times as large as what is in them.
            out[at] = bytes(memoryview(value))
        data = b"".join(out)  # type: ignore[arg-type]
        return Rendered(data, tuple(holes)) if holes else Rendered(data)

    return rendered if len(gaps) <= GAPS_UNBOUNDED_MAX else rendered_bounded


def output_renderer(compiled: Compiled) -> Callable[[Scope], bytes]:
    """Return what renders a workflow's output."""
    render = renderer(compiled)
    return lambda scope: render(scope).data
