"""A worker's stream to an executor in the same process: messages pass without gRPC."""

import asyncio
from typing import Any

from bend.chunks import PartialChunk
from bend.contracts import contract_of
from bend.stream import Result, chunk_messages, result_messages
from bend.tasks import TaskRoom
from bend.v1 import executor_service_pb2 as pb
from bend_server.core.errors import DomainError
from bend_server.executor.room import ExecutorRoom
from bend_server.ports.links import LinkPeer

SUBJECT = "/component/test"
BEAT_S = 5.0
PAYLOAD_BYTES_MAX = 4 * 1024 * 1024


class LocalLink:
    """The executor's end; implements ports.links.WorkerLink."""

    def __init__(self, namespace: str, worker: "LocalWorker") -> None:
        self.peer = LinkPeer(f"spiffe://bend.local{SUBJECT}", SUBJECT, namespace)
        self._worker = worker
        self.up: asyncio.Queue[pb.ConnectRequest | None] = asyncio.Queue()

    async def receive(self) -> pb.ConnectRequest | None:
        """See ports.links.WorkerLink."""
        return await self.up.get()

    async def send(self, message: pb.ConnectResponse) -> None:
        """See ports.links.WorkerLink."""
        self._worker.hear(message)


class LocalWorker:
    """Serves components; what the SDK's TaskRoom sees of it is a stream.

    Args:
        tasks: runs them.
        namespace: whose tasks it takes.
        credit: how many at once.
    """

    def __init__(self, tasks: TaskRoom, components: Any, namespace: str, credit: int) -> None:
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._link = LocalLink(namespace, self)
        self._hello = pb.Hello(
            protocol_version=1,
            instance_id="test-1",
            sdk="bend-testing",
            components=[contract_of(component) for component in components],
            credit=credit,
        )
        self._progress: set[int] = set()
        self._jobs: list[asyncio.Task[None]] = []
        self._welcomed: asyncio.Future[None] = self._loop.create_future()
        self._beat_s = BEAT_S
        self.claimed: set[int] = set()
        self.payload_bytes_max = PAYLOAD_BYTES_MAX

    async def start(self, executor: ExecutorRoom) -> None:
        """Say hello and wait for the welcome. Raises DomainError when the executor refuses."""
        self._say(pb.ConnectRequest(hello=self._hello))
        self._jobs = [
            self._loop.create_task(self._serve(executor)),
            self._loop.create_task(self._beats()),
        ]
        await self._welcomed

    async def stop(self) -> None:
        """Close the stream."""
        self._link.up.put_nowait(None)
        for job in self._jobs[1:]:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)

    async def _serve(self, executor: ExecutorRoom) -> None:
        try:
            await executor.attach(self._link)
        except DomainError as error:
            if not self._welcomed.done():
                self._welcomed.set_exception(error)

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            progress, self._progress = self._progress, set()
            self._say(pb.ConnectRequest(heartbeat=pb.Heartbeat(run_ids=sorted(progress))))

    def hear(self, message: pb.ConnectResponse) -> None:
        """Take what the executor says."""
        kind = message.WhichOneof("message")
        if kind == "tasks":
            self._tasks.start(self, message.tasks.tasks)
        elif kind == "cancels":
            self._tasks.cancel(list(message.cancels.run_ids))
        elif kind == "welcome" and not self._welcomed.done():
            self._welcomed.set_result(None)

    def _say(self, message: pb.ConnectRequest) -> None:
        self._link.up.put_nowait(message)

    # What bend.tasks asks of a stream; `put_results` and `put_chunk` come from threads too.

    def put_results(self, results: list[Result]) -> None:
        """Send results."""
        for message in result_messages(results):
            self._loop.call_soon_threadsafe(self._say, message)

    def gather_result(self, result: Result) -> None:
        """Send a result."""
        self.put_results([result])

    def put_chunk(self, chunk: PartialChunk) -> bool:
        """Send a chunk; there is always room."""
        for message in chunk_messages([chunk]):
            self._loop.call_soon_threadsafe(self._say, message)
        return True

    async def room(self) -> None:
        """There is always room."""

    def block_for_room(self) -> None:
        """There is always room."""

    def beat(self, run_id: int) -> None:
        """Name a task in the next heartbeat."""
        self._progress.add(run_id)

    def beat_within(self, seconds: float) -> None:
        """Send heartbeats at least so often."""
        self._beat_s = min(self._beat_s, seconds)
