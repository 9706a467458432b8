"""Contracts of components: schemas checked, versions ordered, one digest for what counts."""

import hashlib
import json
from typing import Any, NamedTuple

import jsonschema
import orjson
from jsonschema.validators import validator_for

from bend_server.core.errors import InvalidInput
from bend_server.ports.store import ComponentRow

SCHEMA_BYTES_MAX = 256 * 1024
SCHEMA_DEPTH_MAX = 64
ERROR_CHARS_MAX = 300


class Contract(NamedTuple):
    """What a component promises. Schemas are JSON; empty ones allow anything."""

    name: str
    version: str
    description: str
    input_schema: bytes
    output_schema: bytes
    long_running: bool
    heartbeats: bool


def version_key(version: str) -> tuple[int, int, int]:
    """Return a version's order. Raises InvalidInput unless it is `major.minor.patch`."""
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidInput(f"{version[:40]!r} is not major.minor.patch", field="contract.version")
    major, minor, patch = (int(part) for part in parts)
    return major, minor, patch


def check_schema(data: bytes, field: str) -> None:
    """Check that bytes are a JSON Schema, or empty.

    Args:
        data: the schema, JSON.
        field: what an error calls it.

    Raises:
        InvalidInput: not JSON, no schema, too large, too deep, or it names another document.
    """
    if not data:
        return
    if len(data) > SCHEMA_BYTES_MAX:
        raise InvalidInput(
            f"{field} has {len(data)} bytes, the limit is {SCHEMA_BYTES_MAX}",
            field=field,
            size=len(data),
            limit=SCHEMA_BYTES_MAX,
        )
    try:
        # Strict: no NaN and no half characters, which nobody could read back.
        orjson.loads(data)
        schema = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{field} is not JSON: {str(error)[:200]}", field=field) from None
    if not isinstance(schema, dict | bool):
        raise InvalidInput(f"{field} must be an object or a boolean", field=field)
    _check_references(schema, field)
    validator = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        validator.check_schema(schema)  # type: ignore[arg-type]
    except jsonschema.SchemaError as error:
        place = field + error.json_path[1:]
        text = error.message[:ERROR_CHARS_MAX]
        raise InvalidInput(f"{place}: no JSON Schema: {text}", field=place) from None


def _check_references(schema: Any, field: str) -> None:
    """References stay inside the document: a server never fetches what a schema names."""
    left: list[tuple[Any, int]] = [(schema, 1)]
    while left:
        value, depth = left.pop()
        if depth > SCHEMA_DEPTH_MAX:
            raise InvalidInput(f"{field} is nested deeper than {SCHEMA_DEPTH_MAX}", field=field)
        if isinstance(value, dict):
            for key in ("$ref", "$dynamicRef"):
                target = value.get(key)
                if isinstance(target, str) and not target.startswith("#"):
                    raise InvalidInput(
                        f"{field}: {key} {target[:80]!r} leads out of the schema", field=field
                    )
            left.extend((inner, depth + 1) for inner in value.values())
        elif isinstance(value, list):
            left.extend((inner, depth + 1) for inner in value)


def digest(contract: Contract) -> str:
    """Return what two contracts of one version must share; texts for people do not count."""
    parts = (
        contract.name,
        contract.version,
        _canonical(contract.input_schema),
        _canonical(contract.output_schema),
        contract.long_running,
        contract.heartbeats,
    )
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()


def _canonical(schema: bytes) -> str:
    if not schema:
        return ""
    return json.dumps(json.loads(schema), sort_keys=True, separators=(",", ":"))


def contract_row(namespace: str, contract: Contract, now_us: int) -> ComponentRow:
    """Return the row that stores a contract. Raises InvalidInput when it is wrong."""
    major = version_key(contract.version)[0]
    check_schema(contract.input_schema, "contract.input_schema")
    check_schema(contract.output_schema, "contract.output_schema")
    if "\0" in contract.description:
        raise InvalidInput("the description holds a NUL", field="contract.description")
    shown = {
        "name": contract.name,
        "version": contract.version,
        "description": contract.description,
        "long_running": contract.long_running,
        "heartbeats": contract.heartbeats,
    }
    return ComponentRow(
        namespace=namespace,
        name=contract.name,
        version=contract.version,
        major=major,
        description=contract.description,
        contract=orjson.dumps(shown),
        input_schema=contract.input_schema,
        output_schema=contract.output_schema,
        long_running=contract.long_running,
        heartbeats=contract.heartbeats,
        deprecated=False,
        digest=digest(contract),
        created_us=now_us,
    )
