"""Partial outputs and log lines for watchers: one shared tail per partition in this process."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog
from google.protobuf.message import DecodeError

from bend.internal.v1 import frames_pb2
from bend_server.ports.queue import CHUNKS, Consumer, Queue, QueueDown

DEMAND = 1024
BACKLOG_CHUNKS_MAX = 10_000
REOPEN_S = 1.0

_log = structlog.get_logger(__name__)


class Chunk(NamedTuple):
    """One stored chunk with the sequence of its frame in the stream."""

    sequence: int
    chunk: frames_pb2.StoredChunk


class Backlog:
    """What has come for one watcher and was not taken yet; the oldest goes when it is full."""

    def __init__(self, execution: int, arrived: asyncio.Event) -> None:
        self.execution = execution
        self.gap = False
        self.arrived = arrived
        self._chunks: deque[Chunk] = deque()

    def put(self, chunk: Chunk) -> None:
        """Add one; what no longer fits leaves a gap."""
        if len(self._chunks) >= BACKLOG_CHUNKS_MAX:
            self._chunks.popleft()
            self.gap = True
        self._chunks.append(chunk)
        self.arrived.set()

    def lost(self) -> None:
        """Say that chunks may be missing here."""
        self.gap = True
        self.arrived.set()

    def take(self) -> tuple[bool, list[Chunk]]:
        """Return whether something is missing before, and all that has come."""
        gap, self.gap = self.gap, False
        taken = list(self._chunks)
        self._chunks.clear()
        return gap, taken


class _Tail:
    def __init__(self) -> None:
        self.watchers: list[Backlog] = []
        self.open = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class ChunkTails:
    """Reads `chunks.<partition>` once for all watchers of its executions."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._tails: dict[int, _Tail] = {}

    @asynccontextmanager
    async def follow(
        self, partition: int, execution: int, arrived: asyncio.Event
    ) -> AsyncIterator[Backlog]:
        """Receive an execution's chunks from now on, until the block ends.

        The tail is open when the block begins, or the queue is away: then the backlog has a gap.

        Args:
            partition: 0 to 63, where the execution lives.
            execution: its internal id.
            arrived: set at each arrival.
        """
        tail = self._tails.get(partition)
        if tail is None:
            tail = self._tails[partition] = _Tail()
            tail.task = asyncio.create_task(self._read(partition, tail), name=f"chunks-{partition}")
        backlog = Backlog(execution, arrived)
        tail.watchers.append(backlog)
        try:
            try:
                async with asyncio.timeout(REOPEN_S):
                    await tail.open.wait()
            except TimeoutError:
                backlog.lost()
            yield backlog
        finally:
            tail.watchers.remove(backlog)
            if not tail.watchers and tail.task is not None:
                self._tails.pop(partition, None)
                tail.task.cancel()
                await asyncio.wait([tail.task], timeout=REOPEN_S)

    async def incarnation(self) -> int:
        """Return which making of the stream is there now; 0 while the queue is away."""
        try:
            return await self._queue.incarnation(CHUNKS)
        except QueueDown:
            return 0

    async def kept(
        self, partition: int, execution: int, after_sequence: int
    ) -> tuple[bool, int, list[Chunk]]:
        """Return the chunks that the stream still holds after a sequence.

        Returns:
            Whether older ones were left out, the last sequence that was looked at, the chunks.
        """
        found: deque[Chunk] = deque(maxlen=BACKLOG_CHUNKS_MAX)
        last, seen = after_sequence, 0
        try:
            async for stored in self._queue.scan(CHUNKS, f"chunks.{partition}"):
                if stored.sequence <= after_sequence:
                    continue
                last = stored.sequence
                for chunk in _chunks(stored.data):
                    if chunk.execution == execution:
                        found.append(Chunk(stored.sequence, chunk))
                        seen += 1
        except QueueDown:
            return True, last, list(found)
        return seen > len(found), last, list(found)

    async def _read(self, partition: int, tail: _Tail) -> None:
        first = True
        while True:
            try:
                consumer = await self._queue.tail(f"chunks.{partition}", 0)
            except QueueDown:
                await asyncio.sleep(REOPEN_S)
                first = False
                continue
            try:
                if not first:
                    for backlog in tail.watchers:
                        backlog.lost()
                tail.open.set()
                await self._forward(consumer, tail)
            except QueueDown:
                _log.warning("chunk_tail_lost", partition=partition)
            finally:
                await consumer.close()
            first = False

    @staticmethod
    async def _forward(consumer: Consumer, tail: _Tail) -> None:
        while True:
            consumer.demand(DEMAND)
            delivery = await consumer.next()
            for chunk in _chunks(delivery.data):
                for backlog in tail.watchers:
                    if backlog.execution == chunk.execution:
                        backlog.put(Chunk(delivery.sequence, chunk))


def _chunks(data: bytes) -> Sequence[frames_pb2.StoredChunk]:
    """Return the chunks of a frame; garbage holds none."""
    try:
        return frames_pb2.ChunkFrame.FromString(data).chunks
    except DecodeError:
        return ()
