"""docs/language.md is the reference: its examples compile, and every key has one."""

import re

import orjson
import pytest

from bend_server.core.plan import Plan
from bend_server.language import Definition, compile_document
from bend_server.language.keys import (
    CACHE,
    COMPENSATE,
    DEFAULTS,
    ENGINE_INPUTS,
    RATE_LIMIT,
    REPEAT,
    RETRY,
    TASK,
    TASK_CONCURRENCY,
    WORKFLOW,
    WORKFLOW_CONCURRENCY,
    Key,
)
from bend_server.language.yaml_source import parse_yaml
from tests.kit.examples import PAGE, Example, examples

EXAMPLES = examples()
TEXT = PAGE.read_text(encoding="utf-8")
# Keys that the page names without an example of their own.
ONLY_NAMED = {"description", "labels", "schedule_timeout", "heartbeat_timeout", "on"}


def definition(example: Example) -> Definition:
    return compile_document(example.document.encode(), "application/yaml")


@pytest.mark.parametrize("example", EXAMPLES, ids=[one.title for one in EXAMPLES])
def test_an_example_compiles_and_takes_its_input(example: Example) -> None:
    made = definition(example)
    plan = made.plan("default", 1, {})
    assert isinstance(plan, Plan)
    given = orjson.dumps(example.input)
    assert orjson.loads(made.check_parameters(given)).items() >= example.input.items()
    assert example.title == f"{made.name.replace('_', '-')}.yaml"


def test_titles_are_unique_and_children_stand_on_the_page() -> None:
    titles = [one.title for one in EXAMPLES]
    assert len(set(titles)) == len(titles)
    children = set(re.findall(r"workflow: (\w+)", "".join(one.document for one in EXAMPLES)))
    assert {f"{name}.yaml" for name in children} <= set(titles)


def keys_of(value: object) -> set[str]:
    """Return every key in a value, however deep."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def test_every_key_has_an_example() -> None:
    used = keys_of([parse_yaml(one.document) for one in EXAMPLES])
    tables = (WORKFLOW, TASK, RETRY, DEFAULTS, REPEAT, CACHE, COMPENSATE, RATE_LIMIT,
              TASK_CONCURRENCY, WORKFLOW_CONCURRENCY, *ENGINE_INPUTS.values())  # fmt: skip
    known = {key for table in tables for key in table}
    assert known - used <= ONLY_NAMED | {"while"}
    assert not {key for key in known if f"`{key}`" not in TEXT and key not in used}


@pytest.mark.parametrize(
    ("title", "keys"), [("Keys of a workflow", WORKFLOW), ("Keys of a task", TASK)]
)
def test_the_tables_list_every_key(title: str, keys: dict[str, Key]) -> None:
    table = TEXT.split(f"\n## {title}\n")[1].split("\n\n```")[0].split("\n### ")[0]
    listed = {
        key
        for row in table.splitlines()
        if row.startswith("| `")
        for key in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert listed == set(keys)


@pytest.mark.parametrize("word", ENGINE_INPUTS)
def test_the_table_of_own_types_lists_their_inputs(word: str) -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{word}` |"))
    named = set(re.findall(r"`(\w+)`", row.split("|")[2]))
    assert named == set(ENGINE_INPUTS[word])
