"""docs/semantics.md, row by row: tasks compiled by the language, driven through the core."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from bend_server.core.model import ITEM_NONE, TaskKind, TaskStatus
from bend_server.core.plan import Plan
from bend_server.core.scope import unit_scope
from bend_server.language import compile_document, findings_of
from bend_server.language.durations import parse_duration
from bend_server.language.yaml_source import parse_yaml
from tests.kit.machine_run import SECOND_US, Run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "semantics.md"
STEP = re.compile(r"(\w+)(?: ([\w.]+)(?:\[(\d+)\])?)?(?: (\{.*\}))?")
WAITS = (TaskKind.WAIT, TaskKind.SIGNAL, TaskKind.APPROVAL)
HEAD = "case"


class Row(NamedTuple):
    """One row of a table of the page."""

    section: str
    case: str
    tasks: str
    steps: str
    wanted: str
    execution: str


def rows() -> list[Row]:
    """Return the rows of all tables with tasks in them."""
    found, section = [], ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 5 and cells[0] != HEAD and not cells[0].startswith("-"):
            plain = [cells[0], *(cell.strip("`") for cell in cells[1:])]
            found.append(Row(section, *plain))
    return found


ROWS = rows()


def document(row: Row) -> bytes:
    """Return the document of a row's tasks; those of on_failure stand below that key."""
    tasks: Any = parse_yaml("{" + row.tasks + "}")
    late = tasks.pop("on_failure", None)
    made: dict[str, Any] = {"name": "w", "tasks": listed(tasks)}
    if late is not None:
        made["on_failure"] = listed(late) if isinstance(late, dict) else late
    return orjson.dumps(made)


def listed(tasks: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": id_, "type": "x", **keys} for id_, keys in tasks.items()]


class Stage:
    """An execution of a row; the engine's part for its own types is played here."""

    def __init__(self, plan: Plan) -> None:
        self.run = Run(plan)
        self.settle()

    def settle(self) -> None:
        """Let open tries of the engine's own types begin to wait, or start their child."""
        run = self.run
        for task in run.plan.tasks:
            fan = run.state.fan(task.index)
            for item in (ITEM_NONE,) if fan is None else range(fan.count):
                if not run.state.open_try(task.index, item):
                    continue
                if task.kind in WAITS and run.state.waiting(task.index, item) is None:
                    scope = unit_scope(run.state, task.index, item)
                    said = orjson.loads(task.render(scope).data)
                    span_us = parse_duration(said.get("duration", said.get("timeout", 0))) or 0
                    seconds = span_us / SECOND_US
                    run.wait(task.id, item=item, seconds=seconds, name=said.get("name", ""))
                elif task.kind == TaskKind.WORKFLOW and run.state.child(task.index, item) is None:
                    run.child(task.id, item=item)

    def step(self, text: str) -> None:
        """Do one step of the page."""
        match = STEP.fullmatch(text)
        assert match, text
        word, name, number, output = match.groups()
        item = ITEM_NONE if number is None else int(number)
        run = self.run
        if word == "complete":
            assert run.complete(name, (output or "1").encode(), item=item), text
        elif word == "fail":
            assert run.fail(name, item=item), text
        elif word == "flake":
            assert run.fail(name, retryable=True, item=item), text
        elif word == "expire":
            assert run.apply(run.outcome(name, TaskStatus.TIMED_OUT, item=item)), text
        elif word == "wait":
            run.pass_time((parse_duration(name) or 0) / SECOND_US)
        elif word == "signal":
            run.signal(name)
        elif word in {"approve", "reject"}:
            assert run.decide(name, approved=word == "approve", item=item), text
        elif word == "reset":
            assert run.reset(name), text
        else:
            verbs: dict[str, Callable[..., bool]] = {
                "cancel": run.cancel,
                "pause": run.pause,
                "resume": run.unpause,
                "retry": run.retry,
            }
            assert verbs[word](), text
        self.settle()
        run.check_replay()


def steps_of(row: Row) -> list[str]:
    """Split steps at commas outside of braces."""
    return [step for step in re.split(r", (?![^{]*\})", row.steps) if step]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.section}-{row.case}" for row in ROWS])
def test_a_row_of_the_page_is_true(row: Row) -> None:
    data = document(row)
    if row.steps == "invalid":
        assert findings_of(data, "application/json")
        return
    stage = Stage(compile_document(data, "application/json").plan("default", 1, {}))
    for step in steps_of(row):
        stage.step(step)
    run = stage.run
    for wanted in re.findall(r"[\w.]+ \w+(?: \[[\w ]+\])?", row.wanted):
        name, status, *items = wanted.split(" ", 2)
        assert (name, run.status(name)) == (name, status), run.statuses()
        if items:
            assert run.items(name) == items[0].strip("[]").split()
    assert run.ended == row.execution, run.statuses()


def test_the_page_has_rows_in_every_section() -> None:
    sections = {row.section for row in ROWS}
    headings = re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == set(headings) - {"Statuses"}
    assert len(ROWS) > 60
