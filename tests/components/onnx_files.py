"""Tiny ONNX models written by hand (the wire format of a few protobuf messages)."""

INT, BYTES = 0, 2
FLOAT, INT64 = 1, 7
Shape = list[int | str]


def field(number: int, value: int | bytes | str) -> bytes:
    """Encode one field."""
    if isinstance(value, int):
        return varint(number << 3 | INT) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | BYTES) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Encode a number >= 0."""
    out = b""
    while value > 127:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def port(name: str, kind: int, shape: Shape) -> bytes:
    """Encode an input's or output's description; text in the shape names a free size."""
    dims = b"".join(
        field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape
    )
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def node(operation: str, inputs: list[str], output: str, **numbers: int) -> bytes:
    """Encode one operation with whole-number attributes."""
    body = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operation)
    for name, value in numbers.items():
        body += field(5, field(1, name) + field(3, value) + field(20, 2))
    return body


def model(nodes: list[bytes], inputs: list[bytes], outputs: list[bytes]) -> bytes:
    """Encode a model."""
    graph = b"".join(field(1, entry) for entry in nodes) + field(2, "g")
    graph += b"".join(field(11, entry) for entry in inputs)
    graph += b"".join(field(12, entry) for entry in outputs)
    return field(1, 8) + field(8, field(1, "") + field(2, 13)) + field(7, graph)
