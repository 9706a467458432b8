"""JSON to typed tensors and back, with errors that name the input, its type and its shape."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bend import TerminalError

Tensor = NDArray[Any]
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


# Which kinds of JSON values a tensor type takes: i and u whole numbers, f fractions, b, U text.
KINDS = {"f": "iuf", "i": "iuf", "u": "iuf", "b": "b", "O": "U"}
KIND_NAMES = {
    "i": "whole numbers",
    "u": "whole numbers",
    "f": "numbers",
    "b": "booleans",
    "U": "text",
}


class Port(NamedTuple):
    """One input of a model: its name, ONNX type and shape (None or text: any size)."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]

    @property
    def batched(self) -> bool:
        """Whether the first dimension is free, so that samples can be put together."""
        return bool(self.shape) and not isinstance(self.shape[0], int)

    def described(self) -> str:
        """Say what is wanted, for an error."""
        one = list(self.shape[1:] if self.batched else self.shape)
        return f"{one} of {self.type.removeprefix('tensor(').removesuffix(')')}"


class Sample(NamedTuple):
    """A task's input as tensors, each with the batch dimension; `rows` is its size.

    `single` tells that the task gave one sample without that dimension.
    """

    tensors: tuple[Tensor, ...]
    rows: int
    single: bool


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


def fits(shape: Sequence[int], wanted: Sequence[int | str | None]) -> bool:
    """Tell whether a tensor's shape fits; free dimensions take any size."""
    return len(shape) == len(wanted) and all(
        not isinstance(want, int) or want == have for have, want in zip(shape, wanted, strict=True)
    )


def typed(value: Any, dtype: Any) -> Tensor:
    """Return a JSON value as a tensor of a type, only when nothing is lost.

    Raises ValueError: ragged lists, text for numbers, fractions for integers, out of range.
    """
    wanted = np.dtype(dtype)
    found = np.asarray(value)
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
    return found.astype(wanted)


def sample(ports: Sequence[Port], body: Mapping[str, Any]) -> Sample:
    """Make a task's tensors. Raises TerminalError SHAPE_MISMATCH or INVALID_INPUT."""
    tensors: list[Tensor] = []
    singles: set[bool] = set()
    rows: set[int] = set()
    for port, value in zip(ports, values_by_port(ports, body), strict=True):
        dtype = DTYPES.get(port.type)
        if dtype is None:
            raise TerminalError("UNSUPPORTED_MODEL", f"input {port.name} has type {port.type}")
        try:
            tensor = typed(value, dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise TerminalError(
                "SHAPE_MISMATCH", f"body.{port.name}: wants {port.described()}: {error}"
            ) from None
        single = port.batched and fits(tensor.shape, port.shape[1:])
        if single:
            tensor = tensor[np.newaxis]
        elif not fits(tensor.shape, port.shape):
            raise TerminalError(
                "SHAPE_MISMATCH",
                f"body.{port.name}: wants {port.described()}"
                f"{' or a list of these' if port.batched else ''}, got {list(tensor.shape)}",
                details={"input": port.name, "got": list(tensor.shape)},
            )
        tensors.append(tensor)
        singles.add(single)
        rows.add(tensor.shape[0] if tensor.ndim else 1)
    if len(singles) > 1 or (len(rows) > 1 and ports[0].batched):
        raise TerminalError("SHAPE_MISMATCH", "all inputs must have the same number of samples")
    return Sample(tuple(tensors), max(rows, default=1), True in singles)


def plain(tensor: Tensor, *, single: bool) -> Any:
    """Return an output as JSON values; one sample's output of one number is that number.

    An output without the batch dimension (its first size is not 1) stays whole.
    """
    value = tensor[0] if single and tensor.ndim and tensor.shape[0] == 1 else tensor
    if single and value.shape in {(), (1,)}:
        value = value.reshape(())
    listed = value.tolist()
    return decoded(listed) if value.dtype == np.object_ else listed


def decoded(value: Any) -> Any:
    """Turn the bytes of string tensors into text."""
    if isinstance(value, list):
        return [decoded(entry) for entry in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
