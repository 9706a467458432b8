"""One JSON Schema as comparisons see it: references followed, `allOf` merged, the rest by kind."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import orjson

from bend_server.registry.bounds import KEYS

ALL_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
REFERENCES_MAX = 32
MERGES_MAX = 20_000
# Said about a value, not asked of it.
_WORDS = frozenset(
    (
        "$anchor",
        "$comment",
        "$defs",
        "$id",
        "$schema",
        "$vocabulary",
        "contentEncoding",
        "contentMediaType",
        "default",
        "definitions",
        "deprecated",
        "description",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    )
)
_READ = frozenset(
    (
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "enum",
        "items",
        "oneOf",
        "prefixItems",
        "properties",
        "required",
        "type",
    )
)

# By the first character of the JSON; 1.0 is an integer too.
_TYPES: dict[str, frozenset[str]] = {
    **dict.fromkeys("-0123456789", frozenset(("integer", "number"))),
    '"': frozenset(("string",)),
    "[": frozenset(("array",)),
    "f": frozenset(("boolean",)),
    "n": frozenset(("null",)),
    "t": frozenset(("boolean",)),
    "{": frozenset(("object",)),
}


class View:
    """What a schema asks of a value.

    `types` are the names it takes; `values` the canonical JSON of an enum, None without one;
    `bounds` the keywords of bounds.KEYS; `others` the schema of fields that are not listed;
    `prefix` and `items` those of elements; `branches` the alternatives of anyOf or oneOf, each
    merged with the rest; `opaque` what cannot be judged.
    """

    __slots__ = (
        "bounds",
        "branches",
        "identity",
        "items",
        "name",
        "opaque",
        "others",
        "prefix",
        "properties",
        "required",
        "types",
        "values",
    )

    def __init__(self, schema: dict[str, Any], identity: int) -> None:
        self.identity = identity
        self.values = _values(schema)
        self.types = _types(schema.get("type")) & _types_of(self.values)
        self.bounds = {key: schema[key] for key in KEYS if key in schema}
        self.properties: dict[str, Any] = schema.get("properties", {})
        self.required = frozenset(schema.get("required", ()))
        self.others: Any = schema.get("additionalProperties", True)
        self.prefix: list[Any] = schema.get("prefixItems", [])
        self.items: Any = schema.get("items", True)
        self.branches: list[View] = []
        self.name = str(schema.get("title", ""))[:60]
        left = schema.keys() - _READ - _WORDS - self.bounds.keys()
        self.opaque = {key: schema[key] for key in left}

    def alternatives(self) -> list["View"]:
        """Return the alternatives; a schema without any is its own."""
        return self.branches or [self]

    def item(self, place: int) -> Any:
        """Return the schema of an element."""
        return self.prefix[place] if place < len(self.prefix) else self.items

    def type_text(self) -> str:
        """Return the types as people read them."""
        return "anything" if self.types == ALL_TYPES else " or ".join(sorted(self.types))

    def title(self) -> str:
        """Return a name for an alternative; "" when it has none."""
        return self.name or ("" if self.types == ALL_TYPES else self.type_text())


class Resolver:
    """Makes views of one document's schemas."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self._views: dict[int, View] = {}
        # Schemas that were put together here; ids are unique as long as they live.
        self._kept: list[dict[str, Any]] = []
        self._left = MERGES_MAX

    def view(self, schema: Any) -> View:
        """Return the view of a schema of this document."""
        for _ in range(REFERENCES_MAX):
            # A mere reference is what it names, so that a cycle is seen as one.
            if not isinstance(schema, dict) or schema.keys() - _WORDS != {"$ref"}:
                break
            schema = self._found(str(schema["$ref"]))
        known = self._views.get(id(schema)) if isinstance(schema, dict) else None
        if known is not None:
            return known
        merged = self._merged(schema, 0)
        self._kept.append(merged)
        view = View(merged, id(merged))
        for key in ("anyOf", "oneOf"):
            if merged.get(key):
                rest = {name: value for name, value in merged.items() if name != key}
                view.branches = [self._branch(rest, one) for one in merged[key]]
                break
        if isinstance(schema, dict):
            self._views[id(schema)] = view
        return view

    def _branch(self, rest: dict[str, Any], one: Any) -> View:
        merged = _joined(rest, self._merged(one, 0))
        self._kept.append(merged)
        view = View(merged, id(merged))
        for key in ("anyOf", "oneOf"):
            # Alternatives of alternatives are not taken apart.
            if key in merged:
                view.opaque[key] = merged[key]
        return view

    def _merged(self, schema: Any, depth: int) -> dict[str, Any]:
        self._left -= 1
        if schema is True or depth > REFERENCES_MAX or self._left < 0:
            return {}
        if not isinstance(schema, dict):
            return {"enum": []}
        found = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        for part in self._parts(schema):
            found = _joined(found, self._merged(part, depth + 1))
        return found

    def _parts(self, schema: dict[str, Any]) -> Iterator[Any]:
        target = schema.get("$ref")
        if isinstance(target, str):
            yield self._found(target)
        yield from schema.get("allOf", ())

    def _found(self, target: str) -> Any:
        """Follow a reference inside the document; one that leads nowhere allows anything."""
        place = self.root
        for part in target.removeprefix("#").split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(place, list) and key.isdecimal() and int(key) < len(place):
                place = place[int(key)]
            elif isinstance(place, dict) and key in place:
                place = place[key]
            else:
                return True
        return place


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that asks what both ask, as far as that can be written as one."""
    joined = dict(one)
    for key, value in other.items():
        if key not in joined or joined[key] == value:
            joined[key] = value
        elif key == "properties":
            both = joined[key].keys() & value.keys()
            joined[key] = {**joined[key], **value} | {
                name: {"allOf": [joined[key][name], value[name]]} for name in both
            }
        elif key == "required":
            joined[key] = [*joined[key], *value]
        elif key == "type":
            joined[key] = sorted(_types(joined[key]) & _types(value))
        elif key not in _WORDS:
            # Both have a say; only equal ones can be compared.
            kept = joined.setdefault("allOf of " + key, [])
            kept += [joined[key], value]
    return joined


def _types(given: Any) -> frozenset[str]:
    if given is None:
        return ALL_TYPES
    named = frozenset((given,)) if isinstance(given, str) else frozenset(given)
    # Every integer is a number.
    return named | {"integer"} if "number" in named else named


def _types_of(values: tuple[str, ...] | None) -> frozenset[str]:
    if values is None:
        return ALL_TYPES
    return frozenset().union(*(_TYPES[text[0]] for text in values))


def _values(schema: dict[str, Any]) -> tuple[str, ...] | None:
    if "const" in schema:
        given = [schema["const"]]
    elif "enum" in schema:
        given = schema["enum"]
    else:
        return None
    return tuple(orjson.dumps(one, option=orjson.OPT_SORT_KEYS).decode() for one in given)
