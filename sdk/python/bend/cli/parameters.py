"""Parameters from the command line: the workflow's input schema decides what a text means."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
import yaml


class RepeatedKey(ValueError):
    """A JSON object has a key twice: which one counts, nobody can tell."""


class StrictYaml(yaml.SafeLoader):
    """YAML in which a key may stand only once in a map."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See yaml.SafeLoader."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_parameters(
    pairs: tuple[str, ...], input_file: str | None, schema: dict[str, Any]
) -> dict[str, Any]:
    """Return the parameters of `--input` with those of `-p` over them.

    Args:
        pairs: `key=value` each.
        input_file: path of a JSON or YAML object, `-` for stdin, None.
        schema: JSON Schema of the workflow's input; {} when it has none.

    Raises UsageError with the parameter's name.
    """
    parameters = read_object(input_file) if input_file else {}
    properties = schema.get("properties")
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"-p {pair!r} must look like key=value")
        known = properties.get(key) if isinstance(properties, dict) else None
        parameters[key] = read_value(key, text, known if isinstance(known, dict) else {})
    return parameters


def read_value(key: str, text: str, schema: dict[str, Any]) -> Any:
    """Read one value: as the schema says, else as JSON if it parses, else as text."""
    wanted = schema.get("type")
    kinds = wanted if isinstance(wanted, list) else [wanted] if wanted else []
    if kinds == ["string"]:
        return text
    if "enum" in schema and text in schema["enum"]:
        return text
    try:
        value = strict_json(text)
    except RepeatedKey as error:
        raise click.UsageError(f"-p {key}: {error}") from None
    except ValueError:
        if kinds and "string" not in kinds:
            raise click.UsageError(f"-p {key}: must be {' or '.join(kinds)}, is {text!r}") from None
        return text
    if "string" in kinds and json_kind(value) not in kinds:
        return text
    return value


def strict_json(text: str) -> Any:
    """Parse JSON: integers keep their digits, a repeated key is refused. Raises ValueError."""
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise RepeatedKey(f"key {key!r} stands there twice")
        made[key] = value
    return made


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def json_kind(value: Any) -> str:
    """Return the JSON Schema type of a parsed value."""
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    if value is None:
        return "null"
    return names.get(type(value), "object")


def read_object(path: str) -> dict[str, Any]:
    """Read a JSON or YAML object. Raises UsageError with the place of a mistake."""
    name = "standard input" if path == "-" else path
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise click.UsageError(f"--input {path}: {error.strerror or error}") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--input {name}: not UTF-8 at byte {error.start + 1}") from None
    try:
        value = _parse(text)
    except json.JSONDecodeError as error:
        place = f"{name}:{error.lineno}:{error.colno}"
        raise click.UsageError(f"--input {place}: not JSON: {error.msg}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise click.UsageError(f"--input {place}: not YAML: {error.problem}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise click.UsageError(f"--input {name}: {error}") from None
    if not isinstance(value, dict):
        raise click.UsageError(f"--input {name}: must be an object")
    return value


def _parse(text: str) -> Any:
    if text.lstrip()[:1] in ("{", "["):
        return strict_json(text)
    return yaml.load(text, StrictYaml)  # noqa: S506 - a safe loader


def schema_in(document: Any) -> dict[str, Any]:
    """Return the input schema of a parsed workflow document, {} when there is none."""
    schema = document.get("input") if isinstance(document, dict) else None
    return schema if isinstance(schema, dict) else {}
