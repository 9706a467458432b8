"""Arbitrary input never raises anything but InvalidDocument, and every finding has a place."""

import json
from collections.abc import Callable, Iterator

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bend_server.core.errors import Finding, InvalidDocument, InvalidInput
from bend_server.core.plan import ExpressionError, TaskPlan
from bend_server.language import Definition, compile_document
from bend_server.language.keys import (
    CACHE,
    COMPENSATE,
    ENGINE_INPUTS,
    RATE_LIMIT,
    REPEAT,
    TASK,
    WORKFLOW,
    WORKFLOW_CONCURRENCY,
)
from tests.language.scopes import FakeScope

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["5s", "{{a.x}}", "{{", "a", "b", "http@2", "{{secrets.K}}", "a.x > 1"]),
    st.sampled_from(["wait", "signal", "approval", "workflow", "{{item.x}}", "iteration < 2"]),
    st.sampled_from(["pause", "namespace", "queue", "2026-01-31T09:00:00Z", "output.x == 1"]),
)
INNER = sorted({*CACHE, *COMPENSATE, *RATE_LIMIT, *REPEAT, *WORKFLOW_CONCURRENCY})
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(INNER), st.text(max_size=8)), inner, max_size=4),
    ),
    max_leaves=8,
)
OWN = sorted({*TASK, *(key for keys in ENGINE_INPUTS.values() for key in keys)})
TASKS = st.dictionaries(st.one_of(st.sampled_from(OWN), st.text(max_size=6)), VALUES, max_size=6)
DOCUMENTS = st.dictionaries(
    st.one_of(st.sampled_from(sorted(WORKFLOW)), st.text(max_size=6)), VALUES, max_size=6
)
WORDS = """a b input tasks secrets item . [ ] ( ) { } , : ? + - * / % ! == != < >= && || in 1
    2.5 'x' "y" has map filter all exists size matches string x {{ }} true null // r"""
PIECES = st.sampled_from([*WORDS.split(), "\n"])


def findings(data: bytes, content_type: str) -> list[Finding]:
    """Compile, plan and compile again; return the findings of a refusal."""
    try:
        definition = compile_document(data, content_type)
    except InvalidDocument as error:
        return error.findings
    plan = definition.plan("n", 1, {})
    components = {task.component for task in plan.tasks} - {""}
    assert {use.name for use in definition.components} == components
    again = compile_document(definition.canonical, "application/json")
    assert again.canonical == definition.canonical
    return []


def check(data: bytes, content_type: str) -> None:
    """Compile; a refusal has to say where."""
    found = findings(data, content_type)
    assert len(found) <= 100
    for finding in found:
        assert finding.reason.isupper()
        assert finding.message.isprintable()
        assert finding.line >= 1
        assert finding.column >= 1


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/yaml"]))
@example(b"\xef\xbb\xbf", "application/yaml")
@example(b"\xff\xfe{\x00}\x00", "application/json")
@example(b"%YAML 1.1\n---\n", "application/yaml")
@example(b"&a [*a, ? ]", "application/yaml")
def test_arbitrary_bytes(data: bytes, content_type: str) -> None:
    check(data, content_type)


@given(st.text(alphabet=st.sampled_from("ab:-?[]{},&*!|>%@`'\"# \n\t\\\0é\ud83d~<.1"), max_size=60))
def test_arbitrary_marks(text: str) -> None:
    data = text.encode("utf-8", errors="surrogatepass")
    check(data, "application/yaml")
    check(data, "application/json")


@given(DOCUMENTS, st.lists(TASKS, max_size=4))
@settings(max_examples=200)
def test_arbitrary_documents(document: dict[str, object], tasks: list[dict[str, object]]) -> None:
    whole = {"name": "w", **document, "tasks": tasks}
    check(json.dumps(whole).encode(), "application/json")
    check(json.dumps(whole).encode(), "application/yaml")


def said_by(evaluate: Callable[[], object]) -> str:
    """Return what an evaluation's error says, nothing when there is none."""
    try:
        evaluate()
    except ExpressionError as error:
        return str(error)
    return ""


@given(st.lists(PIECES, max_size=16))
@settings(max_examples=400)
def test_arbitrary_expressions(pieces: list[str]) -> None:
    expression = " ".join(pieces)
    document = {
        "name": "w",
        "tasks": [
            {"id": "a", "type": "x"},
            {"id": "b", "type": "x", "v": "{{" + expression + "}}", "condition": expression},
        ],
    }
    data = json.dumps(document).encode()
    check(data, "application/json")
    try:
        task = compile_document(data, "application/json").plan("n", 1, {}).tasks[1]
    except InvalidDocument:
        return
    scope = FakeScope({"x": [1, "y"]}, {0: {"x": 1, "b": [{"y": 2}]}})
    said = said_by(lambda: task.render(scope))
    assert not said or said.startswith("task b, tasks[1].v: ")
    judge = task.condition
    if judge is not None:
        said = said_by(lambda: judge(scope))
        assert not said or said.startswith("task b, condition ")


CONTROL_WORDS = [*WORDS.split(), "item", "index", "iteration", "output", ".x", "[0]", "input.x"]


@given(st.lists(st.sampled_from(CONTROL_WORDS), max_size=8), VALUES, VALUES)
@settings(max_examples=200)
def test_arbitrary_expressions_of_control_flow(
    pieces: list[str], item: object, output: object
) -> None:
    """Whatever compiles gives a value of its kind, or an ExpressionError that names the task."""
    text = " ".join(pieces)
    template = "{{" + text + "}}"
    slot = {"key": template, "limit": 1}
    for keys in (
        {"for_each": text, "type": "x"},
        {"for_each": "[1]", "v": template, "compensate": {"type": "x", "v": template}},
        {"for_each": "[1]", "repeat": {"until": text, "max": 2}, "concurrency": slot},
    ):
        tasks = [{"id": "a", "type": "x"}, {"id": "b", "type": "x", **keys}]
        data = json.dumps({"name": "w", "tasks": tasks, "concurrency": slot}).encode()
        check(data, "application/json")
        try:
            plan = compile_document(data, "application/json").plan("n", 1, {})
        except InvalidDocument:
            continue
        scope = FakeScope({"x": [1, "y"]}, {0: {"x": 1}})
        scope.item, scope.index = json.dumps(item, default=str).encode(), 3
        for said in evaluated(plan.tasks[1], scope, json.dumps(output).encode()):
            assert not said or said.startswith("task b")


def evaluated(task: TaskPlan, scope: FakeScope, output: bytes) -> Iterator[str]:
    """Yield what each evaluation of a task says, nothing when it gives what it has to."""
    yield said_by(lambda: task.render(scope).data)
    if task.for_each is not None:
        make = task.for_each
        yield said_by(lambda: list_of_bytes(make(scope)))
    if task.repeat is not None:
        judge = task.repeat.goes_on
        yield said_by(lambda: {True: 1, False: 0}[judge(scope, output)])
    for slot in task.slots:
        yield said_by(lambda key=slot.key: key(scope) + "")  # type: ignore[misc]


def list_of_bytes(items: list[bytes]) -> bool:
    """Check that items are JSON."""
    return all(json.loads(item) is not None or item == b"null" for item in items)


@given(st.binary(max_size=100))
def test_arbitrary_parameters(data: bytes) -> None:
    schema = {"type": ["object", "array"], "properties": {"a": {"type": "integer", "default": 1}}}
    document = {"name": "w", "input": schema, "tasks": [{"id": "a", "type": "x"}]}
    definition = compile_document(json.dumps(document).encode(), "application/json")
    assert json.loads(accepted(definition, data)) is not None


def accepted(definition: Definition, data: bytes) -> bytes:
    """Return checked parameters; a refusal has its reason and becomes a map."""
    try:
        return definition.check_parameters(data)
    except InvalidInput as error:
        return json.dumps({"reason": {"INVALID_PARAMETERS": 1}[error.reason]}).encode()


@given(VALUES, VALUES)
def test_arbitrary_schemas(schema: object, value: object) -> None:
    document = {"name": "w", "input": schema, "tasks": [{"id": "a", "type": "x"}]}
    data = json.dumps(document).encode()
    check(data, "application/json")
    try:
        definition = compile_document(data, "application/json")
        definition.check_parameters(json.dumps(value).encode())
    except (InvalidDocument, InvalidInput):
        return
