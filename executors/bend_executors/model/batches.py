"""One loaded model: tasks that wait together run as one batch."""

import asyncio
import logging
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

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
# How long one model may keep a thread of the pool while other models wait for it.
STINT_US = 50_000
# How often a run is looked at before it is too late.
LOOKS_A_RUN = 8

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


Answer = Parts | ComponentError


class Done(NamedTuple):
    """What a batch gave: an answer for each task, when it began, and (samples, us) of its runs."""

    batch: list[Waiting]
    answers: list[Answer]
    begin_us: int
    runs: list[tuple[int, int]]


class LoadedModel:
    """A session and its queue; tasks come from one event loop, runs go on in the pool's threads.

    No timer makes batches: while one runs, the next gathers, so a lone task never waits and a
    crowd shares one call. The thread that ran a batch takes the next one itself: a turn over the
    event loop would wait for Python's lock while the loop wakes the tasks of the batch before.

    Args:
        pool: runs sessions. answering: one thread that hands answers to the event loop.
        batch_max: most samples of several tasks in a run. run_s_max: seconds a run may take.
    """

    def __init__(
        self,
        session: Session,
        options: ModelOptions,
        pool: ThreadPoolExecutor,
        answering: ThreadPoolExecutor,
        *,
        batch_max: int,
        run_s_max: float,
    ) -> None:
        self.session = session
        self.options = options
        self.metrics = Metrics()
        self._pool = pool
        self._answering = answering
        self._rows_max = min(batch_max, options.batch_max or batch_max)
        self._run_s_max = run_s_max
        self._together = session.together
        # Holds the queue, `_busy` and what runs now together; never held for long.
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._busy = False
        self._batch: list[Waiting] = []
        self._control: onnxruntime.RunOptions | None = None
        self._began_us = 0
        self._watching: asyncio.AbstractEventLoop | None = None
        self._logged_us = now_us()

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
        loop = asyncio.get_running_loop()
        entry = Waiting(made, loop.create_future())
        with self._lock:
            self._waiting.append(entry)
            first, self._busy = not self._busy, True
        if first:
            # One turn of the loop, so that tasks of the same message gather into one batch.
            loop.call_soon(self._pool.submit, self._work)
            self._watch(loop)
        try:
            return made, await entry.done
        except asyncio.CancelledError:
            self._left(entry)
            raise

    def _left(self, entry: Waiting) -> None:
        """Forget a cancelled task; stop the run when it was for cancelled ones only."""
        with self._lock:
            try:
                self._waiting.remove(entry)
            except ValueError:
                if self._control is not None and all(other.done.done() for other in self._batch):
                    self._control.terminate = True

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop runs that take too long, while there are any."""
        if self._watching is not loop:
            self._watching = loop
            loop.call_later(self._run_s_max / LOOKS_A_RUN, self._look)

    def _look(self) -> None:
        loop, self._watching = self._watching, None
        with self._lock:
            if self._control is not None and self._late():
                self._control.terminate = True
        if self._busy and loop is not None:
            self._watch(loop)

    def _late(self) -> bool:
        return now_us() - self._began_us >= self._run_s_max * 1e6

    def _work(self) -> None:
        """Run batch after batch in a thread of the pool, then let other models have it."""
        end = now_us() + STINT_US
        while batch := self._take():
            begin = now_us()
            runs: list[tuple[int, int]] = []
            done = Done(batch, self._answers(batch, runs), begin, runs)
            # Waking the loop gives it Python's lock; from a thread of its own that happens when
            # the next run has begun. A loop that is closed has nobody who waits.
            loop = batch[0].done.get_loop()
            self._answering.submit(loop.call_soon_threadsafe, self._deliver, done)
            if now_us() > end:
                self._pool.submit(self._work)
                return

    def _take(self) -> list[Waiting]:
        """Take tasks that go together, oldest first, at most `rows_max` samples of several.

        An empty list means that nobody waits; the next task then starts the work again.
        """
        with self._lock:
            self._batch, self._control = [], None
            if not self._waiting:
                self._busy = False
                return []
            first = self._waiting.popleft()
            batch, rows, key = [first], first.sample.rows, first.sample.key
            left: deque[Waiting] = deque()
            while self._together and key is not None and self._waiting and rows < self._rows_max:
                entry = self._waiting.popleft()
                if entry.sample.key == key and rows + entry.sample.rows <= self._rows_max:
                    batch.append(entry)
                    rows += entry.sample.rows
                else:
                    left.append(entry)
            self._waiting.extendleft(reversed(left))
            self._batch = batch
            self._controlled()
            return batch

    def _controlled(self) -> onnxruntime.RunOptions:
        """Begin a run that can be stopped."""
        self._began_us = now_us()
        self._control = onnxruntime.RunOptions()
        self._control.log_severity_level = 4
        return self._control

    def _answers(self, batch: list[Waiting], runs: list[tuple[int, int]]) -> list[Answer]:
        """Run a batch; one that fails is run task by task: one input must not fail the others."""
        try:
            return list(self._run(batch, self._control or self._controlled(), runs))
        except Exception as error:  # noqa: BLE001 - becomes the failure of each task
            late = self._late()
            if isinstance(error, Unseparable):
                # This model is not run in batches from now on.
                self._together = False
            elif len(batch) == 1 or late:
                return [self._failure(error, late=late)] * len(batch)
        answers: list[Answer] = []
        for entry in batch:
            with self._lock:
                self._batch = [entry]
                self._controlled()
            gone = entry.done.done()
            answers += [TerminalError("CANCELLED")] if gone else self._answers([entry], runs)
        return answers

    def _failure(self, error: BaseException, *, late: bool) -> TerminalError:
        if late:
            return TerminalError("INFERENCE_TIMEOUT", f"a run took more than {self._run_s_max:g} s")
        return TerminalError("INFERENCE_FAILED", first_line(error))

    def _run(
        self,
        batch: list[Waiting],
        control: onnxruntime.RunOptions,
        runs: list[tuple[int, int]],
    ) -> list[Parts]:
        """Put the samples together, call the session, cut what it answers."""
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
        runs.append((total, now_us() - begin))
        outputs = self.session.outputs
        pairs = zip(outputs, values, strict=True)
        if len(batch) > 1 and not all(output.separable(value, total) for output, value in pairs):
            raise Unseparable
        return parts(outputs, values, rows)

    def _deliver(self, done: Done) -> None:
        """Answer the tasks of a batch, in the event loop."""
        for rows, took_us in done.runs:
            self.metrics.ran(rows, took_us)
        for entry, answer in zip(done.batch, done.answers, strict=True):
            self.metrics.waited(done.begin_us - entry.since_us)
            if entry.done.done():
                continue
            if isinstance(answer, ComponentError):
                self.metrics.failures += 1
                entry.done.set_exception(answer)
            else:
                entry.done.set_result(answer)
        if now_us() - self._logged_us >= LOG_EVERY_US:
            self.log("model_runs")

    def log(self, event: str) -> None:
        """Write the line of metrics."""
        self._logged_us = now_us()
        facts = {"model": self.session.name, "waiting": self.waiting} | self.metrics.shown()
        log.info("%s %s", event, " ".join(f"{key}={value}" for key, value in facts.items()))
