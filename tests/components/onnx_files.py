"""Tiny ONNX models written by hand (the wire format of a few protobuf messages)."""

from pathlib import Path

INT, BYTES = 0, 2
FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL = 1, 2, 3, 4, 5, 6, 7, 8, 9
FLOAT16, DOUBLE, UINT32, UINT64, BFLOAT16 = 10, 11, 12, 13, 16
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


def node(operation: str, inputs: list[str], output: str, *more: bytes, **numbers: int) -> bytes:
    """Encode one operation with whole-number attributes, and more that are encoded already."""
    body = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operation)
    for name, value in numbers.items():
        body += field(5, field(1, name) + field(3, value) + field(20, 2))
    return body + b"".join(field(5, entry) for entry in more)


def body_of(inner: bytes) -> bytes:
    """Encode the attribute `body` of a loop."""
    return field(1, "body") + field(6, inner) + field(20, 5)


def weights(name: str, kind: int, sizes: list[int], *, raw: bytes = b"", at: str = "") -> bytes:
    """Encode a tensor with its bytes, or with the place of the file that has them."""
    data = b"".join(field(1, size) for size in sizes) + field(2, kind) + field(8, name)
    if not at:
        return data + field(9, raw)
    return data + field(13, field(1, "location") + field(2, at)) + field(14, 1)


def graph(
    nodes: list[bytes], inputs: list[bytes], outputs: list[bytes], constants: list[bytes]
) -> bytes:
    """Encode a graph."""
    made = b"".join(field(1, entry) for entry in nodes) + field(2, "g")
    made += b"".join(field(5, entry) for entry in constants)
    made += b"".join(field(11, entry) for entry in inputs)
    return made + b"".join(field(12, entry) for entry in outputs)


def model(
    nodes: list[bytes],
    inputs: list[bytes],
    outputs: list[bytes],
    constants: list[bytes] | None = None,
) -> bytes:
    """Encode a model."""
    made = graph(nodes, inputs, outputs, constants or [])
    return field(1, 8) + field(8, field(1, "") + field(2, 13)) + field(7, made)


def same(kind: int, shape: Shape) -> bytes:
    """Return a model that answers its one input `a` as `y`."""
    return model([node("Identity", ["a"], "y")], [port("a", kind, shape)], [port("y", kind, shape)])


def endless() -> bytes:
    """Return a model that doubles `a` as often as `n` says, one step after another."""
    inner = graph(
        [node("Identity", ["c"], "c2"), node("Add", ["v", "v"], "v2")],
        [port("i", INT64, []), port("c", BOOL, []), port("v", FLOAT, ["N"])],
        [port("c2", BOOL, []), port("v2", FLOAT, ["N"])],
        [],
    )
    return model(
        [node("Loop", ["n", "", "a"], "y", body_of(inner))],
        [port("n", INT64, []), port("a", FLOAT, ["N"])],
        [port("y", FLOAT, ["N"])],
    )


def placed(folder: Path, name: str, data: bytes, version: str = "1", config: str = "") -> Path:
    """Put a model into a model folder, with its model.json; return the version's folder."""
    home = folder / name / version
    home.mkdir(parents=True, exist_ok=True)
    (home / "model.onnx").write_bytes(data)
    if config:
        (home / "model.json").write_text(config, encoding="utf-8")
    return home
