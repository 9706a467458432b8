"""If these fail, a release breaks running workflows, or a harmless one is refused."""

import json
import random

import pytest
from jsonschema import Draft202012Validator

from bend_server.registry.compatibility import Change, Kind, changes, field_path
from tests.kit.seeds import chance_of

Schema = dict | bool


def thing(required: list[str] | None = None, **properties: Schema) -> dict:
    return {"type": "object", "properties": properties, "required": required or []}


TEXT = {"type": "string"}
COUNT = {"type": "integer"}


def between(old: Schema, new: Schema, *, output: bool = False) -> list[Change]:
    before, after = json.dumps(old).encode(), json.dumps(new).encode()
    if output:
        return changes(b"", b"", before, after)
    return changes(before, after, b"", b"")


BREAKING_INPUTS = [
    (thing(a=TEXT, b=COUNT), thing(a=TEXT), "INPUT_REMOVED", "$.input.b"),
    (thing(["a"], a=COUNT, b=TEXT), thing(["c"], c=COUNT, b=TEXT), "INPUT_RENAMED", "$.input.a"),
    (thing(a=TEXT), thing(["a"], a=TEXT), "INPUT_REQUIRED", "$.input.a"),
    (thing(), thing(["a"], a=TEXT), "INPUT_REQUIRED", "$.input.a"),
    (thing(a={"type": ["string", "null"]}), thing(a=TEXT), "INPUT_TYPE_NARROWED", "$.input.a"),
    (thing(a={"type": "number"}), thing(a=COUNT), "INPUT_TYPE_NARROWED", "$.input.a"),
    (True, thing(), "INPUT_TYPE_NARROWED", "$.input"),
    (
        thing(a={"enum": ["x", "y"]}),
        thing(a={"enum": ["x"]}),
        "INPUT_VALUES_NARROWED",
        "$.input.a",
    ),
    (thing(a=TEXT), thing(a={"const": "x"}), "INPUT_VALUES_NARROWED", "$.input.a"),
    (thing(a={"enum": [1]}), thing(a={"enum": [True]}), "INPUT_VALUES_NARROWED", "$.input.a"),
    (thing(), {**thing(), "additionalProperties": False}, "INPUT_CLOSED", "$.input"),
    (
        thing(a={"type": "array", "items": thing(x=TEXT)}),
        thing(a={"type": "array", "items": thing(["x"], x=TEXT)}),
        "INPUT_REQUIRED",
        "$.input.a[*].x",
    ),
    (
        {"type": "object", "additionalProperties": TEXT},
        {"type": "object", "additionalProperties": COUNT},
        "INPUT_TYPE_NARROWED",
        "$.input.*",
    ),
    (
        {"prefixItems": [TEXT]},
        {"prefixItems": [COUNT]},
        "INPUT_TYPE_NARROWED",
        "$.input[0]",
    ),
    (
        {"$ref": "#/$defs/a", "$defs": {"a": thing(x=TEXT)}},
        {"$ref": "#/$defs/b", "$defs": {"b": thing(x=COUNT)}},
        "INPUT_TYPE_NARROWED",
        "$.input.x",
    ),
    ({"anyOf": [TEXT, COUNT]}, {"anyOf": [COUNT]}, "INPUT_TYPE_NARROWED", "$.input"),
    (
        {"allOf": [thing(a=TEXT), thing(b=TEXT)]},
        {"allOf": [thing(a=TEXT)]},
        "INPUT_REMOVED",
        "$.input.b",
    ),
    *(
        (thing(a={key: old}), thing(a={key: new}), "INPUT_BOUNDS_NARROWED", "$.input.a")
        for key, old, new in (
            ("minimum", 1, 2),
            ("exclusiveMinimum", 1, 2),
            ("maximum", 5, 4),
            ("exclusiveMaximum", 5, 4),
            ("minLength", 1, 2),
            ("maxLength", 9, 8),
            ("minItems", 1, 2),
            ("maxItems", 9, 8),
            ("minProperties", 1, 2),
            ("maxProperties", 9, 8),
            ("multipleOf", 2, 3),
            ("pattern", "^a", "^b"),
            ("format", "date", "uri"),
            ("uniqueItems", False, True),
        )
    ),
    (thing(a=TEXT), thing(a={**TEXT, "maxLength": 9}), "INPUT_BOUNDS_NARROWED", "$.input.a"),
    (thing(a=COUNT), thing(a={**COUNT, "minimum": 0}), "INPUT_BOUNDS_NARROWED", "$.input.a"),
]


@pytest.mark.parametrize(("old", "new", "kind", "path"), BREAKING_INPUTS)
def test_what_breaks_callers_is_named(old: Schema, new: Schema, kind: str, path: str) -> None:
    assert (kind, path) in [(one.kind.name, one.path) for one in between(old, new) if one.breaking]


BREAKING_OUTPUTS = [
    (thing(a=TEXT, b=COUNT), thing(a=TEXT), "OUTPUT_REMOVED", "$.output.b"),
    (thing(["a"], a=COUNT), thing(["c"], c=COUNT), "OUTPUT_RENAMED", "$.output.a"),
    (thing(["a"], a=TEXT), thing(a=TEXT), "OUTPUT_OPTIONAL", "$.output.a"),
    (thing(a=COUNT), thing(a={"type": "number"}), "OUTPUT_TYPE_WIDENED", "$.output.a"),
    (thing(a=TEXT), thing(a={"type": ["string", "null"]}), "OUTPUT_TYPE_WIDENED", "$.output.a"),
    (thing(a=TEXT), True, "OUTPUT_REMOVED", "$.output.a"),
    (
        thing(a={"enum": ["x"]}),
        thing(a={"enum": ["x", "y"]}),
        "OUTPUT_VALUES_WIDENED",
        "$.output.a",
    ),
    (thing(a={"const": "x"}), thing(a=TEXT), "OUTPUT_VALUES_WIDENED", "$.output.a"),
    (thing(a={"maximum": 1}), thing(a={"maximum": 2}), "OUTPUT_BOUNDS_WIDENED", "$.output.a"),
    (thing(a={"minItems": 1}), thing(a={}), "OUTPUT_BOUNDS_WIDENED", "$.output.a"),
    ({"anyOf": [COUNT]}, {"anyOf": [COUNT, TEXT]}, "OUTPUT_TYPE_WIDENED", "$.output"),
]


@pytest.mark.parametrize(("old", "new", "kind", "path"), BREAKING_OUTPUTS)
def test_what_breaks_readers_is_named(old: Schema, new: Schema, kind: str, path: str) -> None:
    found = [(one.kind.name, one.path) for one in between(old, new, output=True) if one.breaking]
    assert (kind, path) in found


HARMLESS = [
    (thing(a=TEXT), thing(a=TEXT, b=COUNT), False, "ADDED"),
    (thing(["a"], a=TEXT), thing(a=TEXT), False, "EASED"),
    (thing(a=COUNT), thing(a={"type": "number"}), False, "EASED"),
    (thing(a={"enum": ["x"]}), thing(a={"enum": ["y", "x"]}), False, "EASED"),
    (thing(a={"minimum": 2}), thing(a={"minimum": 1}), False, "EASED"),
    (thing(a={"minimum": 2}), thing(a={"exclusiveMinimum": 1}), False, "EASED"),
    (thing(a={"multipleOf": 6}), thing(a={"multipleOf": 3}), False, "EASED"),
    (thing(a=TEXT), thing(a={**TEXT, "minLength": 0}), False, "EASED"),
    ({**thing(), "additionalProperties": False}, thing(), False, None),
    ({"anyOf": [COUNT]}, {"anyOf": [TEXT, COUNT]}, False, None),
    (COUNT, {"anyOf": [TEXT, COUNT]}, False, None),
    (thing(a={"not": TEXT}), thing(a={"not": COUNT}), False, "UNDECIDED"),
    (thing(a=TEXT), thing(a={**TEXT, "description": "d", "default": "e"}), False, None),
    (thing(a=TEXT), thing(a=TEXT, b=COUNT), True, "ADDED"),
    (thing(a=TEXT), thing(["a"], a=TEXT), True, "EASED"),
    (thing(a={"type": "number"}), thing(a=COUNT), True, "EASED"),
    ({**thing(a=TEXT), "additionalProperties": False}, thing(a=TEXT, b=TEXT), True, "ADDED"),
    (True, thing(["a"], a=TEXT), True, "ADDED"),
    (thing(a={"maximum": 2}), thing(a={"exclusiveMaximum": 2}), True, "EASED"),
]


@pytest.mark.parametrize(("old", "new", "output", "kind"), HARMLESS)
def test_what_breaks_nobody_is_let_through(
    old: Schema, new: Schema, output: bool, kind: str | None
) -> None:
    found = between(old, new, output=output)
    assert not [one for one in found if one.breaking]
    assert kind is None or kind in {one.kind.name for one in found}


def test_equal_schemas_have_no_changes() -> None:
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {"node": thing(["v"], v=TEXT, left={"$ref": "#/$defs/node"})},
    }
    for schema in (True, False, {}, thing(a=TEXT), tree, {"anyOf": [TEXT, thing(a=COUNT)]}):
        assert between(schema, schema) == []
        assert between(schema, schema, output=True) == []


def test_a_schema_that_refers_to_itself_is_compared_to_its_end() -> None:
    def tree(value: Schema) -> dict:
        node = thing(["v"], v=value, left={"$ref": "#/$defs/node"})
        return {"$ref": "#/$defs/node", "$defs": {"node": node}}

    (change,) = between(tree({"type": "number"}), tree(COUNT))
    assert (change.kind, change.path) == (Kind.INPUT_TYPE_NARROWED, "$.input.v")


def test_small_documents_that_unfold_without_end_are_bounded() -> None:
    """A registration must not take a registry's only loop for minutes."""

    def doubling(kind: str, leaf: Schema) -> dict:
        defs: dict = {"d40": leaf}
        for number in range(40):
            after = {"$ref": f"#/$defs/d{number + 1}"}
            two = {"allOf": [after, after]} if kind == "allOf" else thing(x=after, y=after)
            defs[f"d{number}"] = two
        return {"$ref": "#/$defs/d0", "$defs": defs}

    for kind in ("allOf", "properties"):
        found = between(doubling(kind, TEXT), doubling(kind, TEXT))
        assert not [one for one in found if one.breaking]


def test_paths_can_be_pasted() -> None:
    assert field_path("$.input", "a_b1") == "$.input.a_b1"
    assert field_path("$.input", "a b") == '$.input["a b"]'
    assert field_path("$.input", "1st") == '$.input["1st"]'


def random_schema(rng: random.Random, depth: int = 0) -> dict:
    kind = rng.choice(["string", "integer", "number", "object", "array", "null"])
    if kind == "string":
        return {"type": kind, "maxLength": rng.randint(0, 3), "minLength": rng.randint(0, 1)}
    if kind in ("integer", "number"):
        return {"type": kind, "minimum": rng.randint(-2, 1), "maximum": rng.randint(1, 3)}
    if kind == "object" and depth < 2:
        names = rng.sample("ab", rng.randint(0, 2))
        properties = {name: random_schema(rng, depth + 1) for name in names}
        closed = {"additionalProperties": False} if rng.random() < 0.5 else {}
        return {**thing(rng.sample(names, rng.randint(0, len(names))), **properties), **closed}
    if kind == "array" and depth < 2:
        return {"type": kind, "items": random_schema(rng, depth + 1), "maxItems": rng.randint(0, 2)}
    return {"enum": rng.sample([None, 1, "a", True], rng.randint(1, 3))}


def random_value(rng: random.Random, depth: int = 0) -> object:
    simple = [None, True, -1, 0, 1, 2, 1.5, "", "a", "aaa"]
    if depth < 2 and rng.random() < 0.4:
        return {name: random_value(rng, depth + 1) for name in rng.sample("abc", rng.randint(0, 2))}
    if depth < 2 and rng.random() < 0.2:
        return [random_value(rng, depth + 1) for _ in range(rng.randint(0, 2))]
    return rng.choice(simple)


def gave_more_than_listed(value: object, old: dict, new: dict) -> bool:
    """Tell whether a value has a field that only the newer contract lists.

    An open contract let it pass; a release may still give such a name a meaning (Kind.ADDED).
    """
    if isinstance(value, dict):
        before, after = old.get("properties", {}), new.get("properties", {})
        if any(name in after and name not in before for name in value):
            return True
        return any(
            gave_more_than_listed(inner, before[name], after[name])
            for name, inner in value.items()
            if name in before and name in after
        )
    if isinstance(value, list):
        items = old.get("items", {}), new.get("items", {})
        return any(gave_more_than_listed(inner, *items) for inner in value)
    return False


def test_what_is_called_compatible_takes_all_that_was_taken() -> None:
    """Judged by a validator: the rules may be stricter than sets, never laxer.

    The one exception is a new optional field of an open contract.
    """
    seed, rng = chance_of("compatible schemas")
    values = [random_value(rng) for _ in range(150)]
    compatible = 0
    for _ in range(400):
        old, new = random_schema(rng), random_schema(rng)
        if rng.random() < 0.7:
            new = {**old, **{key: new[key] for key in new if key in old and key != "properties"}}
        if any(one.breaking for one in between(old, new)):
            continue
        compatible += 1
        takes_old, takes_new = Draft202012Validator(old), Draft202012Validator(new)
        for value in values:
            if gave_more_than_listed(value, old, new):
                continue
            assert not takes_old.is_valid(value) or takes_new.is_valid(value), (
                seed, old, new, value,
            )  # fmt: skip
    assert compatible > 20, seed
