"""Workflow documents in any form that people have them: file, text, dict or builder."""

import io
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import orjson
import yaml

from bend.errors import ConfigurationError

JSON = "application/json"
YAML = "application/yaml"


@runtime_checkable
class Built(Protocol):
    """A workflow builder."""

    def to_json(self) -> bytes:
        """Return the document."""
        ...


class Document(NamedTuple):
    """A document's bytes, their content type, and the workflow's name ('' when unreadable).

    `source` is the file that it came from, or ''.
    """

    data: bytes
    content_type: str
    name: str
    source: str = ""


def read_document(source: Any) -> Document:
    """Return the document that `source` stands for.

    Args:
        source: a path to a .yaml, .yml or .json file, text or bytes with YAML or JSON, a dict, or
            a `Workflow`.

    Raises ConfigurationError when a file cannot be read.
    """
    if isinstance(source, Path):
        try:
            data = source.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{source}: {error.strerror or error}") from error
        is_json = source.suffix.lower() == ".json"
        return Document(data, JSON if is_json else YAML, name_in(data), str(source))
    if isinstance(source, Built):
        data = source.to_json()
        return Document(data, JSON, name_in(data))
    if isinstance(source, (str, bytes)):
        data = source.encode() if isinstance(source, str) else source
        is_json = data.lstrip()[:1] == b"{"
        return Document(data, JSON if is_json else YAML, name_in(data))
    data = orjson.dumps(source)
    return Document(data, JSON, name_in(data))


def name_in(data: bytes) -> str:
    """Return the top-level `name` of a YAML or JSON document, reading no further than needed.

    '' when there is none or the document is broken: the server then says what is wrong where.
    """
    opens = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
    closes = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
    try:
        depth, is_key, found = 0, True, False
        for event in yaml.parse(io.BytesIO(data), Loader=yaml.SafeLoader):
            if isinstance(event, opens):
                depth += 1
                if depth == 1 and isinstance(event, yaml.SequenceStartEvent):
                    return ""
                continue
            if isinstance(event, closes):
                depth -= 1
            elif not isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent)):
                continue
            if depth == 1:
                # One whole node of the top-level mapping has ended: a key or a value.
                text = str(event.value) if isinstance(event, yaml.ScalarEvent) else ""
                if found and not is_key:
                    return text
                found = is_key and text == "name"
                is_key = not is_key
    except yaml.YAMLError:
        return ""
    return ""
