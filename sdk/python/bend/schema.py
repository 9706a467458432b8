"""Type hints become JSON Schema and checks: the contract of a component is its signature.

Understood: None, bool, int, float, str, Any, object, list, dict with text keys, tuple, set,
Optional, unions, Literal, Enum, dataclasses, TypedDict (NotRequired, Required), datetime, date,
UUID, Path, Annotated with a text (its description), and Pydantic models when Pydantic is
installed. Anything else is a TypeError when the component is declared, not when it runs.
"""

import dataclasses
import types
import typing
from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
)
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Required, Union
from uuid import UUID

type_of = type
Convert = Callable[[Any], Any]
Schema = dict[str, Any]


class Mismatch(Exception):
    """A value does not fit; `path` says where below the checked value, `text` what was wanted."""

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.path = path

    def below(self, step: str) -> "Mismatch":
        """Add one step in front of the path while the error travels up."""
        self.path = step + self.path
        return self


class Shape(NamedTuple):
    """A JSON Schema and the check that goes with it; None: any value goes through unchanged."""

    schema: Schema
    convert: Convert | None


def describe(value: object) -> str:
    """Name a JSON value's type for people."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")


def exact(kind: type, wanted: str) -> Convert:
    """Return a check that lets one JSON type through unchanged."""

    def check(value: Any) -> Any:
        if type_of(value) is kind:
            return value
        raise Mismatch(f"must be {wanted}, is {describe(value)}")

    return check


def integer(value: Any) -> int:
    """Accept integral numbers, 3.0 too, as JSON Schema does."""
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise Mismatch(f"must be an integer, is {describe(value)}")


def number(value: Any) -> float:
    """Accept any number and give a float."""
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise Mismatch(f"must be a number, is {describe(value)}")


def parsed(kind: Callable[[str], Any], wanted: str) -> Convert:
    """Return a check that parses text."""

    def check(value: Any) -> Any:
        if type_of(value) is not str:
            raise Mismatch(f"must be {wanted}, is {describe(value)}")
        try:
            return kind(value)
        except ValueError:
            raise Mismatch(f"must be {wanted}, is {value!r}") from None

    return check


SIMPLE: dict[object, Shape] = {
    Any: Shape({}, None),
    object: Shape({}, None),
    None: Shape({"type": "null"}, exact(type(None), "null")),
    type(None): Shape({"type": "null"}, exact(type(None), "null")),
    bool: Shape({"type": "boolean"}, exact(bool, "true or false")),
    int: Shape({"type": "integer"}, integer),
    float: Shape({"type": "number"}, number),
    str: Shape({"type": "string"}, exact(str, "text")),
    list: Shape({"type": "array"}, exact(list, "a list")),
    dict: Shape({"type": "object"}, exact(dict, "an object")),
    datetime: Shape(
        {"type": "string", "format": "date-time"}, parsed(datetime.fromisoformat, "an ISO time")
    ),
    date: Shape({"type": "string", "format": "date"}, parsed(date.fromisoformat, "an ISO date")),
    UUID: Shape({"type": "string", "format": "uuid"}, parsed(UUID, "a UUID")),
    Path: Shape({"type": "string"}, parsed(Path, "a path")),
}


class ShapeBuilder:
    """Builds the shapes of one contract; shared definitions gather in `definitions`."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._open: dict[object, list[Shape]] = {}
        self._recursive: set[object] = set()

    def shape(self, hint: Any) -> Shape:
        """Return the shape of a type hint; raises TypeError for one that JSON cannot carry."""
        found = SIMPLE.get(hint) if isinstance(hint, Hashable) else None
        if found is not None:
            return Shape(dict(found.schema), found.convert)
        origin = typing.get_origin(hint)
        shape = None
        if origin is not None:
            arguments = typing.get_args(hint)
            shape = self._special(origin, arguments) or self._container(origin, arguments)
        elif isinstance(hint, typing.NewType):
            shape = self.shape(hint.__supertype__)
        elif isinstance(hint, type):
            shape = self._class(hint)
        if shape is None:
            raise TypeError(f"{hint!r} cannot be carried as JSON; use a dataclass or a dict")
        return shape

    def _class(self, hint: Any) -> Shape | None:
        if issubclass(hint, Enum):
            values = [member.value for member in hint]
            return Shape({"enum": values}, self._member(hint, values))
        if hasattr(hint, "model_json_schema") and hasattr(hint, "model_validate"):
            return self._pydantic(hint)
        if dataclasses.is_dataclass(hint) or typing.is_typeddict(hint):
            return self._record(hint)
        if hint in (set, frozenset, tuple):
            return Shape({"type": "array"}, self._sequence(None, hint))
        return None

    def _special(self, origin: Any, arguments: tuple[Any, ...]) -> Shape | None:
        if origin is Annotated:
            inner = self.shape(arguments[0])
            texts = [extra for extra in arguments[1:] if isinstance(extra, str)]
            if not texts:
                return inner
            return Shape(inner.schema | {"description": texts[0]}, inner.convert)
        if origin in (Required, NotRequired):
            return self.shape(arguments[0])
        if origin is Literal:
            return Shape({"enum": list(arguments)}, self._member(None, list(arguments)))
        if origin in (Union, types.UnionType):
            return self._union([self.shape(argument) for argument in arguments])
        return None

    def _container(self, origin: Any, arguments: tuple[Any, ...]) -> Shape | None:
        if origin in (list, Sequence, MutableSequence, Iterable, set, frozenset):
            item = self.shape(arguments[0])
            kind = origin if origin in (set, frozenset) else list
            schema: Schema = {"type": "array"} | ({"items": item.schema} if item.schema else {})
            return Shape(schema, self._sequence(item.convert, kind))
        if origin is tuple:
            return self._tuple(arguments)
        if origin in (dict, Mapping, MutableMapping):
            if arguments[0] is not str:
                raise TypeError("the keys of a JSON object are text")
            value = self.shape(arguments[1])
            schema = {"type": "object"}
            if value.schema:
                schema |= {"additionalProperties": value.schema}
            return Shape(schema, self._mapping(value.convert))
        return None

    @staticmethod
    def _member(enum: type[Enum] | None, values: list[Any]) -> Convert:
        text = ", ".join(repr(value) for value in values)

        def check(value: Any) -> Any:
            # True == 1 in Python, but not in JSON.
            for allowed in values:
                if value == allowed and type_of(value) is type_of(allowed):
                    return value if enum is None else enum(value)
            raise Mismatch(f"must be one of {text}, is {value!r}")

        return check

    @staticmethod
    def _union(shapes: list[Shape]) -> Shape:
        schema: Schema = {"anyOf": [shape.schema for shape in shapes]}
        kinds = [shape.schema.get("type") for shape in shapes]
        if all(list(shape.schema) == ["type"] for shape in shapes):
            schema = {"type": kinds}
        if any(not shape.schema for shape in shapes):
            schema = {}

        def check(value: Any) -> Any:
            texts = []
            for shape in shapes:
                if shape.convert is None:
                    return value
                try:
                    return shape.convert(value)
                except Mismatch as wrong:
                    texts.append(wrong.text if not wrong.path else f"{wrong.path}: {wrong.text}")
            raise Mismatch(" or ".join(dict.fromkeys(texts)))

        return Shape(schema, check)

    @staticmethod
    def _sequence(convert: Convert | None, kind: type) -> Convert:
        def check(value: Any) -> Any:
            if type_of(value) is not list:
                raise Mismatch(f"must be a list, is {describe(value)}")
            if convert is None:
                return value if kind is list else kind(value)
            at = 0
            items = []
            try:
                for item in value:
                    items.append(convert(item))
                    at += 1
            except Mismatch as wrong:
                raise wrong.below(f"[{at}]") from None
            return items if kind is list else kind(items)

        return check

    def _tuple(self, arguments: tuple[Any, ...]) -> Shape:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            item = self.shape(arguments[0])
            return Shape(
                {"type": "array", "items": item.schema}, self._sequence(item.convert, tuple)
            )
        shapes = [self.shape(argument) for argument in arguments]
        size = len(shapes)

        def check(value: Any) -> Any:
            if type_of(value) is not list or len(value) != size:
                raise Mismatch(f"must be a list of {size}, is {describe(value)}")
            items = []
            for at, (shape, item) in enumerate(zip(shapes, value, strict=True)):
                try:
                    items.append(shape.convert(item) if shape.convert else item)
                except Mismatch as wrong:
                    raise wrong.below(f"[{at}]") from None
            return tuple(items)

        schema = {
            "type": "array",
            "prefixItems": [shape.schema for shape in shapes],
            "minItems": size,
            "maxItems": size,
        }
        return Shape(schema, check)

    @staticmethod
    def _mapping(convert: Convert | None) -> Convert:
        def check(value: Any) -> Any:
            if type_of(value) is not dict:
                raise Mismatch(f"must be an object, is {describe(value)}")
            if convert is None:
                return value
            items = {}
            for key, item in value.items():
                try:
                    items[key] = convert(item)
                except Mismatch as wrong:
                    raise wrong.below(f".{key}") from None
            return items

        return check

    def _pydantic(self, model: Any) -> Shape:
        schema = model.model_json_schema()
        self.definitions.update(schema.pop("$defs", {}))

        def check(value: Any) -> Any:
            try:
                return model.model_validate(value)
            except ValueError as wrong:
                first = wrong.errors()[0]  # type: ignore[attr-defined]
                path = "".join(
                    f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]
                )
                raise Mismatch(str(first["msg"]), path) from None

        return Shape(schema, check)

    def _record(self, hint: Any) -> Shape:
        """A dataclass or a TypedDict; a recursive one becomes a shared definition."""
        name = hint.__name__
        if hint in self._open:
            self._recursive.add(hint)
            late = self._open[hint]
            return Shape({"$ref": f"#/$defs/{name}"}, late_check(late))
        holder: list[Shape] = []
        self._open[hint] = holder
        shape = self._fields(hint)
        holder.append(shape)
        del self._open[hint]
        if hint in self._recursive:
            self.definitions[name] = shape.schema
            return Shape({"$ref": f"#/$defs/{name}"}, shape.convert)
        return shape

    def _fields(self, hint: Any) -> Shape:
        hints = typing.get_type_hints(hint, include_extras=True)
        if dataclasses.is_dataclass(hint):
            fields = [field for field in dataclasses.fields(hint) if field.init]
            required = {
                field.name
                for field in fields
                if field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            }
            hints = {field.name: hints[field.name] for field in fields}
            build: Any = hint
        else:
            required = set(hint.__required_keys__)
            build = dict
        shapes = {key: self.shape(value) for key, value in hints.items()}
        schema: Schema = {
            "type": "object",
            "properties": {key: shape.schema for key, shape in shapes.items()},
            "additionalProperties": False,
        }
        if required:
            schema["required"] = [key for key in shapes if key in required]
        return Shape(schema, record_check(shapes, required, build))


def late_check(holder: list[Shape]) -> Convert:
    """Return a check by a shape that is made later: for types that contain themselves."""

    def check(value: Any) -> Any:
        convert = holder[0].convert
        return convert(value) if convert else value

    return check


def record_check(
    shapes: Mapping[str, Shape], required: set[str], build: Callable[..., Any]
) -> Convert:
    """Return a check of an object with named fields, which builds the record from them."""

    def check(value: Any) -> Any:
        if type_of(value) is not dict:
            raise Mismatch(f"must be an object, is {describe(value)}")
        fields = {}
        for key, item in value.items():
            shape = shapes.get(key)
            if shape is None:
                known = ", ".join(shapes) or "none"
                raise Mismatch(f"is unknown; known: {known}", f".{key}")
            try:
                fields[key] = shape.convert(item) if shape.convert else item
            except Mismatch as wrong:
                raise wrong.below(f".{key}") from None
        for key in required:
            if key not in fields:
                raise Mismatch("is missing", f".{key}")
        return build(**fields)

    return check
