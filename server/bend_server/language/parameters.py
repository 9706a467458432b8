"""Parameters of an execution: strict JSON, the `input` schema's defaults and checks."""

from collections.abc import Mapping
from typing import Any

from bend_server.core import limits
from bend_server.core.errors import InvalidInput, LimitExceeded
from bend_server.language.findings import cut, show_path
from bend_server.language.json_source import BadText, decode_text, parse_json
from bend_server.language.payloads import dump
from bend_server.language.schemas import Schema, TooCostly

_REASON = "INVALID_PARAMETERS"


def check_parameters(data: bytes, schema: Schema | None) -> bytes:
    """Return the parameters as JSON, with the defaults of top-level properties.

    Args:
        data: JSON; empty means no parameters, `{}`.

    Raises:
        InvalidInput: INVALID_PARAMETERS, with path, or line and column, in the metadata.
        LimitExceeded: TOO_LARGE.
    """
    if len(data) > limits.PARAMETERS_BYTES_MAX:
        raise LimitExceeded(
            f"the parameters have {len(data)} bytes; {limits.PARAMETERS_BYTES_MAX} are allowed",
            limit=limits.PARAMETERS_BYTES_MAX,
            size=len(data),
            path="parameters",
        )
    if not data.strip():
        data = b"{}"
    try:
        value = parse_json(decode_text(data))
    except BadText as error:
        path = show_path(("input", *error.path))
        raise InvalidInput(
            f"parameters {error.line}:{error.column}: {error.message}",
            reason=_REASON,
            path=path,
            line=error.line,
            column=error.column,
            finding=error.reason,
        ) from error
    data = data.removeprefix(b"\xef\xbb\xbf")
    if schema is None:
        return data
    filled = _with_defaults(value, schema.document)
    _validate(filled, schema)
    return data if filled is value else dump(filled)


def _with_defaults(value: Any, schema: Mapping[str, Any] | bool) -> Any:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(value, dict) or not isinstance(properties, Mapping):
        return value
    missing = {
        name: entry["default"]
        for name, entry in properties.items()
        if name not in value and isinstance(entry, Mapping) and "default" in entry
    }
    return {**value, **missing} if missing else value


def _validate(value: object, schema: Schema) -> None:
    try:
        errors = schema.errors(value)
    except TooCostly as error:
        raise InvalidInput(str(error), reason=_REASON, path="input") from error
    if not errors:
        return
    first = min(errors, key=lambda error: [str(step) for step in error.absolute_path])
    path = show_path(("input", *first.absolute_path))
    message = cut(first.message, 300)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise InvalidInput(
        f"{path}: {message}{more}",
        reason=_REASON,
        path=path,
        problem=message,
        keyword=str(first.validator),
    )
