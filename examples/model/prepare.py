"""Write an ONNX model into the model folder: which iris is it, by the nearest mean.

An ONNX file is a protobuf message, and a small one needs no library: `field` writes its parts. The
means are those of Fisher's data of 1936; the score of a species is 2·mean·flower - |mean|².
"""

import json
import os
import struct
from pathlib import Path

# Length and width of sepals, length and width of petals, in centimetres.
MEANS = {
    "setosa": (5.006, 3.428, 1.462, 0.246),
    "versicolor": (5.936, 2.770, 4.260, 1.326),
    "virginica": (6.588, 2.974, 5.552, 2.026),
}
FLOAT = 1


def field(number: int, value: int | bytes | str) -> bytes:
    """Return a field of a protobuf message: a number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Return a number in groups of seven bits."""
    out = b""
    while value > 127:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def constant(name: str, sizes: tuple[int, ...], values: list[float]) -> bytes:
    """Return a tensor of floats."""
    data = struct.pack(f"<{len(values)}f", *values)
    return b"".join(field(1, n) for n in sizes) + field(2, FLOAT) + field(8, name) + field(9, data)


def tensor(name: str, size: int) -> bytes:
    """Return the description of an input or output: any number of rows of `size` floats."""
    shape = field(1, field(2, "N")) + field(1, field(1, size))
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, shape)))


def node(operation: str, inputs: tuple[str, str], output: str) -> bytes:
    """Return one operation."""
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operation)


def model() -> bytes:
    """Return the ONNX file: `flower` → `score`, a product and a sum."""
    means = list(MEANS.values())
    weights = [2 * mean[at] for at in range(4) for mean in means]
    offsets = [-sum(value * value for value in mean) for mean in means]
    graph = field(1, node("MatMul", ("flower", "weights"), "product"))
    graph += field(1, node("Add", ("product", "offsets"), "score")) + field(2, "iris")
    graph += field(5, constant("weights", (4, 3), weights))
    graph += field(5, constant("offsets", (3,), offsets))
    graph += field(11, tensor("flower", 4)) + field(12, tensor("score", 3))
    return field(1, 8) + field(8, field(1, "") + field(2, 13)) + field(7, graph)


def main() -> None:
    """Write `models/iris/1.0.0` below BEND_HOME: the model and what it says about itself."""
    home = Path(os.environ.get("BEND_HOME", ".bend")) / "models" / "iris" / "1.0.0"
    home.mkdir(parents=True, exist_ok=True)
    (home / "model.onnx").write_bytes(model())
    post = {"species": "labels[argmax(output.score)]"}
    config = {"labels": list(MEANS), "post": post}
    (home / "model.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    print(f"the model is in {home}")


if __name__ == "__main__":
    main()
