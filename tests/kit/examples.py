"""The examples of docs/language.md: a workflow, what it is given, and how it ends.

Comments at the head of a block say so: `# input: JSON`, `# output: JSON`, `# ends: STATUS`
(COMPLETED without one), `# signal: NAME JSON`, `# decide: TASK yes|no JSON`, `# needs: WORD` for
what an ordinary machine does not have. In inputs, `$HTTP` stands for the address of a stand-in
that answers JSON to /json, and to /flaky after one 503.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tests.kit.documents import blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "language.md"
ENDS = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT", "PAUSED"}
_SAID = re.compile(r"# (input|output|ends|signal|decide|needs): (.+)")


class Signal(NamedTuple):
    """A signal to send once a task waits for it."""

    name: str
    payload: Any


class Decision(NamedTuple):
    """An approval to decide."""

    task: str
    approved: bool
    data: Any


class Example(NamedTuple):
    """One runnable document of the page. `output` None: not said."""

    title: str
    document: str
    input: dict[str, Any]
    output: dict[str, Any] | None
    ends: str
    signals: tuple[Signal, ...]
    decisions: tuple[Decision, ...]
    needs: str


def examples() -> list[Example]:
    """Return the examples in the order of the page; `double.yaml` is the child of many others.

    Raises ValueError for a comment that cannot be read.
    """
    return [_example(block.title, block.text) for block in blocks(PAGE) if block.language == "yaml"]


def _example(title: str, text: str) -> Example:
    said: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        match = _SAID.fullmatch(line)
        if match is None:
            raise ValueError(f"{title}: {line}")
        said.setdefault(match[1], []).append(match[2])
    ends = said.get("ends", ["COMPLETED"])[0]
    if ends not in ENDS:
        raise ValueError(f"{title}: ends {ends}")
    output = said.get("output")
    return Example(
        title,
        text,
        orjson.loads(said.get("input", ["{}"])[0]),
        None if output is None else orjson.loads(output[0]),
        ends,
        tuple(_signal(one) for one in said.get("signal", [])),
        tuple(_decision(one) for one in said.get("decide", [])),
        said.get("needs", [""])[0],
    )


def _signal(text: str) -> Signal:
    name, _, payload = text.partition(" ")
    return Signal(name, orjson.loads(payload or "null"))


def _decision(text: str) -> Decision:
    task, answer, *data = text.split(" ", 2)
    if answer not in {"yes", "no"}:
        raise ValueError(f"decide {text}")
    return Decision(task, answer == "yes", orjson.loads(data[0] if data else "null"))
