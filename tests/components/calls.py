"""Calls of components in the test's own process, as a worker would make them."""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bend import Context, Final, payloads
from bend.components import Kind, component_of, encode
from tests.kit.documents import blocks


@dataclass
class Call:
    """What a call gave, and what it sent while it ran; a Context's sink."""

    output: Any = None
    partials: list[Any] = field(default_factory=list)
    logs: list[tuple[str, str]] = field(default_factory=list)
    cancelled: bool = False
    beats: int = 0

    def log(self, level: str, message: str) -> None:
        """Take a log line."""
        self.logs.append((level, message))

    def beat(self) -> None:
        """Take a heartbeat."""
        self.beats += 1


async def call(
    target: Callable[..., Any],
    values: dict[str, Any],
    *,
    sink: Call | None = None,
    timeout_s: float = 30.0,
    **about: Any,
) -> Call:
    """Run a coroutine or async generator component on an input; its errors are raised.

    Args:
        values: the input, before it is checked against the component's contract.
        about: more of the Context, such as attempt or namespace.
    """
    made = sink or Call()
    component = component_of(target)
    bound = component.bind(payloads.dumps(values))
    if component.context_name:
        facts = {"execution_id": "e-1", "task": "t"} | about
        bound[component.context_name] = Context(made, timeout_s=timeout_s, **facts)
    last: Any = None
    if component.kind is Kind.ASYNC_GENERATOR:
        async with aclosing(component.function(**bound)) as found:
            async for value in found:
                if isinstance(value, Final):
                    last = value.value
                    break
                last = value
                made.partials.append(payloads.loads(encode(value)))
    else:
        last = await component.function(**bound)
    made.output = payloads.loads(encode(last))
    return made


def documented(folder: str) -> list[dict[str, Any]]:
    """Return the tasks of a component's README: its `yaml` blocks, each a list of tasks."""
    root = Path(__file__).resolve().parents[2]
    path = root / "executors" / "bend_executors" / folder / "README.md"
    return [
        task
        for block in blocks(path)
        if block.language == "yaml"
        for task in yaml.safe_load(block.text)
    ]
