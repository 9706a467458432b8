"""Parameters: strict JSON, the input schema, defaults of top-level properties."""

import json

import orjson
import pytest

from bend_server.core.errors import InvalidInput, LimitExceeded
from bend_server.language import Definition, compile_document

SCHEMA = {
    "type": "object",
    "required": ["indicator"],
    "properties": {
        "indicator": {"type": "string", "pattern": "^[0-9.]+$"},
        "limit": {"type": "integer", "default": 10},
        "nested": {"type": "object", "properties": {"deep": {"type": "array"}}},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "default": ["new"]},
    },
    "patternProperties": {"^x_": {"type": "integer"}},
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string", "maxLength": 5}},
}


def definition(schema: object = None) -> Definition:
    document: dict[str, object] = {"name": "w", "tasks": [{"id": "a", "type": "x"}]}
    if schema is not None:
        document["input"] = schema
    return compile_document(json.dumps(document).encode(), "application/json")


@pytest.mark.parametrize("data", [b"", b"  "])
def test_no_parameters_are_an_empty_map(data: bytes) -> None:
    assert definition().check_parameters(data) == b"{}"


def test_without_a_schema_parameters_stay_as_they_are() -> None:
    data = b'{"n":  123456789012345678901234567890, "f": 1.50}'
    assert definition().check_parameters(data) == data


def test_defaults_are_filled_in() -> None:
    data = definition(SCHEMA).check_parameters(b'{"indicator": "1.2", "x_n": 5}')
    assert orjson.loads(data) == {"indicator": "1.2", "x_n": 5, "limit": 10, "tags": ["new"]}


def test_defaults_keep_the_digits_of_integers() -> None:
    data = definition({"properties": {"a": {"default": 1}}}).check_parameters(
        b'{"n": 123456789012345678901234567890}'
    )
    assert data == b'{"n":123456789012345678901234567890,"a":1}'


WRONG = [
    (b'{"indicator": 5}', "input.indicator", "type"),
    (b'{"indicator": "x"}', "input.indicator", "pattern"),
    (b"{}", "input", "required"),
    (b'{"indicator": "1", "nope": 1}', "input", "additionalProperties"),
    (b'{"indicator": "1", "nested": {"deep": 1}}', "input.nested.deep", "type"),
    (b'{"indicator": "1", "tags": ["abc", "abcdef"]}', "input.tags[1]", "maxLength"),
    (b'{"indicator": "1", "x_n": "5"}', "input.x_n", "type"),
    (b"[]", "input", "type"),
]


@pytest.mark.parametrize(("data", "path", "keyword"), WRONG, ids=[str(case[0]) for case in WRONG])
def test_what_the_schema_refuses_has_a_path(data: bytes, path: str, keyword: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        definition(SCHEMA).check_parameters(data)
    assert caught.value.reason == "INVALID_PARAMETERS"
    assert caught.value.metadata["path"] == path
    assert caught.value.metadata["keyword"] == keyword
    assert caught.value.message.startswith(path)


BROKEN = [
    (b'{"a": 1, "a": 2}', "DUPLICATE_KEY", "1", "10"),
    (b'{"a": 1e999}', "BAD_NUMBER", "1", "7"),
    (b'{"a":\n "\\u0000"}', "BAD_TEXT", "2", "2"),
    (b'{"a": \xff}', "BAD_ENCODING", "1", "7"),
    (b"{", "SYNTAX", "1", "2"),
    (b"[" * 100, "TOO_DEEP", "1", "66"),
]


@pytest.mark.parametrize(
    ("data", "finding", "line", "column"), BROKEN, ids=[case[1] for case in BROKEN]
)
def test_what_is_no_clean_json_has_a_place(
    data: bytes, finding: str, line: str, column: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        definition().check_parameters(data)
    metadata = caught.value.metadata
    assert caught.value.reason == "INVALID_PARAMETERS"
    assert (metadata["finding"], metadata["line"], metadata["column"]) == (finding, line, column)


def test_too_many_bytes_are_refused_with_limit_and_size() -> None:
    with pytest.raises(LimitExceeded) as caught:
        definition().check_parameters(b'"' + b"x" * 1024 * 1024 + b'"')
    assert caught.value.reason == "TOO_LARGE"
    assert (caught.value.metadata["limit"], caught.value.metadata["size"]) == ("1048576", "1048578")


def test_a_schema_whose_references_double_is_stopped() -> None:
    both = lambda name: {"allOf": [{"$ref": f"#/$defs/{name}"}] * 2}  # noqa: E731
    schema = {"$defs": {f"d{n}": both(f"d{n + 1}") for n in range(40)}, "$ref": "#/$defs/d0"}
    schema["$defs"]["d40"] = {"type": "string"}  # type: ignore[index]
    with pytest.raises(InvalidInput, match="do not come to an end"):
        definition(schema).check_parameters(b'"x"')


def test_a_pattern_cannot_run_away() -> None:
    schema = {"properties": {"a": {"pattern": "^(a+)+$"}}}
    with pytest.raises(InvalidInput) as caught:
        definition(schema).check_parameters(json.dumps({"a": "a" * 50_000 + "b"}).encode())
    assert caught.value.metadata["keyword"] == "pattern"
