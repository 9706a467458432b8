"""Parameters from the command line: the workflow's input schema decides what a text means."""

import sys
from pathlib import Path
from typing import Any

import click
import orjson
import yaml


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
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        if kinds and "string" not in kinds:
            raise click.UsageError(f"-p {key}: must be {' or '.join(kinds)}, is {text!r}") from None
        return text
    if "string" in kinds and json_kind(value) not in kinds:
        return text
    return value


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
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if data.lstrip()[:1] in (b"{", b"["):
            raise click.UsageError(f"--input {name}: {error}") from None
        try:
            value = yaml.safe_load(data)
        except yaml.YAMLError as broken:
            raise click.UsageError(f"--input {name}: {broken}") from None
    if not isinstance(value, dict):
        raise click.UsageError(f"--input {name}: must be an object")
    return value


def schema_in(document: Any) -> dict[str, Any]:
    """Return the input schema of a parsed workflow document, {} when there is none."""
    schema = document.get("input") if isinstance(document, dict) else None
    return schema if isinstance(schema, dict) else {}
