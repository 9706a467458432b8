"""Type hints become contracts, and inputs are checked against them with the field's name."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import orjson
import pytest

from bend import Context, Final, TerminalError, component
from bend.components import Kind, component_of, encode


@dataclass
class Box:
    width: int
    label: str = "none"


class Row(TypedDict):
    key: str
    count: NotRequired[int]


@dataclass
class Tree:
    name: str
    children: "list[Tree]"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


def schema(function: Any) -> Any:
    return orjson.loads(component_of(function).input_schema)


def test_a_signature_is_a_schema() -> None:
    @component("t.all")
    async def everything(
        context: Context,
        text: Annotated[str, "what to read"],
        number: float,
        boxes: list[Box],
        row: Row,
        mode: Literal["fast", "slow"],
        colour: Colour,
        pair: tuple[int, str],
        counts: dict[str, int],
        maybe: int | None = None,
        either: int | str = "x",
        anything: Any = None,
        untyped=7,  # type: ignore[no-untyped-def]
    ) -> dict[str, int]:
        return {}

    box = {
        "type": "object",
        "properties": {"width": {"type": "integer"}, "label": {"type": "string"}},
        "additionalProperties": False,
        "required": ["width"],
    }
    assert schema(everything) == {
        "type": "object",
        "additionalProperties": False,
        "required": ["text", "number", "boxes", "row", "mode", "colour", "pair", "counts"],
        "properties": {
            "text": {"type": "string", "description": "what to read"},
            "number": {"type": "number"},
            "boxes": {"type": "array", "items": box},
            "row": {
                "type": "object",
                "properties": {"key": {"type": "string"}, "count": {"type": "integer"}},
                "additionalProperties": False,
                "required": ["key"],
            },
            "mode": {"enum": ["fast", "slow"]},
            "colour": {"enum": ["red", "blue"]},
            "pair": {
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "minItems": 2,
                "maxItems": 2,
            },
            "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
            "maybe": {"type": ["integer", "null"], "default": None},
            "either": {"type": ["integer", "string"], "default": "x"},
            "anything": {"default": None},
            "untyped": {"default": 7},
        },
    }
    declared = component_of(everything)
    assert declared.context_name == "context"
    assert orjson.loads(declared.output_schema) == {
        "type": "object",
        "additionalProperties": {"type": "integer"},
    }


def test_values_arrive_as_their_types() -> None:
    @component("t.types")
    def types(
        box: Box, colour: Colour, at: datetime, where: Path, pair: tuple[int, str], ids: set[int]
    ) -> None: ...

    values = component_of(types).bind(
        b'{"box":{"width":3.0},"colour":"red","at":"2026-01-01T00:00:00Z","where":"/tmp",'
        b'"pair":[1,"a"],"ids":[1,1,2]}'
    )
    assert values == {
        "box": Box(3),
        "colour": Colour.RED,
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "where": Path("/tmp"),
        "pair": (1, "a"),
        "ids": {1, 2},
    }
    assert type(values["box"].width) is int


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"boxes":[{"width":1},{"width":"x"}]}', "boxes[1].width: must be an integer, is text"),
        (b'{"boxes":[{"hight":1}]}', "boxes[0].hight: is unknown; known: width, label"),
        (b'{"boxes":[{}]}', "boxes[0].width: is missing"),
        (b'{"boxes":7}', "boxes: must be a list, is a number"),
        (b"{}", "boxes: is missing"),
        (b'{"boxes":[],"flag":1}', "flag: must be true or false, is a number"),
        (b'{"boxes":[],"flag":true,"more":1}', "more: t.checked has no such input"),
        (b'{"boxes":[],"mode":"x"}', "mode: must be one of 'a', 1, is 'x'"),
        (b'{"boxes":[],"mode":true}', "mode: must be one of 'a', 1, is True"),
        (b"[1]", "the input must be an object"),
        (b"{", "the input is not JSON"),
    ],
)
def test_a_wrong_input_names_the_field(data: bytes, said: str) -> None:
    @component("t.checked")
    def checked(boxes: list[Box], flag: bool = False, mode: Literal["a", 1] = "a") -> None: ...

    with pytest.raises(TerminalError) as caught:
        component_of(checked).bind(data)
    assert caught.value.reason == "INVALID_INPUT"
    assert said in caught.value.message


def test_a_type_that_contains_itself() -> None:
    @component("t.tree")
    def walk(tree: Tree) -> int:
        return 0

    document = schema(walk)
    assert document["properties"]["tree"] == {"$ref": "#/$defs/Tree"}
    assert document["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    bound = component_of(walk).bind(
        b'{"tree":{"name":"a","children":[{"name":"b","children":[]}]}}'
    )
    assert bound["tree"] == Tree("a", [Tree("b", [])])
    with pytest.raises(TerminalError, match=r"tree\.children\[0\]\.name: is missing"):
        component_of(walk).bind(b'{"tree":{"name":"a","children":[{"children":[]}]}}')


def test_any_further_input_by_keywords() -> None:
    @component("t.open")
    def opened(first: int, **rest: Any) -> None: ...

    assert "additionalProperties" not in schema(opened)
    assert component_of(opened).bind(b'{"first":1,"more":2}') == {"first": 1, "more": 2}


def test_kinds_and_outputs_of_generators() -> None:
    @component("t.a")
    async def chunks() -> AsyncIterator[str | Final[Box]]:
        yield "x"

    @component("t.b")
    def plain_chunks() -> Iterator[int]:
        yield 1

    @component("t.c")
    async def any_final() -> AsyncIterator[str | Final]:
        yield "x"

    assert component_of(chunks).kind is Kind.ASYNC_GENERATOR
    assert component_of(plain_chunks).kind is Kind.GENERATOR
    assert orjson.loads(component_of(chunks).output_schema)["required"] == ["width"]
    assert orjson.loads(component_of(plain_chunks).output_schema) == {"type": "integer"}
    assert component_of(any_final).output_schema == b""


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "Upper.Case"}, "component name"),
        ({"name": "a.b.c.d.e"}, "component name"),
        ({"name": "a", "version": "1.0"}, r"major\.minor\.patch"),
        ({"name": "a", "labels": {str(n): "" for n in range(33)}}, "33 labels"),
    ],
)
def test_a_wrong_declaration_is_refused_at_once(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        component(**options)(lambda: None)


def test_a_type_that_is_no_json_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"t\.socket: parameter link: "):

        @component("t.socket")
        def socket(link: complex) -> None: ...

    with pytest.raises(TypeError, match="cannot be given by name"):

        @component("t.star")
        def star(*links: int) -> None: ...


def test_methods_are_components_of_their_object() -> None:
    class Model:
        def __init__(self, name: str) -> None:
            self.name = name

        @component("t.method")
        def predict(self, text: str) -> str:
            return f"{self.name}: {text}"

    declared = component_of(Model("m").predict)
    assert list(declared.parameters) == ["text"]
    assert declared.function(text="x") == "m: x"


def test_a_function_stays_callable() -> None:
    @component("t.same")
    def double(number: int) -> int:
        return number * 2

    assert double(4) == 8
    with pytest.raises(TypeError, match="decorate it with @component"):
        component_of(print)


def test_outputs_of_many_types_and_of_none() -> None:
    assert encode({"box": Box(1), "at": datetime(2026, 1, 1, tzinfo=UTC), "c": Colour.RED}) == (
        b'{"box":{"width":1,"label":"none"},"at":"2026-01-01T00:00:00+00:00","c":"red"}'
    )
    assert encode({"ids": {1}, "path": Path("/x")}) == b'{"ids":[1],"path":"/x"}'
    with pytest.raises(TerminalError) as caught:
        encode(object())
    assert caught.value.reason == "INVALID_OUTPUT"


def test_pydantic_models_when_installed() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Person(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        name: str
        age: int = pydantic.Field(ge=0)

    @component("t.person")
    def greet(person: Person) -> Person:
        return person

    assert schema(greet)["properties"]["person"]["required"] == ["name", "age"]
    bound = component_of(greet).bind(b'{"person":{"name":"Ann","age":3}}')
    assert encode(bound["person"]) == b'{"name":"Ann","age":3}'
    with pytest.raises(TerminalError, match=r"person\.age: Input should be greater"):
        component_of(greet).bind(b'{"person":{"name":"Ann","age":-3}}')


def test_the_idempotency_key_outlives_attempts() -> None:
    class Sink:
        cancelled = False

        def log(self, level: str, message: str) -> None: ...

        def beat(self) -> None: ...

    first = Context(Sink(), execution_id="e", task="t", attempt=1)
    second = Context(Sink(), execution_id="e", task="t", attempt=2)
    other = Context(Sink(), execution_id="e", task="t", item=1)
    assert first.idempotency_key == second.idempotency_key != other.idempotency_key
