"""One ONNX session: the file is checked, opened and warmed up here, and runs here."""

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bend import TerminalError
from bend_executors.model.folder import Found, digest_mismatch
from bend_executors.model.graphs import BadGraph, Reader
from bend_executors.model.options import ModelOptions
from bend_executors.model.outputs import AUTO, Output
from bend_executors.model.settings import MODEL_BYTES_MAX, Settings
from bend_executors.model.tensors import DTYPES, Port, Tensor

EXTERNAL = "session.model_external_initializers_file_folder_path"
# A session takes what its file has, and more for plans and prepacked weights; beyond this share
# a difference of the process's memory has other causes.
MEASURED_SHARE_MAX = 4
OVERHEAD_BYTES = 4 * 1024 * 1024


def estimated(found: Found) -> int:
    """Return the bytes that a model will need, before it is loaded: twice its files."""
    size = sum(path.stat().st_size for path in found.folder.iterdir() if path.is_file())
    return 2 * size + OVERHEAD_BYTES


def resident() -> int:
    """Return the bytes of memory that this process has; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def read_file(found: Found, sha256: str) -> bytes:
    """Return the bytes that will be loaded, the same that were checked.

    Raises TerminalError: MODEL_DIGEST_MISMATCH; MODEL_INVALID for what is no ONNX file or keeps
    weights where they may not be.
    """
    try:
        if found.file.stat().st_size > MODEL_BYTES_MAX:
            raise TerminalError("MODEL_INVALID", f"{found.label}: has more than 2 GiB")
        data = found.file.read_bytes()
    except OSError as error:
        raise TerminalError("MODEL_INVALID", f"{found.label}: {error.strerror}") from None
    if sha256:
        got = hashlib.sha256(data).hexdigest()
        if got != sha256:
            raise digest_mismatch(found, sha256, got)
    try:
        external = Reader(data).external()
    except BadGraph as error:
        raise TerminalError("MODEL_INVALID", f"{found.label}: the file {error}") from None
    for location in dict.fromkeys(external):
        check_external(found, location, sha256)
    return data


def check_external(found: Found, location: str, sha256: str) -> None:
    """Refuse weights outside the version's own folder, and those that no digest covers."""
    home = found.folder.resolve()
    # `resolve` follows links, so a link out of the folder is outside.
    path = home if "\0" in location else (home / location).resolve()
    if path == home or not path.is_relative_to(home):
        raise TerminalError(
            "MODEL_INVALID", f"{found.label}: external data {location!r} is outside its folder"
        )
    if not path.is_file():
        raise TerminalError(
            "MODEL_INVALID", f"{found.label}: external data {location!r} is missing"
        )
    if sha256:
        raise TerminalError(
            "MODEL_INVALID", f"{found.label}: the digest does not cover external data {location!r}"
        )


class Session:
    """A session with what its inputs and outputs are.

    Attributes:
        together: whether runs of several tasks' samples make sense.
        bytes: what it takes, measured at load.
        load_us, warmed: how long loading took, and whether the warm-up ran.
    """

    def __init__(self, found: Found, settings: Settings, options: ModelOptions, sha256: str):
        begin, before = time.perf_counter(), resident()
        self.name = found.label
        data = read_file(found, sha256)
        self._runtime = opened(found, data, settings, options)
        size = len(data)
        del data
        self._describe(options)
        self.warmed = False
        if settings.warm_up if options.warm_up is None else options.warm_up:
            self._warm_up()
        grown = max(0, resident() - before)
        self.bytes = max(size, min(grown, MEASURED_SHARE_MAX * size + OVERHEAD_BYTES))
        self.load_us = int((time.perf_counter() - begin) * 1e6)

    def _describe(self, options: ModelOptions) -> None:
        entries, answers = self._runtime.get_inputs(), self._runtime.get_outputs()
        unknown = set(options.axes) - {entry.name for entry in (*entries, *answers)}
        for name in sorted(unknown):
            raise TerminalError("MODEL_INVALID", f"{self.name}: axes.{name}: no such tensor")
        ports: list[Port] = []
        for entry in entries:
            shape = tuple(entry.shape)
            axis = 0 if shape and not isinstance(shape[0], int) else None
            if options.axes:
                axis = options.axes.get(entry.name)
            if axis is not None and (axis >= len(shape) or isinstance(shape[axis], int)):
                raise TerminalError(
                    "MODEL_INVALID", f"{self.name}: axes.{entry.name}: dimension {axis} is not free"
                )
            ports.append(Port(entry.name, entry.type, shape, axis))
        self.ports = tuple(ports)
        self.outputs = tuple(
            Output(e.name, e.type, options.axes.get(e.name) if options.axes else AUTO)
            for e in answers
        )
        self._names = [output.name for output in self.outputs]
        if options.axes:
            free = any(port.axis is not None for port in ports)
        else:
            # A size that the model fixes, in or out, is no batch: such tasks run one by one.
            free = all(port.axis == 0 for port in ports) and all(
                e.type.startswith("seq(") or (e.shape and not isinstance(e.shape[0], int))
                for e in answers
            )
        self.together = options.batch and free

    def run(self, tensors: tuple[Tensor, ...], control: onnxruntime.RunOptions) -> list[Any]:
        """Run once; raises what the library raises."""
        feed = {port.name: tensor for port, tensor in zip(self.ports, tensors, strict=True)}
        found: list[Any] = self._runtime.run(self._names, feed, control)
        return found

    def _warm_up(self) -> None:
        """Run once on zeros, when every size but the batch's is known."""
        zeros: list[Tensor] = []
        for port in self.ports:
            shape = tuple(1 if at == port.axis else size for at, size in enumerate(port.shape))
            sizes = tuple(size for size in shape if isinstance(size, int))
            if len(sizes) < len(shape) or port.type not in DTYPES:
                return
            dtype = np.dtype(DTYPES[port.type])
            zeros.append(
                np.full(sizes, "", dtype) if dtype == np.object_ else np.zeros(sizes, dtype)
            )
        try:
            self.run(tuple(zeros), onnxruntime.RunOptions())
        except Exception:  # noqa: BLE001 - a model may refuse zeros; the tasks' own values tell
            return
        self.warmed = True


def opened(
    found: Found, data: bytes, settings: Settings, options: ModelOptions
) -> onnxruntime.InferenceSession:
    """Open the checked bytes. Raises TerminalError MODEL_INVALID."""
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = options.threads or settings.threads
    made.inter_op_num_threads = settings.inter_threads
    if settings.inter_threads > 1:
        made.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    made.log_severity_level = 4
    # Threads that wait for work must not burn the processor of the tasks beside them.
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made.add_session_config_entry("session.inter_op.allow_spinning", "0")
    made.add_session_config_entry(EXTERNAL, str(found.folder.resolve()))
    try:
        return onnxruntime.InferenceSession(data, made, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the library raises many kinds, all final
        raise TerminalError("MODEL_INVALID", f"{found.label}: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 500 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
