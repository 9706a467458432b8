"""One Connect stream in threads of its own, so that author code cannot silence it.

gRPC's blocking API is used on purpose (docs/adr/0004-worker-heartbeat.md): its reader and writer
are threads, the event loop belongs to the components alone, and heartbeats go on while a component
blocks the loop. What arrives is handed to the loop, a batch at a time.

Writing is adaptive: one message in flight; when it is out, all that has gathered goes next.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import grpc

from bend.chunks import ChunkBuffer, PartialChunk
from bend.errors import BendError, Unreachable
from bend.settings import LOOPBACK, Settings
from bend.status import error_of
from bend.v1 import executor_service_pb2 as pb
from bend.v1 import executor_service_pb2_grpc, failure_pb2

RESULTS_MAX = 128
CHUNKS_MAX = 1024
MESSAGE_BYTES = 1024 * 1024
BEAT_S_DEFAULT = 5.0
BEAT_S_MIN = 0.05
WELCOME_S_MAX = 10.0


class Result(NamedTuple):
    """A finished hand-over: exactly one of output and failure, or neither when cancelled."""

    run_id: int
    output: bytes | None
    failure: failure_pb2.Failure | None
    chunk_count: int
    duration_us: int


class Carrier(Protocol):
    """What takes a task's messages to an executor: a Stream, or an Execute call (listening)."""

    claimed: set[int]
    payload_bytes_max: int

    def put_chunk(self, chunk: PartialChunk) -> bool:
        """Send a chunk; False: wait for room before the next."""
        ...

    def put_results(self, results: list[Result]) -> None:
        """Send results. Any thread."""
        ...

    def gather_result(self, result: Result) -> None:
        """Send a result. Loop only."""
        ...

    def beat(self, run_id: int) -> None:
        """Tell that a task made progress."""
        ...

    def beat_within(self, seconds: float) -> None:
        """Progress has to be told at least so often."""
        ...

    async def room(self) -> None:
        """Wait until there is room for chunks, or nothing is sent any more."""
        ...

    def block_for_room(self) -> None:
        """Wait as `room` does, in a thread."""
        ...


class Receiver(Protocol):
    """Gets what a stream hears, on the event loop."""

    def on_welcome(self, stream: "Stream", welcome: pb.Welcome) -> None:
        """The executor accepted the hello."""
        ...

    def on_tasks(self, stream: "Stream", tasks: Any) -> None:
        """A batch of tasks arrived."""
        ...

    def on_cancels(self, stream: "Stream", run_ids: list[int]) -> None:
        """Results are no longer wanted."""
        ...

    def on_go_away(self, stream: "Stream", reason: str) -> None:
        """The executor leaves."""
        ...

    def on_closed(self, stream: "Stream", error: BendError | None) -> None:
        """The stream ended; nothing comes after it."""
        ...


class Stream:
    """A Connect stream. `put_*`, `beat`, `drain` and `close` may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        hello: pb.Hello,
        receiver: Receiver,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._settings = settings
        self._hello = hello
        self._receiver = receiver
        self._loop = loop
        self._condition = threading.Condition()
        self._results: list[Result] = []
        self._chunks = ChunkBuffer(self._condition, loop)
        self._progress: set[int] = set()
        self._beat_s = BEAT_S_DEFAULT
        self._drain_wanted = False
        self._half_close = False
        self._call: Any = None
        self._gathered: list[Result] = []
        # The tasks that the hello claims from broken streams.
        self.claimed = {one.run_id for one in hello.held}
        self.broken = False
        self.welcomed = False
        self.leaving = False
        self.executor = ""
        self.payload_bytes_max = 64 * 1024

    def open(self) -> None:
        """Dial and say hello; what follows comes through the receiver."""
        threading.Thread(target=self._read, name="bend-stream", daemon=True).start()
        self._loop.call_later(WELCOME_S_MAX, self._require_welcome)

    def _require_welcome(self) -> None:
        if not self.welcomed and self._call is not None:
            self._call.cancel()

    # Sending

    def gather_result(self, result: Result) -> None:
        """Send a result together with the others of this turn of the loop. Loop only."""
        if not self._gathered:
            self._loop.call_soon(self._send_gathered)
        self._gathered.append(result)

    def _send_gathered(self) -> None:
        gathered, self._gathered = self._gathered, []
        self.put_results(gathered)

    def put_results(self, results: list[Result]) -> None:
        """Send results as soon as the last write has ended; dropped once the stream is broken."""
        with self._condition:
            if not self.broken:
                self._results.extend(results)
                self._condition.notify()

    def put_chunk(self, chunk: PartialChunk) -> bool:
        """Send a chunk; return False when the buffer is full now: wait for room before the next."""
        return self._chunks.put(chunk)

    async def room(self) -> None:
        """Wait until the chunk buffer has room or the stream is broken."""
        await self._chunks.room()

    def block_for_room(self) -> None:
        """Wait as `room` does, in a thread."""
        self._chunks.block_for_room()

    def beat(self, run_id: int) -> None:
        """Name a task in the next heartbeat."""
        self._progress.add(run_id)

    def beat_within(self, seconds: float) -> None:
        """Send heartbeats at least so often from now on."""
        if seconds < self._beat_s:
            with self._condition:
                self._beat_s = max(BEAT_S_MIN, seconds)
                self._condition.notify()

    def drain(self) -> None:
        """Ask for no new tasks."""
        with self._condition:
            self.leaving = True
            self._drain_wanted = True
            self._condition.notify()

    def close(self) -> None:
        """Send what is left, then end our side; the executor ends the stream."""
        with self._condition:
            self._half_close = True
            self._condition.notify()

    def abort(self) -> None:
        """Break the stream now."""
        if self._call is not None:
            self._call.cancel()

    def _requests(self) -> Iterator[pb.ConnectRequest]:
        """What gRPC's writer thread sends: it asks for the next when the last write has ended."""
        yield pb.ConnectRequest(hello=self._hello)
        last_beat = time.monotonic()
        while True:
            with self._condition:
                while not self._has_news():
                    left = last_beat + self._beat_s - time.monotonic()
                    if left <= 0:
                        break
                    self._condition.wait(left)
                if self.broken:
                    return
                chunks = self._chunks.take()
                results, self._results = self._results, []
                drain, self._drain_wanted = self._drain_wanted, False
                last = self._half_close
            if drain:
                yield pb.ConnectRequest(drain=pb.Drain())
            # Chunks first: a result must not overtake the partial outputs that it counts.
            for message in (*chunk_messages(chunks), *result_messages(results)):
                yield message
                if time.monotonic() >= last_beat + self._beat_s:
                    last_beat = time.monotonic()
                    yield self._heartbeat()
            if time.monotonic() >= last_beat + self._beat_s:
                last_beat = time.monotonic()
                yield self._heartbeat()
            if last:
                return

    def _has_news(self) -> bool:
        return bool(
            self._results
            or self._chunks.waiting
            or self._drain_wanted
            or self._half_close
            or self.broken
        )

    def _heartbeat(self) -> pb.ConnectRequest:
        progress, self._progress = self._progress, set()
        return pb.ConnectRequest(heartbeat=pb.Heartbeat(run_ids=sorted(progress)[:65536]))

    # Receiving

    def _read(self) -> None:
        """The reader thread: dial, hand over what arrives, tell the end."""
        error: BendError | None = None
        channel = None
        try:
            channel = dial(self._settings)
            stub = executor_service_pb2_grpc.ExecutorServiceStub(channel)
            self._call = stub.Connect(self._requests(), metadata=self._settings.metadata())
            for response in self._call:
                self._dispatch(response)
        except grpc.RpcError as failed:
            error = error_of(failed, self._settings.url)
        except OSError as failed:
            error = Unreachable(str(failed))
        with self._condition:
            self.broken = True
            self._chunks.end()
        if channel is not None:
            channel.close()
        self._hand(self._receiver.on_closed, self, error)

    def _dispatch(self, response: pb.ConnectResponse) -> None:
        kind = response.WhichOneof("message")
        if kind == "tasks":
            self._hand(self._receiver.on_tasks, self, response.tasks.tasks)
        elif kind == "cancels":
            self._hand(self._receiver.on_cancels, self, list(response.cancels.run_ids))
        elif kind == "welcome":
            welcome = response.welcome
            self.executor = welcome.executor
            self.payload_bytes_max = welcome.payload_bytes_max or self.payload_bytes_max
            if welcome.heartbeat_interval_ms:
                self.beat_within(welcome.heartbeat_interval_ms / 3000)
            self._hand(self._receiver.on_welcome, self, welcome)
        elif kind == "go_away":
            self.leaving = True
            self._hand(self._receiver.on_go_away, self, response.go_away.reason)

    def _hand(self, function: Callable[..., None], *arguments: object) -> None:
        """Run a function on the loop; a closed loop wants nothing any more."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)


def result_messages(results: list[Result]) -> Iterator[pb.ConnectRequest]:
    """Cut results into messages, bounded in number and bytes."""
    batch: list[pb.TaskResult] = []
    size = 0
    for run_id, output, failure, chunk_count, duration_us in results:
        if output is not None:
            one = pb.TaskResult(
                run_id=run_id, output=output, chunk_count=chunk_count, duration_us=duration_us
            )
            size += len(output)
        elif failure is not None:
            one = pb.TaskResult(
                run_id=run_id, failure=failure, chunk_count=chunk_count, duration_us=duration_us
            )
        else:
            one = pb.TaskResult(run_id=run_id, cancelled=pb.Cancelled(), chunk_count=chunk_count)
        batch.append(one)
        if len(batch) >= RESULTS_MAX or size >= MESSAGE_BYTES:
            yield pb.ConnectRequest(results=pb.TaskResultBatch(results=batch))
            batch, size = [], 0
    if batch:
        yield pb.ConnectRequest(results=pb.TaskResultBatch(results=batch))


def chunk_messages(chunks: list[PartialChunk]) -> Iterator[pb.ConnectRequest]:
    """Cut chunks into messages, bounded in number and bytes."""
    batch: list[pb.Chunk] = []
    size = 0
    for run_id, number, kind, data, time_us in chunks:
        batch.append(
            pb.Chunk(
                run_id=run_id,
                index=number,
                kind=kind,  # type: ignore[arg-type]
                data=data,
                time_us=time_us,
            )
        )
        size += len(data)
        if len(batch) >= CHUNKS_MAX or size >= MESSAGE_BYTES:
            yield pb.ConnectRequest(chunks=pb.ChunkBatch(chunks=batch))
            batch, size = [], 0
    if batch:
        yield pb.ConnectRequest(chunks=pb.ChunkBatch(chunks=batch))


def channel_options(settings: Settings) -> list[tuple[str, int]]:
    """Return the gRPC options of every channel of the SDK."""
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # A dead path is noticed within half a minute although nothing is sent.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # Own connections: reconnecting is decided here, not by another channel's backoff.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if settings.target.rsplit(":", 1)[0].strip("[]") in LOOPBACK:
        options.append(("grpc.enable_http_proxy", 0))
    return options


def credentials(settings: Settings) -> grpc.ChannelCredentials:
    """Read the certificates anew, so that renewed ones are used by the next connection."""
    return grpc.ssl_channel_credentials(
        root_certificates=settings.ca_file.read_bytes() if settings.ca_file else None,
        private_key=settings.key_file.read_bytes() if settings.key_file else None,
        certificate_chain=settings.cert_file.read_bytes() if settings.cert_file else None,
    )


def dial(settings: Settings) -> grpc.Channel:
    """Make a blocking channel; nothing is connected yet."""
    options = channel_options(settings)
    if settings.secure:
        return grpc.secure_channel(settings.target, credentials(settings), options)
    return grpc.insecure_channel(settings.target, options)
