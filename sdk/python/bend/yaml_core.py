"""YAML by the 1.2 core schema, as the server reads it: `on` and `2026-01-31` are text.

PyYAML follows YAML 1.1. What is written here reads the same under both.
"""

import json
import re
from typing import Any, ClassVar

import yaml

_TAG = "tag:yaml.org,2002:"
_NUMBER_STARTS = list("-+0123456789.")
_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")
_NULL = re.compile(r"^(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)


class Unreadable(ValueError):
    """The text is no YAML or JSON document; says where."""


class _Loader(yaml.CSafeLoader):
    """The safe loader with the core schema; keys are text, and none stands twice."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Build a map. Raises Unreadable for a key that is no plain text or stands twice."""
        built: dict[Any, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Unreadable(f"{_place(key)}: a key has to be plain text")
            if key.value in built:
                raise Unreadable(f"{_place(key)}: key '{key.value}' stands here twice")
            built[key.value] = self.construct_object(value, deep=deep)
        return built


class _Dumper(yaml.SafeDumper):
    """The safe dumper; text that either version of YAML would read as something else is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal parts out instead of naming them."""
        return True


def _place(node: Any) -> str:
    return f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"


def _int(_loader: Any, node: Any) -> int:
    text: str = node.value
    if text.startswith(("0o", "0x")):
        return int(text[2:], 8 if text[1] == "o" else 16)
    return int(text)


def _float(_loader: Any, node: Any) -> float:
    text = node.value.lower()
    value = float(text.replace(".inf", "inf").replace(".nan", "nan"))
    if value - value != 0:
        raise Unreadable(f"{_place(node)}: the number is too large, or none")
    return value


def _text(dumper: Any, text: str) -> Any:
    """Write text; line breaks that PyYAML would fold into others are escaped."""
    style = '"' if _BREAKS.search(text) else None
    return dumper.represent_scalar(_TAG + "str", text, style=style)


_Dumper.add_representer(str, _text)
for _name, _pattern, _starts in (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, _NUMBER_STARTS),
    ("float", _FLOAT, _NUMBER_STARTS),
):
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, _starts)
    _Dumper.add_implicit_resolver(_TAG + _name, _pattern, _starts)
for _name in ("null", "bool", "str", "seq", "map"):
    _Loader.add_constructor(_TAG + _name, yaml.SafeLoader.yaml_constructors[_TAG + _name])
# All other tags are refused, as the server refuses them.
_Loader.add_constructor(None, yaml.SafeLoader.yaml_constructors[None])
_Loader.add_constructor(_TAG + "int", _int)
_Loader.add_constructor(_TAG + "float", _float)


def read_yaml(text: str) -> Any:
    """Return the value of a text. Raises Unreadable with the place of what is wrong."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - derived from the safe loader
    except yaml.YAMLError as error:
        raise Unreadable(f"not YAML: {error}") from error


def write_yaml(value: Any) -> str:
    """Return a value as YAML, keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def read_json(text: str) -> Any:
    """Return the value of a text; integers keep their digits. Raises Unreadable."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(found)
        if len(built) != len(found):
            raise Unreadable("a key stands twice in one map")
        return built

    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error}") from error


def write_json(value: Any) -> bytes:
    """Return a value as compact JSON; integers of any size."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
