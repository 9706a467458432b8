"""Document to builder to document: the same revision, whatever stands in the document."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bend import Workflow
from bend.errors import InvalidDocument
from bend.yaml_core import read_yaml, write_yaml
from bend_server.language import compile_document
from bend_server.language.json_source import BadText
from bend_server.language.keys import ENGINE_INPUTS, TASK, WORKFLOW
from bend_server.language.yaml_source import parse_yaml
from tests.kit.documents import blocks

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [
    block
    for block in blocks(ROOT / "docs" / "language.md")
    if block.language == "yaml" and block.text.startswith("name: ")
]
# Text that one of the two versions of YAML reads as something else, and other traps.
WORDS = """on yes No ~ null Null NULL true FALSE 1e3 1.e3 .5 0o17 0x1F 017 1_000 12:30 1:2:3 + - . =
    << 2026-01-31 2026-01-31T09:00:00Z .inf -.INF .nan 0b11 0 00 -0 +1 ? : # & * ! | > % @ ` {{x}}
    a:b --- ... [] {} """
TRAPS = [*WORDS.split()]
TEXTS = st.one_of(
    st.sampled_from(
        [*TRAPS, "", " ", " x", "x ", "x\ny", "\n", "a: b", "a #b", "é\U0001f600", "\t"]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS.filter(lambda text: "{{" not in text),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def canonical(data: str | bytes, content_type: str = "application/yaml") -> bytes:
    """Return what the revision's digest is made of."""
    text = data.encode() if isinstance(data, str) else data
    return compile_document(text, content_type).canonical


def check(document: str) -> None:
    flow = Workflow.from_document(document)
    wanted = canonical(document)
    assert canonical(flow.to_yaml()) == wanted
    assert canonical(flow.to_json(), "application/json") == wanted
    again = Workflow.from_document(flow.to_yaml())
    assert json.dumps(again.to_dict()) == json.dumps(flow.to_dict())


@pytest.mark.parametrize("block", EXAMPLES, ids=[block.title for block in EXAMPLES])
def test_examples_come_back(block: Any) -> None:
    check(block.text)


@given(VALUES, st.dictionaries(TEXTS, SCALARS, max_size=3))
@example({"on": "yes", "<<": {"=": 1e16}}, {"1": None, "null": 1e-7, "": True})
@settings(max_examples=150)
def test_any_input_comes_back(value: Any, more: dict[str, Any]) -> None:
    document = {
        "tasks": [{"with": {"v": value, **more}, "type": "x", "id": "a"}],
        "name": "w",
        "description": "on",
    }
    check(json.dumps(document))
    check(write_yaml(document))


@given(VALUES)
@settings(max_examples=150)
def test_what_is_written_reads_the_same_here_and_there(value: Any) -> None:
    text = write_yaml({"v": value})
    assert json.dumps(read_yaml(text)) == json.dumps({"v": value})
    assert json.dumps(parse_yaml(text)) == json.dumps({"v": value})


@pytest.mark.parametrize("text", TRAPS)
def test_plain_text_means_the_same_to_server_and_builder(text: str) -> None:
    document = f"v: {text}\n{text}: 1\n"
    try:
        here = json.dumps(parse_yaml(document))
    except BadText:
        return  # What the server refuses, the builder need not read.
    assert json.dumps(read_yaml(document)) == here


def test_the_builder_writes_every_key() -> None:
    flow = Workflow(
        "all.keys",
        description="Every key",
        labels={"team": "red"},
        input={"type": "object"},
        timeout=timedelta(hours=2),
        priority=3,
        concurrency={"key": "{{input.k}}", "limit": 2, "strategy": "queue"},
        defaults={"timeout": timedelta(seconds=30), "retry": {"initial": timedelta(seconds=2)}},
    )
    one = flow.task(
        "one",
        "http@1",
        for_each="input.rows",
        max_parallel=4,
        condition="true",
        run_if="always",
        timeout=timedelta(seconds=5),
        schedule_timeout="1m",
        heartbeat_timeout=3,
        retry={"max": timedelta(minutes=1)},
        cache={"ttl": timedelta(days=1)},
        rate_limit={"key": "k", "limit": 5, "per": timedelta(seconds=1)},
        concurrency={"key": "k", "limit": 2},
        allow_failure=True,
        requires={"zone": "a"},
        allow_unregistered=True,
        version=1,
        with_={"url": "x"},
    ).undone_by("http", url="y", timeout=timedelta(seconds=9))
    loop = {"until": "output.done", "max": 3, "delay": timedelta(milliseconds=1500)}
    flow.task("two", "x", depends_on=[one], repeat=loop, cacheable=False)
    flow.workflow("three", "sub", input={"n": one.ref()}, revision=2, timeout=timedelta(hours=1))
    flow.wait("four", timedelta(minutes=5))
    at = datetime(2026, 1, 31, 10, tzinfo=timezone(timedelta(hours=1)))
    flow.wait("five", until=at)
    flow.signal("six", "go", timeout=timedelta(days=2))
    flow.approval("seven", "Go?", assignees=("ada",), form={"type": "object"}, timeout="1d")
    alarm = flow.on_failure("eight", "mail.send")
    flow.on_failure("nine", "mail.send", depends_on=[alarm])
    flow.output(all="{{seven.approved}}")
    document = flow.to_dict()
    written = {key for task in document["tasks"] for key in task}
    assert written >= TASK.keys()
    assert written >= {key for keys in ENGINE_INPUTS.values() for key in keys}
    assert document.keys() == WORKFLOW.keys()
    assert document["defaults"] == {"timeout": "30s", "retry": {"initial": "2s"}}
    tasks = {task.id: task.document for task in flow.tasks}
    assert tasks["one"]["compensate"] == {"type": "http", "url": "y", "timeout": "9s"}
    assert tasks["one"]["rate_limit"]["per"] == "1s"
    assert tasks["two"]["repeat"]["delay"] == "1500ms"
    assert tasks["five"]["until"] == "2026-01-31T09:00:00Z"
    assert tasks["nine"]["depends_on"] == ["eight"]
    check(flow.to_yaml())


def test_the_builder_of_the_docs_builds() -> None:
    page = ROOT / "docs" / "python-sdk.md"
    section = page.read_text(encoding="utf-8").split("## The workflow builder")[1]
    code = [block for block in blocks(page) if block.language == "python"]
    names: dict[str, Any] = {}
    for block in code:
        if block.text in section.split("\n## ")[0]:
            exec(block.text, names)
    flow = names["flow"]
    assert [task.id for task in flow.tasks] == ["fetch", "write", "ask", "send", "tell"]
    check(flow.to_yaml())


def test_a_document_is_changed_and_extended() -> None:
    flow = Workflow.from_document("name: w\non_failure: []\ntasks:\n- {id: a, type: x, v: 1}\n")
    flow["a"].document["v"] = 2
    flow.task("b", "y", depends_on=["a"])
    flow.on_failure("c", "z")
    assert flow.to_dict() == {
        "name": "w",
        "on_failure": [{"id": "c", "type": "z"}],
        "tasks": [{"id": "a", "type": "x", "v": 2}, {"id": "b", "type": "y", "depends_on": ["a"]}],
    }
    assert [task.id for task in flow.tasks] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="'a' is taken"):
        flow.on_failure("a", "x")
    with pytest.raises(ValueError, match="on_failure: pause"):
        Workflow("w", on_failure="pause").on_failure("a", "x")
    with pytest.raises(ValueError, match="time zone"):
        flow.wait("d", until=datetime(2026, 1, 31, tzinfo=UTC).replace(tzinfo=None))


@pytest.mark.parametrize(
    "text",
    [
        "- a",
        "a: [",
        "{",
        '{"a": 1, "a": 2}',
        "a: 1\na: 2",
        "? [a]\n: 1",
        "name: w\ntasks: 5",
        "name: w\ntasks: [5]",
        "name: w\ntasks: [{type: x}]",
        "v: .inf",
        "v: !!python/name:os.system ''",
        "v: !!binary aGk=",
        "v: !!timestamp 2026-01-31",
        "v: &a [*a]",
    ],
)
def test_what_is_no_workflow_is_refused(text: str) -> None:
    with pytest.raises(InvalidDocument):
        Workflow.from_document(text)
