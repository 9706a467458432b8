"""The JSON Schema for editors: fresh, and neither stricter nor much looser than the compiler."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from bend_server.cli.schema import schema
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
)
from bend_server.language.schema_document import schema_document
from bend_server.language.yaml_source import parse_yaml
from tests.kit.documents import blocks
from tests.language.test_example import EXAMPLE
from tests.language.test_plans import FULL

ROOT = Path(__file__).resolve().parents[2]
VALIDATOR = Draft202012Validator(schema_document())
WRONG = Path(__file__).with_name("wrong")
PAGE = [block for block in blocks(ROOT / "docs" / "language.md") if block.language == "yaml"]
# Reasons that a schema can see; the others take a compiler.
VISIBLE = """unknown_key missing_key wrong_type bad_duration bad_name out_of_range"""
# Durations have bounds that the schema leaves to the compiler.
INVISIBLE = {("out_of_range", "c"), ("out_of_range", "e")}


def test_the_file_in_the_docs_is_fresh() -> None:
    """`make generate` writes it."""
    result = CliRunner().invoke(schema)
    assert result.exit_code == 0
    written = (ROOT / "docs" / "workflow.schema.json").read_text(encoding="utf-8")
    assert result.output == written
    Draft202012Validator.check_schema(json.loads(written))


@pytest.mark.parametrize("text", [EXAMPLE.decode(), FULL.decode(), *(b.text for b in PAGE)])
def test_good_documents_pass(text: str) -> None:
    document = parse_yaml(text)
    assert not [error.message for error in VALIDATOR.iter_errors(document)]


@pytest.mark.parametrize("reason", VISIBLE.split())
def test_wrong_documents_do_not(reason: str) -> None:
    """Each task with a visible fault, alone in a good document, is refused."""
    document = yaml.safe_load((WRONG / f"{reason}.yaml").read_text(encoding="utf-8"))
    assert not VALIDATOR.is_valid(document)
    for task in document["tasks"]:
        if (reason, task.get("id")) in INVISIBLE:
            continue
        alone = {"name": "w", "tasks": [task]}
        assert not VALIDATOR.is_valid(alone), task


def test_every_key_has_a_description_that_is_a_sentence() -> None:
    tables = (WORKFLOW, TASK, RETRY, DEFAULTS, REPEAT, CACHE, COMPENSATE, RATE_LIMIT,
              TASK_CONCURRENCY, WORKFLOW_CONCURRENCY, *ENGINE_INPUTS.values())  # fmt: skip
    for table in tables:
        for key, entry in table.items():
            assert entry.description.endswith("."), key
            assert entry.description[0].isupper() or entry.description[0].isdigit(), key
