"""If these fail, a wrong contract is stored, or a right one is refused at every reconnect."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bend_server.core.errors import InvalidInput
from bend_server.registry.contracts import Contract, check_schema, contract_row, digest, version_key

GOOD = b'{"type": "object", "properties": {"a": {"type": "integer"}}}'


def contract(**changes: object) -> Contract:
    whole = Contract("a.b", "1.2.3", "text", GOOD, b"", False, False)
    return whole._replace(**changes)


def test_versions_are_ordered_by_number() -> None:
    assert version_key("1.10.0") > version_key("1.9.99")
    for wrong in ("1.2", "1.2.x", "1.2.3.4", "", "1.2.³"):
        with pytest.raises(InvalidInput):
            version_key(wrong)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "object or a boolean"),
        (b'{"const": NaN}', "not JSON"),
        (b'{"title": "\\ud800"}', "not JSON"),
        (b'{"type": "strange"}', "no JSON Schema"),
        (b'{"properties": {"a": 3}}', "field.properties.a"),
        (b'{"$ref": "http://elsewhere/x"}', "leads out"),
        (b'{"items": {"$ref": "file:///etc/passwd"}}', "leads out"),
        (b'{"items": ' * 70 + b"{}" + b"}" * 70, "deeper"),
        (b'"' + b"x" * 300_000 + b'"', "the limit is"),
    ],
)
def test_wrong_schemas_are_refused_with_a_place(schema: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check_schema(schema, "field")


def test_good_schemas_pass() -> None:
    for schema in (b"", b"true", GOOD, b'{"$ref": "#/$defs/x", "$defs": {"x": {}}}'):
        check_schema(schema, "field")


def test_only_what_counts_is_in_the_digest() -> None:
    same = json.dumps(json.loads(GOOD), indent=4, sort_keys=True).encode()
    assert digest(contract()) == digest(contract(description="other words", input_schema=same))
    for change in (
        {"version": "1.2.4"},
        {"input_schema": b"true"},
        {"output_schema": b"true"},
        {"long_running": True},
        {"heartbeats": True},
    ):
        assert digest(contract()) != digest(contract(**change)), change


def test_a_row_holds_the_contract() -> None:
    row = contract_row("default", contract(), 7)
    assert (row.name, row.version, row.major, row.created_us) == ("a.b", "1.2.3", 1, 7)
    assert json.loads(row.contract)["description"] == "text"
    assert row.input_schema == GOOD


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_is_refused_or_passes_but_never_breaks(data: bytes) -> None:
    found: InvalidInput | None = None
    try:
        check_schema(data, "field")
    except InvalidInput as error:
        found = error
    assert found is None or found.metadata["field"].startswith("field")
