"""One loaded model: tasks that wait together run as one batch."""

import asyncio
import logging
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime

from bend import RetryableError, TerminalError
from bend.errors import ComponentError
from bend_executors.model.metrics import Metrics
from bend_executors.model.options import ModelOptions
from bend_executors.model.outputs import Parts, parts
from bend_executors.model.session import Session, first_line
from bend_executors.model.tensors import Sample, Tensor, sample

QUEUE_MAX = 4096
LOG_EVERY_US = 60_000_000

log = logging.getLogger("bend.model")


class Waiting:
    """A task that waits for its turn; `since_us` is when it came."""

    __slots__ = ("done", "sample", "since_us")

    def __init__(self, made: Sample, done: "asyncio.Future[Parts]") -> None:
        self.sample = made
        self.done = done
        self.since_us = now_us()


class Unseparable(Exception):
    """A run of several tasks gave outputs that cannot be told apart."""


def now_us() -> int:
    """Return a time that only ever grows, in microseconds."""
    return time.perf_counter_ns() // 1000


class LoadedModel:
    """A session and its queue; used from one event loop.

    No timer makes batches: while one runs, the next gathers, so a lone task never waits and a
    crowd shares one call. A task that is cancelled leaves the queue; a run for nobody is stopped.
    """

    def __init__(
        self,
        session: Session,
        options: ModelOptions,
        pool: ThreadPoolExecutor,
        *,
        batch_max: int,
        run_s_max: float,
    ) -> None:
        self.session = session
        self.options = options
        self.metrics = Metrics()
        self._pool = pool
        self._rows_max = min(batch_max, options.batch_max or batch_max)
        self._run_s_max = run_s_max
        self._together = session.together
        self._waiting: deque[Waiting] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._batch: list[Waiting] = []
        self._control: onnxruntime.RunOptions | None = None
        self._logged_us = now_us()

    @property
    def batch_rows(self) -> "Counter[int]":
        """How many runs had how many samples."""
        return self.metrics.batch_rows

    @property
    def waiting(self) -> int:
        """How many tasks wait for a run."""
        return len(self._waiting)

    async def infer(self, body: dict[str, Any]) -> tuple[Sample, Parts]:
        """Run one task's input; return it as tensors, and its rows of the outputs.

        Raises:
            TerminalError: INVALID_INPUT, SHAPE_MISMATCH, UNSUPPORTED_MODEL; INFERENCE_FAILED,
                INFERENCE_TIMEOUT.
            RetryableError: MODEL_BUSY when QUEUE_MAX tasks wait.
        """
        # Lists become tensors under Python's lock wherever that happens; large ones want base64.
        made = sample(self.session.ports, body)
        if len(self._waiting) >= QUEUE_MAX:
            raise RetryableError("MODEL_BUSY", f"{QUEUE_MAX} tasks wait", retry_after=1.0)
        done: asyncio.Future[Parts] = asyncio.get_running_loop().create_future()
        entry = Waiting(made, done)
        self._waiting.append(entry)
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        try:
            return made, await done
        except asyncio.CancelledError:
            self._left(entry)
            raise

    def _left(self, entry: Waiting) -> None:
        """Forget a cancelled task; stop the run when it was for cancelled ones only."""
        try:
            self._waiting.remove(entry)
        except ValueError:
            if self._control is not None and all(other.done.done() for other in self._batch):
                self._control.terminate = True

    async def _drain(self) -> None:
        """Run batches until nobody waits."""
        try:
            # One turn of the loop, so that tasks of the same message gather into one batch.
            await asyncio.sleep(0)
            while self._waiting:
                await self._run_batch(self._take())
                self._log_sometimes()
        finally:
            self._draining = None

    def _take(self) -> list[Waiting]:
        """Take tasks that go together, oldest first, at most `rows_max` samples of several."""
        first = self._waiting.popleft()
        batch, rows = [first], first.sample.rows
        if not self._together or first.sample.key is None:
            return batch
        left: deque[Waiting] = deque()
        while self._waiting and rows < self._rows_max:
            entry = self._waiting.popleft()
            fits = rows + entry.sample.rows <= self._rows_max
            if fits and entry.sample.key == first.sample.key:
                batch.append(entry)
                rows += entry.sample.rows
            else:
                left.append(entry)
        self._waiting.extendleft(reversed(left))
        return batch

    async def _run_batch(self, batch: list[Waiting]) -> None:
        """Run a batch and answer its tasks; a batch that fails is run task by task."""
        self._batch = batch
        control = self._control = onnxruntime.RunOptions()
        control.log_severity_level = 4
        begin = now_us()
        loop = asyncio.get_running_loop()
        expiry = loop.call_later(self._run_s_max, setattr, control, "terminate", True)
        try:
            cut = await loop.run_in_executor(self._pool, self._run, batch, control)
        except Unseparable:
            # This model is not run in batches from now on.
            self._together = False
            self._waiting.extendleft(reversed([e for e in batch if not e.done.done()]))
        except Exception as error:  # noqa: BLE001 - becomes the failure of each task
            late = now_us() - begin >= self._run_s_max * 1e6
            if len(batch) > 1 and not late:
                # The input of one must not fail its neighbours.
                for entry in batch:
                    if not entry.done.done():
                        await self._run_batch([entry])
            else:
                self._fail(batch, self._failure(error, late=late))
        else:
            for entry, mine in zip(batch, cut, strict=True):
                self.metrics.waited(begin - entry.since_us)
                if not entry.done.done():
                    entry.done.set_result(mine)
        finally:
            expiry.cancel()
            self._batch, self._control = [], None

    def _failure(self, error: BaseException, *, late: bool) -> TerminalError:
        if late:
            return TerminalError("INFERENCE_TIMEOUT", f"a run took more than {self._run_s_max:g} s")
        return TerminalError("INFERENCE_FAILED", first_line(error))

    def _run(self, batch: list[Waiting], control: onnxruntime.RunOptions) -> list[Parts]:
        """Run in the pool's thread: put the samples together, call the session, cut."""
        rows = [entry.sample.rows for entry in batch]
        total = sum(rows)
        columns = zip(*(entry.sample.tensors for entry in batch), strict=True)
        feed: tuple[Tensor, ...] = tuple(
            column[0]
            if len(batch) == 1 or port.axis is None
            else np.concatenate(column, axis=port.axis)
            for port, column in zip(self.session.ports, columns, strict=True)
        )
        begin = now_us()
        values = self.session.run(feed, control)
        self.metrics.ran(total, now_us() - begin)
        outputs = self.session.outputs
        pairs = zip(outputs, values, strict=True)
        if len(batch) > 1 and not all(output.separable(value, total) for output, value in pairs):
            raise Unseparable
        return parts(outputs, values, rows)

    def _fail(self, batch: list[Waiting], error: ComponentError) -> None:
        for entry in batch:
            if not entry.done.done():
                self.metrics.failures += 1
                entry.done.set_exception(error)

    def _log_sometimes(self) -> None:
        if now_us() - self._logged_us >= LOG_EVERY_US:
            self.log("model_runs")

    def log(self, event: str) -> None:
        """Write the line of metrics."""
        self._logged_us = now_us()
        facts = {"model": self.session.name, "waiting": self.waiting} | self.metrics.shown()
        log.info("%s %s", event, " ".join(f"{key}={value}" for key, value in facts.items()))
