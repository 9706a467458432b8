"""The comments of the protos by full name, for the OpenAPI document that the server makes."""

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

# Fields of FileDescriptorProto, ServiceDescriptorProto, DescriptorProto and EnumDescriptorProto
# that hold named things: the steps of a source location's path.
STEPS: dict[str, dict[int, str]] = {
    "FileDescriptorProto": {4: "message_type", 5: "enum_type", 6: "service"},
    "ServiceDescriptorProto": {2: "method"},
    "DescriptorProto": {2: "field", 3: "nested_type", 4: "enum_type"},
    "EnumDescriptorProto": {2: "value"},
}


def comments(described: FileDescriptorSet) -> dict[str, str]:
    """Return the comment before each service, RPC, message, field, enum and value that has one.

    Lines are joined; an empty one parts paragraphs, as `\\n\\n`.

    Args:
        described: files with their source info.
    """
    found = {}
    for file in described.file:
        for location in file.source_code_info.location:
            if location.leading_comments and (name := _name(file, location.path)):
                found[name] = "\n\n".join(_paragraphs(location.leading_comments))
    return dict(sorted(found.items()))


def _name(file: FileDescriptorProto, path: Sequence[int]) -> str:
    """Return the full name of what lies at a path; empty for what has none (options, syntax)."""
    here: Any = file
    names = [file.package]
    for step, index in zip(path[::2], path[1::2], strict=False):
        field = STEPS.get(type(here).__name__, {}).get(step)
        if field is None:
            return ""
        here = getattr(here, field)[index]
        names.append(here.name)
    return "" if here is file or len(path) % 2 else ".".join(names)


def _paragraphs(comment: str) -> Iterator[str]:
    for paragraph in comment.split("\n\n"):
        text = " ".join(paragraph.split())
        if text:
            yield text
