"""A worker that listens: ComponentService with the component's certificate, for executors alone.

One Execute call is one task; its end, cancel or break is the task's. Health by grpc.health.v1 tells
executors to send nothing more before the process ends.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bend import __version__
from bend.chunks import ChunkBuffer, PartialChunk
from bend.components import Component
from bend.contracts import contract_of
from bend.errors import ConfigurationError
from bend.settings import Settings, load_settings
from bend.stream import Result, chunk_messages, result_messages
from bend.tasks import TaskRoom
from bend.v1 import component_service_pb2, component_service_pb2_grpc
from bend.v1 import executor_service_pb2 as pb

PROTOCOL_VERSION = 1
EXECUTOR_ID = b"spiffe://bend.local/executor"
PAYLOAD_BYTES_MAX = 50 * 1024 * 1024
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
# From when health says so until executors send nothing more.
LEAVE_S = 0.5
LOOK_S = 0.05
CALLS_S = 1.0
HEALTH = "grpc.health.v1.Health"
# The one field of HealthCheckResponse; its library is no dependency of the SDK.
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"

log = logging.getLogger("bend.worker")


class Call:
    """What one Execute call carries; a Carrier of bend.stream. Any thread may put."""

    def __init__(self, run_id: int) -> None:
        self.claimed: set[int] = set()
        self.payload_bytes_max = PAYLOAD_BYTES_MAX
        self._run_id = run_id
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._condition = threading.Condition()
        self._chunks = ChunkBuffer(self._condition, self._loop)
        self._result: Result | None = None
        self._progress = False

    def put_chunk(self, chunk: PartialChunk) -> bool:
        """Send a chunk; return False when the buffer is full now."""
        room = self._chunks.put(chunk)
        self._wake()
        return room

    def put_results(self, results: list[Result]) -> None:
        """Send the result: the last message."""
        with self._condition:
            (self._result,) = results
        self._wake()

    def gather_result(self, result: Result) -> None:
        """Send the result."""
        self.put_results([result])

    def beat(self, run_id: int) -> None:
        """Tell that the task made progress."""
        self._progress = True
        self._wake()

    def beat_within(self, seconds: float) -> None:
        """Nothing to do: progress is told at once."""

    async def room(self) -> None:
        """Wait until the buffer has room or the call is over."""
        await self._chunks.room()

    def block_for_room(self) -> None:
        """Wait as `room` does, in a thread."""
        self._chunks.block_for_room()

    def end(self) -> None:
        """The call is over: nothing is sent any more."""
        self._chunks.end()

    async def answers(self) -> AsyncIterator[component_service_pb2.ExecuteResponse]:
        """Yield what to send, the result last."""
        while True:
            await self._news.wait()
            self._news.clear()
            with self._condition:
                chunks = self._chunks.take()
                result, progress, self._progress = self._result, self._progress, False
            for message in chunk_messages(chunks):
                yield component_service_pb2.ExecuteResponse(chunks=message.chunks)
            if progress:
                beat = pb.Heartbeat(run_ids=[self._run_id])
                yield component_service_pb2.ExecuteResponse(heartbeat=beat)
            if result is not None:
                for message in result_messages([result]):
                    yield component_service_pb2.ExecuteResponse(result=message.results.results[0])
                return

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may have ended meanwhile
            self._loop.call_soon_threadsafe(self._news.set)


class ListeningWorker:
    """Serves components to executors that dial this process. Made by `Worker.listener`.

    Args:
        components: what it serves.
        address: `host:port`; port 0 takes any free one, `port` then tells which.
        instance_id: unique per process and start.
        credit: how many tasks each executor may have here at once.
        threads: how many plain functions run at once.
        drain_timeout: seconds that tasks may take after a stop was asked for.
        clean_up: awaited when no task runs any more.
        place: certificates, as load_settings takes them.
    """

    def __init__(
        self,
        components: Sequence[Component],
        address: str,
        *,
        instance_id: str,
        credit: int,
        threads: int,
        drain_timeout: float,
        clean_up: Callable[[], Awaitable[None]],
        place: Mapping[str, Any],
    ) -> None:
        self._components = components
        self._address = address
        self._instance_id = instance_id
        self._credit = credit
        self._threads = threads
        self._drain_timeout = drain_timeout
        self._clean_up = clean_up
        self._place = dict(place)
        self._stopping = asyncio.Event()
        self.left_behind = 0
        self.port = 0

    def stop(self) -> None:
        """Ask to drain; `serve` then returns. Call it on the worker's loop."""
        self._stopping.set()

    async def serve(self) -> None:
        """Serve until `stop` or cancellation.

        Raises ConfigurationError: a certificate is missing, or the address is taken.
        """
        rooms = TaskRoom(self._components, self._threads)
        server = grpc.aio.server(options=_OPTIONS)
        component_service_pb2_grpc.add_ComponentServiceServicer_to_server(
            Servicer(self, rooms), server
        )
        server.add_generic_rpc_handlers((self._health(),))
        credentials = _credentials(load_settings(**self._place, dials=False))
        try:
            self.port = server.add_secure_port(self._address, credentials)
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {self._address}") from error
        await server.start()
        log.info("listening on port %d", self.port)
        try:
            await self._stopping.wait()
            await self._drain(rooms)
        finally:
            await server.stop(CALLS_S)
            rooms.drop_all()
            rooms.close()
            await self._clean_up()

    def description(self) -> component_service_pb2.DescribeResponse:
        """What Describe answers."""
        return component_service_pb2.DescribeResponse(
            protocol_version=PROTOCOL_VERSION,
            instance_id=self._instance_id,
            sdk=f"bend-python/{__version__}",
            components=[contract_of(component) for component in self._components],
            credit=self._credit,
        )

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stopping.is_set()

    async def _drain(self, rooms: TaskRoom) -> None:
        try:
            async with asyncio.timeout(self._drain_timeout):
                # What was on its way before executors heard of it still arrives.
                await asyncio.sleep(LEAVE_S)
                while rooms.running:  # noqa: ASYNC110 - tasks end in many threads
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            self.left_behind = len(rooms.running)
            log.warning("%d tasks did not finish in time", self.left_behind)

    def _health(self) -> grpc.GenericRpcHandler:
        async def check(request: bytes, context: Any) -> bytes:
            return NOT_SERVING if self.stopping else SERVING

        async def watch(request: bytes, context: Any) -> AsyncIterator[bytes]:
            if not self.stopping:
                yield SERVING
                await self._stopping.wait()
            yield NOT_SERVING
            # The status does not change again; the stream ends with the server.
            await asyncio.get_running_loop().create_future()

        return grpc.method_handlers_generic_handler(
            HEALTH,
            {
                "Check": grpc.unary_unary_rpc_method_handler(check),
                "Watch": grpc.unary_stream_rpc_method_handler(watch),
            },
        )


class Servicer(component_service_pb2_grpc.ComponentServiceServicer):
    """Serves `ComponentService` to executors alone."""

    def __init__(self, worker: ListeningWorker, rooms: TaskRoom) -> None:
        self._worker = worker
        self._rooms = rooms
        self._about = worker.description()

    async def Describe(
        self, request: component_service_pb2.DescribeRequest, context: Any
    ) -> component_service_pb2.DescribeResponse:
        """Tell what this process serves."""
        await _require_executor(context)
        if self._worker.stopping:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the worker stops")
        log.info("connected by %s", request.executor)
        return self._about

    async def Execute(
        self, request: component_service_pb2.ExecuteRequest, context: Any
    ) -> AsyncIterator[component_service_pb2.ExecuteResponse]:
        """Run one task."""
        await _require_executor(context)
        task = request.task
        if request.instance_id != self._about.instance_id:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another process was meant")
        if task.component >= len(self._about.components) or task.run_id in self._rooms.running:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such component, or twice")
        # A token would let the task outlive its call, for a claim that no call can make.
        task.ClearField("resume_token")
        call = Call(task.run_id)
        self._rooms.start(call, [task])
        try:
            async for answer in call.answers():
                yield answer
        finally:
            call.end()
            self._rooms.cancel([task.run_id])


_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
]


async def _require_executor(context: Any) -> None:
    """Refuse everybody whose certificate is not an executor's."""
    if list(context.auth_context().get("peer_spiffe_id") or ()) != [EXECUTOR_ID]:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "for executors only")


def _credentials(settings: Settings) -> grpc.ServerCredentials:
    """Serve with the component's certificate; renewed files are used from the next handshake on."""
    if not (settings.ca_file and settings.cert_file and settings.key_file):
        raise ConfigurationError(
            "a worker that listens needs BEND_CA_FILE, BEND_CERT_FILE and BEND_KEY_FILE"
        )
    files: tuple[Path, Path, Path] = (settings.key_file, settings.cert_file, settings.ca_file)

    def stamp() -> list[int]:
        return [path.stat().st_mtime_ns for path in files]

    def read() -> grpc.ServerCertificateConfiguration:
        key, chain, roots = (path.read_bytes() for path in files)
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    used = stamp()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        try:
            now = stamp()
            if now == used:
                return None
            fresh = read()
        except OSError as error:
            log.warning("the certificate cannot be read: %s", error)
            return None
        used = now
        return fresh

    return grpc.dynamic_ssl_server_credentials(read(), renewed, require_client_authentication=True)
