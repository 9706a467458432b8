"""What a component's folder gives to the process that serves it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Service:
    """Functions with one stream of their own.

    Attributes:
        functions: decorated with `@component`; none when the operator has it off.
        credit: tasks held at once. More than can run would wait here with their clocks running,
            fewer would leave the component without work between two answers.
        close: ends what the component holds open, once no task runs any more.
    """

    functions: Sequence[Callable[..., Any]]
    credit: int
    close: Callable[[], Awaitable[None] | None] | None = None
