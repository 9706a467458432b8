"""An executor that a test drives: it accepts Connect streams, and says and hears what it is told.

It runs on threads of its own, so that a worker which blocks its loop can be watched.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
import orjson

from bend.v1 import executor_service_pb2 as pb
from bend.v1 import executor_service_pb2_grpc

WAIT_S = 40.0


class Connection:
    """One Connect stream, seen from the executor."""

    def __init__(self, context: grpc.ServicerContext, hello: pb.Hello) -> None:
        self.hello = hello
        self.context = context
        self.results: dict[int, pb.TaskResult] = {}
        self.result_messages: list[int] = []
        self.chunks: list[pb.Chunk] = []
        self.heartbeats: list[float] = []
        self.progress: set[int] = set()
        self.drained = False
        self.half_closed = False
        self.changed = threading.Condition()
        self.outbox: queue.SimpleQueue[pb.ConnectResponse | None] = queue.SimpleQueue()
        self.abort_with: tuple[grpc.StatusCode, str] | None = None

    def send(self, **message: Any) -> None:
        """Send one response, for example `send(tasks=TaskBatch(...))`."""
        self.outbox.put(pb.ConnectResponse(**message))

    def welcome(self, *, interval_ms: int = 15_000, kept: tuple[int, ...] = ()) -> None:
        """Accept the hello."""
        self.send(
            welcome=pb.Welcome(
                executor="fake",
                heartbeat_interval_ms=interval_ms,
                kept=kept,
                payload_bytes_max=64 * 1024,
            )
        )

    def task(self, run_id: int, component: int = 0, *, token: bytes = b"", **given: Any) -> None:
        """Hand over one task; `input` is any JSON value."""
        value = given.pop("input", {})
        fields = {"execution_id": "flow-1", "task": "step", "attempt": 1, "namespace": "default"}
        task = pb.Task(
            run_id=run_id,
            component=component,
            resume_token=token,
            input=orjson.dumps(value),
            **(fields | given),
        )
        self.send(tasks=pb.TaskBatch(tasks=[task]))

    def break_off(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """Break the stream."""
        self.abort_with = (code, "broken by the test")
        self.outbox.put(None)

    def finish(self) -> None:
        """End the stream well."""
        self.outbox.put(None)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition on this connection; fails the test after 40 s."""
        with self.changed:
            if not self.changed.wait_for(condition, WAIT_S):
                raise AssertionError(f"waited {WAIT_S} s in vain for {what}")

    def result(self, run_id: int) -> pb.TaskResult:
        """Wait for the result of a hand-over."""
        self.until(lambda: run_id in self.results, f"the result of {run_id}")
        return self.results[run_id]

    def output(self, run_id: int) -> Any:
        """Wait for the output of a hand-over, parsed."""
        result = self.result(run_id)
        assert result.WhichOneof("outcome") == "output", result
        return orjson.loads(result.output)

    def hear(self, request: pb.ConnectRequest) -> None:
        """Record what the worker says."""
        with self.changed:
            kind = request.WhichOneof("message")
            if kind == "results":
                self.result_messages.append(len(request.results.results))
                for result in request.results.results:
                    self.results[result.run_id] = result
            elif kind == "chunks":
                self.chunks.extend(request.chunks.chunks)
            elif kind == "heartbeat":
                self.heartbeats.append(time.monotonic())
                self.progress.update(request.heartbeat.run_ids)
            elif kind == "drain":
                self.drained = True
            self.changed.notify_all()


class FakeExecutor(executor_service_pb2_grpc.ExecutorServiceServicer):
    """Serves ExecutorService on loopback; `connection()` gives each stream in turn."""

    def __init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(16))
        executor_service_pb2_grpc.add_ExecutorServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._arrived: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self.connections: list[Connection] = []
        self.metadata: list[dict[str, str]] = []
        self.refusals: list[tuple[grpc.StatusCode, str]] = []

    @property
    def url(self) -> str:
        """Where workers connect."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for connection in self.connections:
            connection.finish()
        self._server.stop(None).wait(WAIT_S)

    def connection(self) -> Connection:
        """Wait for the next stream that said hello."""
        try:
            return self._arrived.get(timeout=WAIT_S)
        except queue.Empty:
            raise AssertionError("no worker connected") from None

    def Connect(  # noqa: N802 - the name is gRPC's
        self, requests: Iterator[pb.ConnectRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ConnectResponse]:
        """Serve one stream."""
        self.metadata.append({str(k): str(v) for k, v in context.invocation_metadata()})
        first = next(requests)
        if self.refusals:
            context.abort(*self.refusals.pop(0))
        connection = Connection(context, first.hello)
        self.connections.append(connection)
        reader = threading.Thread(target=self._listen, args=(requests, connection), daemon=True)
        reader.start()
        self._arrived.put(connection)
        while (response := connection.outbox.get()) is not None:
            yield response
        if connection.abort_with is not None:
            context.abort(*connection.abort_with)

    @staticmethod
    def _listen(requests: Iterator[pb.ConnectRequest], connection: Connection) -> None:
        try:
            for request in requests:
                connection.hear(request)
        except grpc.RpcError:
            return
        except Exception:  # noqa: BLE001 - the sync server raises bare Exception on a dead stream
            return
        with connection.changed:
            connection.half_closed = True
            connection.changed.notify_all()
        connection.finish()
