"""Descriptions of services: files of descriptors become methods that can be called."""

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from bend import TerminalError

FILES_MAX = 1000
BYTES_MAX = 8 * 1024 * 1024


class Method(NamedTuple):
    """A method that can be called: its path, its messages' classes and the pool they live in."""

    path: str
    request: Any
    response: Any
    streams: bool
    pool: Any


class Names(NamedTuple):
    """A method as a task names it: `package.Service/Method`."""

    service: str
    method: str

    @property
    def text(self) -> str:
        """The one form that errors show."""
        return f"{self.service}/{self.method}"


def names(text: str) -> Names:
    """Read `package.Service/Method`, also with a leading slash or with a dot between them.

    Raises TerminalError INVALID_INPUT.
    """
    bare = text.removeprefix("/")
    service, slash, method = bare.rpartition("/" if "/" in bare else ".")
    parts = [*service.split("."), method]
    if not slash or not all(part.isidentifier() and part.isascii() for part in parts):
        raise TerminalError(
            "INVALID_INPUT",
            f"method: {text[:200]!r} is not package.Service/Method",
            details={"field": "method"},
        )
    return Names(service, method)


def invalid(text: str) -> TerminalError:
    """Return the error of a description that cannot be used."""
    return TerminalError("INVALID_DESCRIPTOR", text)


def parse_set(data: bytes) -> list[descriptor_pb2.FileDescriptorProto]:
    """Parse a FileDescriptorSet. Raises TerminalError INVALID_DESCRIPTOR."""
    if len(data) > BYTES_MAX:
        raise invalid(f"the descriptor set has {len(data)} bytes, at most {BYTES_MAX}")
    try:
        found = descriptor_pb2.FileDescriptorSet.FromString(data)
    except DecodeError:
        raise invalid("the descriptor set is no FileDescriptorSet") from None
    if not found.file:
        raise invalid("the descriptor set has no files")
    return list(found.file)


def known_file(name: str) -> descriptor_pb2.FileDescriptorProto | None:
    """Return one of protobuf's own files, such as google/protobuf/timestamp.proto."""
    # Loading a module registers its file; these few are what services import.
    from google.protobuf import (  # noqa: F401
        any_pb2,
        duration_pb2,
        empty_pb2,
        field_mask_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )

    if not name.startswith("google/protobuf/"):
        return None
    found = descriptor_pb2.FileDescriptorProto()
    try:
        descriptor_pool.Default().FindFileByName(name).CopyToProto(found)
    except KeyError:
        return None
    return found


class Catalog:
    """A pool made of one server's files, apart from everybody else's."""

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
        """Build it. Raises TerminalError INVALID_DESCRIPTOR naming the file."""
        self.pool = descriptor_pool.DescriptorPool()
        self._files = {file.name: file for file in files}
        if len(self._files) > FILES_MAX:
            raise invalid(f"more than {FILES_MAX} files")
        self.size = sum(file.ByteSize() for file in self._files.values())
        self._methods: dict[Names, Method] = {}
        self._add_all()

    def _add_all(self) -> None:
        """Add each file after those that it imports."""
        added: set[str] = set()
        stack = [(name, False) for name in self._files]
        under_way: set[str] = set()
        while stack:
            name, ready = stack.pop()
            if name in added:
                continue
            file = self._files.get(name) or known_file(name)
            if file is None:
                raise invalid(f"the file {name[:200]} is imported and not there")
            if ready:
                try:
                    self.pool.Add(file)
                except (TypeError, ValueError) as error:
                    raise invalid(f"{name[:200]}: {error}") from None
                added.add(name)
                continue
            if name in under_way:
                raise invalid(f"the file {name[:200]} imports itself")
            under_way.add(name)
            stack.append((name, True))
            stack += [(other, False) for other in file.dependency if other not in added]

    def method(self, wanted: Names) -> Method:
        """Return a method that can be called.

        Raises TerminalError: METHOD_NOT_FOUND names what is near; METHOD_NOT_SUPPORTED for methods
        that take a stream, since a task has one input.
        """
        found = self._methods.get(wanted)
        if found is not None:
            return found
        try:
            service = self.pool.FindServiceByName(wanted.service)
        except KeyError:
            known = [
                f"{file.package}.{one.name}".lstrip(".")
                for file in self._files.values()
                for one in file.service
            ]
            raise not_found("service", wanted.service, known) from None
        one = service.methods_by_name.get(wanted.method)
        if one is None:
            raise not_found(
                f"{wanted.service}: method", wanted.method, list(service.methods_by_name)
            )
        if one.client_streaming:
            raise TerminalError(
                "METHOD_NOT_SUPPORTED",
                f"{wanted.text} takes a stream of messages; a task sends one",
            )
        made = Method(
            f"/{wanted.service}/{wanted.method}",
            message_factory.GetMessageClass(one.input_type),
            message_factory.GetMessageClass(one.output_type),
            bool(one.server_streaming),
            self.pool,
        )
        self._methods[wanted] = made
        return made


def not_found(what: str, name: str, known: list[str]) -> TerminalError:
    """Return the error of a name that is not there, with those that are near."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known[:20]) or 'none'}"
    return TerminalError(
        "METHOD_NOT_FOUND", f"{what} {name} is not there{hint}", details={"known": known[:20]}
    )
