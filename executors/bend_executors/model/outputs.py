"""What a session answers, cut into each task's part and made JSON."""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bend import TerminalError
from bend_executors.model.tensors import Tensor

# Of one task's outputs; as JSON text a number takes about three times its bytes.
OUTPUT_BYTES_MAX = 32 * 1024 * 1024
# A mark for `axis`: nothing is configured and the shape tells, when it tells.
AUTO = -1


class Output(NamedTuple):
    """One output of a model: its name, ONNX type and the axis of its samples, None or AUTO."""

    name: str
    type: str
    axis: int | None

    def axis_of(self, value: Any, rows: int) -> int | None:
        """Return the axis in which a run's value has the samples; None: it has none."""
        if not isinstance(value, np.ndarray):
            # A sequence has its samples one after another, or is no list of samples.
            return 0 if self.axis is not None and len(value) == rows else None
        axis = 0 if self.axis == AUTO else self.axis
        if axis is None or value.ndim <= axis or value.shape[axis] != rows:
            return None
        return axis

    def separable(self, value: Any, rows: int) -> bool:
        """Tell whether a batch's value can be given back to its tasks."""
        return self.axis is None or self.axis_of(value, rows) is not None


class Part(NamedTuple):
    """One task's rows of an output; `axis` is where they are, None: the value is whole."""

    value: Any
    axis: int | None

    def row(self, at: int) -> "Part":
        """Return one of the rows without its dimension."""
        if self.axis is None:
            return self
        if self.axis == 0:
            return Part(self.value[at], None)
        return Part(self.value[(slice(None),) * self.axis + (at,)], None)


Parts = dict[str, Part]


def parts(outputs: Sequence[Output], values: Sequence[Any], rows: Sequence[int]) -> list[Parts]:
    """Cut a run's values into one map for each of the tasks, whose sizes are `rows`."""
    total = sum(rows)
    cut: list[Parts] = [{} for _ in rows]
    for output, value in zip(outputs, values, strict=True):
        axis = output.axis_of(value, total)
        at = 0
        for mine, count in zip(cut, rows, strict=True):
            if axis is None or len(rows) == 1:
                mine[output.name] = Part(value, axis)
            elif isinstance(value, list):
                mine[output.name] = Part(value[at : at + count], axis)
            else:
                where = (slice(None),) * axis + (slice(at, at + count),)
                mine[output.name] = Part(value[where], axis)
            at += count
    return cut


def shown(found: Parts, *, single: bool, encoding: str) -> dict[str, Any]:
    """Return a task's outputs as JSON values; of one sample without the batch dimension.

    Raises TerminalError OUTPUT_TOO_LARGE.
    """
    size = sum(p.value.nbytes for p in found.values() if isinstance(p.value, np.ndarray))
    if size > OUTPUT_BYTES_MAX:
        raise TerminalError(
            "OUTPUT_TOO_LARGE", f"the outputs have {size} bytes, at most {OUTPUT_BYTES_MAX}"
        )
    make = packed if encoding == "base64" else plain
    return {
        name: make(part.row(0).value if single else part.value, single=single)
        for name, part in found.items()
    }


def plain(value: Any, *, single: bool) -> Any:
    """Return an output as JSON values; one sample's output of one number is that number."""
    if not isinstance(value, np.ndarray):
        return listed(value)
    if single and value.shape == (1,):
        value = value.reshape(())
    return value.tolist()


def packed(value: Any, *, single: bool) -> Any:
    """Return a tensor of numbers as base64 of its bytes (C order, little-endian); others plain."""
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype == np.object_:
        return plain(value, single=single)
    tensor: Tensor = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
    return {
        "base64": base64.b64encode(tensor.tobytes()).decode("ascii"),
        "dtype": tensor.dtype.name,
        "shape": list(value.shape),
    }


def listed(value: Any) -> Any:
    """Return what sequences and maps of a model hold as JSON values; keys become text."""
    if isinstance(value, dict):
        return {str(key): listed(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [listed(entry) for entry in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value
