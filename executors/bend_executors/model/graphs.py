"""What an ONNX file refers to: read from the wire format, before the runtime opens the file.

Only the fields that lead to tensors are followed; everything else is stepped over, so the weights
themselves cost nothing. Source: onnx.proto3 of the ONNX project, field numbers below.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

DEPTH_MAX = 32
FIELDS_MAX = 1_000_000
VARINT_BYTES_MAX = 10
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# Of each message, which field holds a message of which kind.
PATHS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}


class BadGraph(ValueError):
    """The bytes are no ONNX model; the text says what is wrong."""


class Field(NamedTuple):
    """A field of a message: its number, wire type, and where its value starts and ends."""

    number: int
    kind: int
    start: int
    end: int


class Reader:
    """One pass over a file's bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields = 0

    def external(self) -> list[str]:
        """Return the places outside the file where it keeps tensors. Raises BadGraph."""
        found: list[str] = []
        self._walk("model", 0, len(self._data), 0, found)
        return found

    def _walk(self, kind: str, start: int, end: int, depth: int, found: list[str]) -> None:
        if depth > DEPTH_MAX:
            raise BadGraph(f"is nested deeper than {DEPTH_MAX}")
        paths = PATHS[kind]
        for field in self.fields(start, end):
            below = paths.get(field.number)
            if below is None:
                continue
            if field.kind != BYTES:
                raise BadGraph(f"has a broken {kind}")
            if below == "entry":
                found += self._location(field)
            else:
                self._walk(below, field.start, field.end, depth + 1, found)

    def _location(self, entry: Field) -> list[str]:
        """Return the value of a StringStringEntry whose key is `location`."""
        parts = {f.number: self._data[f.start : f.end] for f in self.fields(entry.start, entry.end)}
        if parts.get(1) != b"location":
            return []
        return [parts.get(2, b"").decode("utf-8", "replace")]

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of a message."""
        at = start
        while at < end:
            self._fields += 1
            if self._fields > FIELDS_MAX:
                raise BadGraph(f"has more than {FIELDS_MAX} fields")
            tag, at = self._varint(at, end)
            kind = tag & 7
            if kind == VARINT:
                value_at = at
                _, at = self._varint(at, end)
            elif kind == BYTES:
                size, value_at = self._varint(at, end)
                at = value_at + size
            elif kind in (FIXED64, FIXED32):
                value_at = at
                at += 8 if kind == FIXED64 else 4
            else:
                raise BadGraph(f"has a field of unknown wire type {kind}")
            if at > end:
                raise BadGraph("is cut off")
            yield Field(tag >> 3, kind, value_at, at)

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(VARINT_BYTES_MAX):
            if at >= end:
                raise BadGraph("is cut off")
            byte = self._data[at]
            at += 1
            value |= (byte & 127) << (7 * shift)
            if byte < 128:
                return value, at
        raise BadGraph("has a broken number")
