"""JSON to typed tensors, with errors that name the input, its type and its shape."""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bend import TerminalError

Tensor = NDArray[Any]
Shape = tuple[int | str | None, ...]
DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}
# Shared inputs up to this size are compared, so that tasks with equal ones run together.
SHARED_BYTES_MAX = 4096

# Which kinds of JSON values a tensor type takes: i and u whole numbers, f fractions, b booleans.
KINDS = {"f": "iuf", "i": "iuf", "u": "iuf", "b": "b"}
KIND_NAMES = {
    "i": "whole numbers",
    "u": "whole numbers",
    "f": "numbers",
    "b": "booleans",
    "U": "text",
}


class Port(NamedTuple):
    """One input of a model: its name, ONNX type, shape (None or text: any size) and batch axis.

    `axis` is the dimension in which samples are put together; None: this input has none.
    """

    name: str
    type: str
    shape: Shape
    axis: int | None

    @property
    def dtype_name(self) -> str:
        """The type as ONNX names it: float, int64, string."""
        return self.type.removeprefix("tensor(").removesuffix(")")

    @property
    def one(self) -> Shape:
        """The shape of one sample."""
        if self.axis is None:
            return self.shape
        return self.shape[: self.axis] + self.shape[self.axis + 1 :]

    def described(self) -> str:
        """Say what is wanted, for an error."""
        return f"{sizes(self.one)} of {self.dtype_name}"


class Sample(NamedTuple):
    """A task's input as tensors, each with the batch dimension; `rows` is its size.

    `single` tells that the task gave one sample without that dimension. Tasks with equal `key`
    fit into one batch; None fits with nobody.
    """

    tensors: tuple[Tensor, ...]
    rows: int
    single: bool
    key: tuple[Any, ...] | None


def sizes(shape: Shape) -> str:
    """Return a shape as text: `[2, ?, 128]`, named free sizes by their names."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def values_by_port(ports: Sequence[Port], body: Mapping[str, Any]) -> list[Any]:
    """Return the body's value for each port; a model with one input also takes `features`."""
    if len(ports) == 1 and ports[0].name not in body and set(body) == {"features"}:
        return [body["features"]]
    wanted = [port.name for port in ports]
    unknown = sorted(set(body) - set(wanted))
    missing = [name for name in wanted if name not in body]
    if unknown or missing:
        what = f"body.{unknown[0]}: no such input" if unknown else f"body.{missing[0]}: is missing"
        raise TerminalError("INVALID_INPUT", f"{what}; the model takes {', '.join(wanted)}")
    return [body[name] for name in wanted]


def fits(shape: Sequence[int], wanted: Shape) -> bool:
    """Tell whether a tensor's shape fits; free dimensions take any size."""
    return len(shape) == len(wanted) and all(
        not isinstance(want, int) or want == have for have, want in zip(shape, wanted, strict=True)
    )


def typed(value: Any, dtype: Any) -> Tensor:
    """Return a JSON value as a tensor of a type, only when nothing is lost.

    Raises ValueError: ragged lists, text for numbers, fractions for integers, out of range.
    """
    wanted = np.dtype(dtype)
    if wanted == np.object_:
        return texts(value)
    found = np.asarray(value)
    if wanted == np.uint64 and found.dtype.kind in "fO":
        # Small and large whole numbers together would become floats, and lose digits.
        exact = np.asarray(value, dtype=np.object_)
        if all(type(entry) is int and 0 <= entry < 2**64 for entry in exact.ravel().tolist()):
            return exact.astype(wanted)
    if not found.size:
        return found.astype(wanted)
    kind = KIND_NAMES.get(found.dtype.kind, "values of several kinds, or null")
    if found.dtype.kind not in KINDS[wanted.kind]:
        raise ValueError(f"got {kind}")
    if wanted.kind in "iu":
        if found.dtype.kind == "f" and not np.array_equal(found, np.floor(found)):
            raise ValueError("got numbers with a fraction")
        limits = np.iinfo(wanted)
        if found.min() < limits.min or found.max() > limits.max:
            raise ValueError(f"got a number outside {limits.min} to {limits.max}")
    elif wanted.kind == "f":
        with np.errstate(over="ignore"):
            made = found.astype(wanted)
        if not np.isfinite(made).all():
            most = float(np.finfo(wanted).max)
            raise ValueError(f"got a number outside {-most:g} to {most:g}")
        return made
    return found.astype(wanted)


def texts(value: Any) -> Tensor:
    """Return text, or nested lists of it, as a tensor of strings. Raises TypeError."""
    # A fixed-width array would cut trailing NULs, so the texts stay Python's.
    found = np.asarray(value, dtype=np.object_)
    for entry in found.flat:
        if not isinstance(entry, str):
            what = "lists of different lengths" if isinstance(entry, list) else "values, not text"
            raise TypeError(f"got {what}")
    return found


def raw(value: Mapping[str, Any], port: Port) -> Tensor:
    """Return `{"base64": …, "shape": […]}` as a tensor: C order, little-endian.

    Without a shape: the port's own when its sizes leave one choice. Raises ValueError.
    """
    dtype = np.dtype(DTYPES[port.type])
    if dtype == np.object_:
        raise ValueError("text cannot come as base64")
    shape = value.get("shape")
    if set(value) - {"base64", "shape"} or not isinstance(value["base64"], str):
        raise ValueError('got a map that is not {"base64": text, "shape": sizes}')
    try:
        data = base64.b64decode(value["base64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"got no base64: {error}") from None
    if len(data) % dtype.itemsize:
        raise ValueError(f"got {len(data)} bytes, one value has {dtype.itemsize}")
    if dtype == np.bool_ and data.translate(None, b"\x00\x01"):
        raise ValueError("got bytes that are neither 0 nor 1")
    found = np.frombuffer(data, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False)
    if shape is None:
        return found.reshape(guessed(port.one, found.size))
    if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("shape: a list of sizes is wanted")
    if math.prod(shape) != found.size:
        raise ValueError(f"got {found.size} values, the shape {shape} has {math.prod(shape)}")
    return found.reshape(shape)


def guessed(one: Shape, count: int) -> tuple[int, ...]:
    """Return the shape of one sample of `count` values. Raises ValueError without one answer."""
    known = math.prod(size for size in one if isinstance(size, int))
    free = sum(not isinstance(size, int) for size in one)
    if free > 1 or not known or count % known or (not free and count != known):
        raise ValueError(f"got {count} values without a shape")
    return tuple(size if isinstance(size, int) else count // known for size in one)


def tensor_of(port: Port, value: Any) -> Tensor:
    """Return a body's value as the port's type. Raises TerminalError, reasons as `sample`."""
    dtype = DTYPES.get(port.type)
    if dtype is None:
        raise TerminalError("UNSUPPORTED_MODEL", f"input {port.name} has type {port.type}")
    try:
        if isinstance(value, dict) and "base64" in value:
            return raw(value, port)
        return typed(value, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise mismatch(port, f"{port.described()}: {error}", str(error)) from None


def mismatch(port: Port, text: str, got: Any) -> TerminalError:
    """Return the error that names an input, what it wants and what came."""
    details = {"input": port.name, "type": port.dtype_name, "shape": list(port.one), "got": got}
    return TerminalError("SHAPE_MISMATCH", f"body.{port.name}: wants {text}", details=details)


def sample(ports: Sequence[Port], body: Mapping[str, Any]) -> Sample:
    """Make a task's tensors. Raises TerminalError SHAPE_MISMATCH or INVALID_INPUT."""
    tensors: list[Tensor] = []
    singles: set[bool] = set()
    rows: set[int] = set()
    for port, value in zip(ports, values_by_port(ports, body), strict=True):
        tensor = tensor_of(port, value)
        single = port.axis is not None and fits(tensor.shape, port.one)
        if single and port.axis is not None:
            at = port.axis
            tensor = tensor.reshape(*tensor.shape[:at], 1, *tensor.shape[at:])
        elif not fits(tensor.shape, port.shape):
            got = list(tensor.shape)
            also = "" if port.axis is None else " or a list of these"
            if port.axis:
                also = f" or {sizes(port.shape)} with the samples in dimension {port.axis}"
            raise mismatch(port, f"{port.described()}{also}, got {got}", got)
        tensors.append(tensor)
        if port.axis is not None:
            singles.add(single)
            rows.add(tensor.shape[port.axis])
    if len(singles) > 1 or len(rows) > 1:
        raise TerminalError("SHAPE_MISMATCH", "all inputs must have the same number of samples")
    return Sample(tuple(tensors), max(rows, default=1), True in singles, key_of(ports, tensors))


def key_of(ports: Sequence[Port], tensors: Sequence[Tensor]) -> tuple[Any, ...] | None:
    """Return what tasks of one batch have in common: the shapes, and the shared inputs."""
    parts: list[Any] = []
    for port, tensor in zip(ports, tensors, strict=True):
        if port.axis is not None:
            parts.append(tensor.shape[: port.axis] + tensor.shape[port.axis + 1 :])
        elif tensor.nbytes > SHARED_BYTES_MAX or tensor.dtype == np.object_:
            return None
        else:
            parts.append((tensor.shape, tensor.tobytes()))
    return tuple(parts)
