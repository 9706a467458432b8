"""Running tasks: hand-overs become calls of component functions, their ends become results.

Coroutines and async generators run as asyncio tasks on the worker's loop; plain functions and
generators in a bounded pool of threads, so that they never block it.
"""

import asyncio
import logging
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import orjson
from google.protobuf.duration_pb2 import Duration

from bend.chunks import PartialChunk
from bend.components import Component, Context, Final, Kind, encode
from bend.errors import ComponentError, TerminalError
from bend.pool import Pool
from bend.stream import Carrier, Result
from bend.v1 import executor_service_pb2 as pb
from bend.v1 import failure_pb2

SIZE_WARNING_RATIO = 0.8
CHUNK_BYTES_MAX = 256 * 1024
DETAILS_BYTES_MAX = 16 * 1024
MESSAGE_BYTES_MAX = 8 * 1024
REASON_CHARS_MAX = 128
BACKLOG_MAX = 1024
SETTLED_MAX = 4096
SETTLED_BYTES_MAX = 32 * 1024 * 1024
SETTLED_S = 60.0

log = logging.getLogger("bend.worker")


class Running:
    """One hand-over while it runs; also the context's sink."""

    __slots__ = (
        "backlog",
        "began_ns",
        "cancelled",
        "chunk_count",
        "component",
        "handle",
        "run_id",
        "stream",
        "token",
    )

    def __init__(self, run_id: int, component: Component, stream: Carrier, token: bytes) -> None:
        self.run_id = run_id
        self.component = component
        # None while the stream is broken and the task is held for the next one.
        self.stream: Carrier | None = stream
        self.token = token
        self.cancelled = False
        self.handle: asyncio.Task[None] | None = None
        self.chunk_count = 0
        self.began_ns = 0
        self.backlog: deque[PartialChunk] | None = None

    def log(self, level: str, message: str) -> None:
        """Send one log line."""
        self.chunk(pb.Chunk.LOG, orjson.dumps({"level": level, "message": message}))

    def beat(self) -> None:
        """Name this task in the stream's next heartbeat."""
        if self.stream is not None:
            self.stream.beat(self.run_id)

    def chunk(self, kind: int, data: bytes) -> bool:
        """Send a chunk; return False when the stream's buffer is full.

        While the task is held without a stream the newest chunks are kept for the next one.
        """
        stream = self.stream
        one = PartialChunk(self.run_id, self.chunk_count, kind, data, time.time_ns() // 1000)
        self.chunk_count += 1
        if stream is not None:
            return stream.put_chunk(one)
        if self.backlog is None:
            self.backlog = deque(maxlen=BACKLOG_MAX)
        self.backlog.append(one)
        return True

    def partial(self, value: object) -> bool:
        """Send a partial output. Raises TerminalError TOO_LARGE over 256 KiB."""
        data = encode(value)
        if len(data) > CHUNK_BYTES_MAX:
            raise TerminalError(
                "TOO_LARGE",
                f"a partial output has {len(data)} bytes, at most {CHUNK_BYTES_MAX}",
            )
        return self.chunk(pb.Chunk.PARTIAL, data)


class Settled(NamedTuple):
    """An ended long task: its result, the chunks that no stream has carried, and when it ended."""

    token: bytes
    result: Result
    backlog: Sequence[PartialChunk]
    ended_s: float


class TaskRoom:
    """All hand-overs of a worker. Methods are for the loop, unless said otherwise."""

    def __init__(self, components: Sequence[Component], threads: int) -> None:
        self._components = components
        self._pool = Pool(threads, self._run_in_thread)
        self.running: dict[int, Running] = {}
        # Ended long tasks: their result may have been lost with the stream that carried it.
        self._settled: OrderedDict[int, Settled] = OrderedDict()
        self._settled_bytes = 0
        self._settled_lock = threading.Lock()

    def start(self, stream: Carrier, tasks: Any) -> None:
        """Start a batch of tasks."""
        loop = asyncio.get_running_loop()
        running = self.running
        for task in tasks:
            component = self._components[task.component]
            run = Running(task.run_id, component, stream, task.resume_token)
            running[run.run_id] = run
            if task.heartbeat_timeout_ms:
                stream.beat_within(task.heartbeat_timeout_ms / 3000)
            if component.kind is Kind.COROUTINE:
                run.handle = loop.create_task(self._run_coroutine(run, task))
            elif component.kind is Kind.ASYNC_GENERATOR:
                run.handle = loop.create_task(self._run_async_generator(run, task))
            else:
                self._pool.submit((run, task))

    def cancel(self, run_ids: list[int]) -> None:
        """Stop tasks whose result is no longer wanted.

        A plain function cannot be stopped: it sees `Context.cancelled`, keeps its credit until it
        returns, and its result is dropped.
        """
        for run_id in run_ids:
            run = self.running.get(run_id)
            if run is None:
                continue
            run.cancelled = True
            if run.handle is not None:
                run.handle.cancel()
                if not run.began_ns:
                    # Cancelled before its first step: its body never runs.
                    self._finish(run, None, None)

    # Streams that come and go

    def lose(self, stream: Carrier) -> bool:
        """Give up a broken stream's short tasks, hold its long ones; return True when any is held.

        The executor hands short tasks to another instance at once.
        """
        for run in [run for run in self.running.values() if run.stream is stream]:
            if run.token:
                run.stream = None
            else:
                self._drop(run)
        return bool(self.claims())

    def claims(self) -> list[pb.HeldTask]:
        """Return what the next hello claims: held tasks, and ended ones with unproven results."""
        now = time.monotonic()
        with self._settled_lock:
            self._forget(now)
            settled = [(run_id, entry.token) for run_id, entry in self._settled.items()]
        held = [(run.run_id, run.token) for run in self.running.values() if run.stream is None]
        return [pb.HeldTask(run_id=run_id, resume_token=token) for run_id, token in held + settled]

    def adopt(self, stream: Carrier, kept: Sequence[int]) -> bool:
        """Go on with the kept tasks over a new stream; drop those that it claimed in vain.

        Returns True when tasks are held that the stream's hello could not claim, because they
        were lost after it: another hello must.
        """
        wanted = set(kept)
        unclaimed = False
        for run in [run for run in self.running.values() if run.stream is None]:
            if run.run_id in wanted:
                backlog, run.backlog = run.backlog or (), None
                for chunk in backlog:
                    stream.put_chunk(chunk)
                run.stream = stream
            elif run.run_id in stream.claimed:
                self._drop(run)
            else:
                unclaimed = True
        with self._settled_lock:
            settled = [entry for run_id, entry in self._settled.items() if run_id in wanted]
            for run_id in stream.claimed & self._settled.keys():
                self._settled_bytes -= len(self._settled.pop(run_id).result.output or b"")
        for entry in settled:
            for chunk in entry.backlog:
                stream.put_chunk(chunk)
        if settled:
            stream.put_results([entry.result for entry in settled])
        return unclaimed

    def _forget(self, now: float) -> None:
        """Drop the oldest ended tasks: executors wait less long, and memory is bounded."""
        while self._settled:
            oldest = next(iter(self._settled.values()))
            if (
                oldest.ended_s > now - SETTLED_S
                and len(self._settled) <= SETTLED_MAX
                and self._settled_bytes <= SETTLED_BYTES_MAX
            ):
                return
            self._settled.popitem(last=False)
            self._settled_bytes -= len(oldest.result.output or b"")

    def busy(self, stream: Carrier) -> bool:
        """Whether a task of this stream still runs."""
        return any(run.stream is stream for run in self.running.values())

    def holds_only_claimable(self, stream: Carrier) -> bool:
        """Whether another stream could take over all that runs on this one."""
        return all(run.token for run in self.running.values() if run.stream is stream)

    def drop_all(self) -> None:
        """Give up everything; coroutines are cancelled, threads run out."""
        for run in list(self.running.values()):
            self._drop(run)

    def close(self) -> None:
        """Let the threads end when their functions return."""
        self._pool.close()

    def _drop(self, run: Running) -> None:
        self.running.pop(run.run_id, None)
        run.cancelled = True
        if run.handle is not None:
            run.handle.cancel()

    # Calling

    async def _run_coroutine(self, run: Running, task: pb.Task) -> None:
        run.began_ns = time.perf_counter_ns()
        output: bytes | None = None
        failure: failure_pb2.Failure | None = None
        try:
            output = encode(await run.component.function(**arguments(run, task)))
        except asyncio.CancelledError:
            failure = None if run.cancelled else failure_of(asyncio.CancelledError())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the author raises
            failure = failure_of(error)
        self._finish(run, output, failure)

    async def _run_async_generator(self, run: Running, task: pb.Task) -> None:
        run.began_ns = time.perf_counter_ns()
        output: bytes | None = None
        failure: failure_pb2.Failure | None = None
        try:
            last: object = None
            async with aclosing(run.component.function(**arguments(run, task))) as values:
                async for value in values:
                    if isinstance(value, Final):
                        last = value.value
                        break
                    last = value
                    if not run.partial(value) and run.stream is not None:
                        await run.stream.room()
            output = encode(last)
        except asyncio.CancelledError:
            failure = None if run.cancelled else failure_of(asyncio.CancelledError())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the author raises
            failure = failure_of(error)
        self._finish(run, output, failure)

    def _run_in_thread(self, work: tuple[Running, pb.Task]) -> None:
        """Call a plain function or generator; runs in a thread of the pool."""
        run, task = work
        run.began_ns = time.perf_counter_ns()
        output: bytes | None = None
        failure: failure_pb2.Failure | None = None
        try:
            if not run.cancelled:
                output = encode(self._call(run, task))
        except BaseException as error:  # noqa: BLE001 - whatever the author raises
            failure = failure_of(error)
        if run.cancelled:
            output = failure = None
        self._finish(run, output, failure, threaded=True)

    @staticmethod
    def _call(run: Running, task: pb.Task) -> object:
        answer = run.component.function(**arguments(run, task))
        if run.component.kind is Kind.PLAIN:
            return answer.value if isinstance(answer, Final) else answer
        last: object = None
        for value in answer:
            if isinstance(value, Final):
                answer.close()
                return value.value
            last = value
            if not run.partial(value) and run.stream is not None:
                run.stream.block_for_room()
            if run.cancelled:
                answer.close()
                return None
        return last

    def _finish(
        self,
        run: Running,
        output: bytes | None,
        failure: failure_pb2.Failure | None,
        *,
        threaded: bool = False,
    ) -> None:
        """Send the result, unless the hand-over was given up meanwhile. Any thread."""
        if self.running.pop(run.run_id, None) is None:
            return
        stream = run.stream
        if output is not None and stream is not None and len(output) > stream.payload_bytes_max:
            failure = failure_of(
                TerminalError(
                    "TOO_LARGE",
                    f"the output of {run.component.name} has {len(output)} bytes, "
                    f"at most {stream.payload_bytes_max}",
                )
            )
            output = None
        elif output is not None and stream is not None:
            warn_of_size(run, len(output), stream.payload_bytes_max)
        spent_us = (time.perf_counter_ns() - run.began_ns) // 1000 if run.began_ns else 0
        result = Result(run.run_id, output, failure, run.chunk_count, min(spent_us, 0xFFFFFFFF))
        if run.token:
            with self._settled_lock:
                self._settled[run.run_id] = Settled(
                    run.token, result, run.backlog or (), time.monotonic()
                )
                self._settled_bytes += len(output or b"")
                self._forget(time.monotonic())
        if stream is None:
            return
        if threaded:
            stream.put_results([result])
        else:
            stream.gather_result(result)


def warn_of_size(run: Running, size: int, limit: int) -> None:
    """Tell those who watch, before an output that keeps growing starts to fail."""
    if size > limit * SIZE_WARNING_RATIO:
        run.log("warning", f"the output has {size} bytes; over {limit} it will be refused")


def arguments(run: Running, task: pb.Task) -> dict[str, Any]:
    """Return the call's keyword arguments: the checked input, and the context when asked for."""
    component = run.component
    values = component.bind(task.input)
    if component.context_name:
        values[component.context_name] = Context(
            run,
            execution_id=task.execution_id,
            task=task.task,
            item=task.item - 1,
            attempt=task.attempt,
            iteration=task.iteration,
            namespace=task.namespace,
            timeout_s=task.timeout_ms / 1000,
            traceparent=task.traceparent,
        )
    return values


def failure_of(error: BaseException) -> failure_pb2.Failure:
    """Return what an exception means for the task; see the table in bend.components."""
    if isinstance(error, ComponentError):
        failure = failure_pb2.Failure(
            reason=error.reason[:REASON_CHARS_MAX],
            message=cut(error.message),
            retryable=error.retryable,
        )
        if error.retry_after_s is not None:
            wait_ns = max(0, int(error.retry_after_s * 1e9))
            failure.retry_after.CopyFrom(
                Duration(seconds=wait_ns // 1_000_000_000, nanos=wait_ns % 1_000_000_000)
            )
        if error.details is not None:
            details = orjson.dumps(error.details, default=str)
            if len(details) <= DETAILS_BYTES_MAX:
                failure.details = details
        return failure
    log.warning("component failed: %s", type(error).__name__, exc_info=error)
    return failure_pb2.Failure(
        reason=reason_name(type(error).__name__),
        message=cut(str(error) or type(error).__name__),
        retryable=True,
    )


def reason_name(name: str) -> str:
    """Turn a class name into a reason: ConnectionError → CONNECTION_ERROR."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return spaced.upper()[:REASON_CHARS_MAX]


def cut(text: str) -> str:
    """Cut text to what a failure carries."""
    data = text.encode("utf-8", errors="replace")
    if len(data) <= MESSAGE_BYTES_MAX:
        return data.decode("utf-8")
    return data[: MESSAGE_BYTES_MAX - 3].decode("utf-8", errors="ignore") + "…"
