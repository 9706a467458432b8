"""One loaded model: tasks that wait together run as one batch."""

import asyncio
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from bend import TerminalError
from bend_executors.model.tensors import Port, Sample, Tensor, plain, sample

ROWS_MAX = 64


class Waiting(NamedTuple):
    """A task that waits for its turn."""

    sample: Sample
    done: "asyncio.Future[dict[str, Any]]"


class LoadedModel:
    """A session and its queue.

    No timer makes batches: while one runs, the next gathers, so a lone task never waits and a
    crowd shares one call. `batch_rows` counts how many rows each call had.
    """

    def __init__(self, name: str, file: Path, threads: int, pool: ThreadPoolExecutor) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # noqa: BLE001 - the library raises many kinds, all final
            raise TerminalError("INVALID_MODEL", f"{name}: {first_line(error)}") from None
        self.name = name
        self.ports = tuple(
            Port(entry.name, entry.type, tuple(entry.shape)) for entry in self._session.get_inputs()
        )
        self._outputs = [entry.name for entry in self._session.get_outputs()]
        outputs = self._session.get_outputs()
        # A size that the model fixes, in or out, is no batch: such tasks run one by one.
        self._together = all(port.batched for port in self.ports) and all(
            entry.shape and not isinstance(entry.shape[0], int) for entry in outputs
        )
        self._pool = pool
        self._waiting: deque[Waiting] = deque()
        self._running: asyncio.Task[None] | None = None
        self.batch_rows: Counter[int] = Counter()

    async def infer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Run one task's input; return output name → value."""
        made = sample(self.ports, body)
        done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(made, done))
        if self._running is None:
            self._running = asyncio.create_task(self._drain())
        return await done

    async def _drain(self) -> None:
        """Run batches until nobody waits."""
        loop = asyncio.get_running_loop()
        try:
            # One turn of the loop, so that tasks of the same message gather into one batch.
            await asyncio.sleep(0)
            while self._waiting:
                batch = self._take()
                if not batch:
                    continue
                try:
                    outputs = await loop.run_in_executor(self._pool, self._run, batch)
                except Exception as error:  # noqa: BLE001 - becomes the failure of each task
                    fail(batch, TerminalError("INFERENCE_FAILED", first_line(error)))
                else:
                    if outputs:
                        deliver(batch, self._outputs, outputs)
                    else:
                        self._waiting.extendleft(reversed(batch))
        finally:
            self._running = None

    def _take(self) -> list[Waiting]:
        """Take tasks whose shapes go together, oldest first, at most ROWS_MAX rows."""
        batch: list[Waiting] = []
        rows = 0
        left: deque[Waiting] = deque()
        shape: list[tuple[int, ...]] | None = None
        while self._waiting:
            entry = self._waiting.popleft()
            if entry.done.done():
                continue
            mine = [tensor.shape[1:] for tensor in entry.sample.tensors]
            fitting = shape is None or (self._together and mine == shape)
            if fitting and (not batch or rows + entry.sample.rows <= ROWS_MAX):
                batch.append(entry)
                rows += entry.sample.rows
                shape = mine
            else:
                left.append(entry)
        self._waiting = left
        return batch

    def _run(self, batch: list[Waiting]) -> list[Tensor]:
        """Run in the pool's thread: put the samples together, call the session."""
        self.batch_rows[sum(entry.sample.rows for entry in batch)] += 1
        columns = zip(*(entry.sample.tensors for entry in batch), strict=True)
        feed = {
            port.name: column[0] if len(batch) == 1 else np.concatenate(column)
            for port, column in zip(self.ports, columns, strict=True)
        }
        outputs: list[Tensor] = self._session.run(self._outputs, feed)
        rows = sum(entry.sample.rows for entry in batch)
        if len(batch) > 1 and any(not o.ndim or o.shape[0] != rows for o in outputs):
            # The outputs cannot be told apart: this model is not run in batches from now on.
            self._together = False
            return []
        return outputs


def deliver(batch: list[Waiting], names: list[str], outputs: list[Tensor]) -> None:
    """Give each task its rows of the outputs."""
    at = 0
    for entry in batch:
        rows = entry.sample.rows
        part = {}
        for name, tensor in zip(names, outputs, strict=True):
            whole = len(batch) == 1
            mine = tensor if whole else tensor[at : at + rows]
            part[name] = plain(np.asarray(mine), single=entry.sample.single)
        at += rows
        if not entry.done.done():
            entry.done.set_result(part)


def fail(batch: list[Waiting], error: TerminalError) -> None:
    """Fail every task of a batch."""
    for entry in batch:
        if not entry.done.done():
            entry.done.set_exception(error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 500 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
