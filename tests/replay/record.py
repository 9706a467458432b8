"""Histories as JSON files: recorded from the stories once, then never changed.

`python -m tests.replay` records every story that has no history of this release yet.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from bend_server.core.machine import fold
from bend_server.core.model import EventRow, ExecutionStatus, FinishRow, ResultRow
from bend_server.core.state import ExecutionState
from tests.kit.plans import start_row
from tests.scenarios.story_file import SEPARATOR, StoryTeller, parse_plan

RELEASE = version("bend")
HERE = Path(__file__).parent / "histories"
STORIES = Path(__file__).parents[1] / "scenarios" / "stories"


def _plain(row: ResultRow | EventRow | FinishRow) -> dict[str, Any]:
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in row._asdict().items()
    }


def _payloads(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {
        name: value.encode() if name in names and value is not None else value
        for name, value in row.items()
    }


def meaning(state: ExecutionState) -> dict[str, Any]:
    """Return what a history says in the end."""
    tasks = state.plan.tasks
    items = {
        tasks[task].id: [state.unit_status(task, item).name for item in range(fan.count)]
        for task, fan in (state.fans or {}).items()
    }
    more: dict[str, Any] = {"items": items} if items else {}
    if state.run > 1:
        more["run"] = state.run
    return more | {
        "status": ExecutionStatus(state.status).name,
        "seq": state.seq,
        "error": None if state.error is None else state.error.to_json().decode(),
        "output": None if state.result is None else state.result.decode(),
        "tasks": {
            task.id: [state.task_status(task.index).name, state.attempt(task.index)]
            for task in tasks
        },
    }


def record(story: Path) -> bytes:
    """Run a story and return its history."""
    teller = StoryTeller()
    plan_lines: list[str] = []
    plan_head = ""
    for block in story.read_text(encoding="utf-8").strip().split("\n\n"):
        head = block.split(f"\n{SEPARATOR}", 1)[0]
        said = [line for line in head.splitlines() if not line.startswith("#")]
        if said:
            teller.tell(said[0], said[1:])
            plan_head = plan_head or said[0]
            plan_lines = plan_lines or said[1:]
    run = teller.run
    if run is None:
        raise ValueError(f"{story} has no plan")
    body = {
        "release": RELEASE,
        "head": plan_head,
        "plan": plan_lines,
        "results": [_plain(row) for row in run.results],
        "events": [_plain(row) for row in run.events],
        "finish": None if run.finish is None else _plain(run.finish),
        "meaning": meaning(run.state),
    }
    return orjson.dumps(body, option=orjson.OPT_INDENT_2) + b"\n"


def replay(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a history meant when it was recorded, and what it means now."""
    body = orjson.loads(path.read_bytes())
    plan = parse_plan(body.get("head", "plan"), body["plan"])
    finish = body["finish"]
    state = fold(
        plan,
        start_row(plan),
        [ResultRow(**_payloads(row, "output", "error")) for row in body["results"]],
        [EventRow(**_payloads(row, "body")) for row in body["events"]],
        None if finish is None else FinishRow(**_payloads(finish, "output", "error")),
    )
    return body["meaning"], meaning(state)


def main() -> None:
    """Record what is missing."""
    HERE.mkdir(exist_ok=True)
    for story in sorted(STORIES.glob("*.txt")):
        path = HERE / f"{story.stem}-{RELEASE}.json"
        if not path.exists():
            path.write_bytes(record(story))
            print(path)
