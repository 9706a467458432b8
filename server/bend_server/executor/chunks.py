"""Partial outputs and logs: checked, scrubbed, and on to the CHUNKS stream."""

from collections.abc import Sequence
from typing import Any

from bend.internal.v1 import frames_pb2
from bend.v1 import executor_service_pb2 as pb
from bend_server.core import ids
from bend_server.core.errors import InvalidInput
from bend_server.executor import outcomes
from bend_server.executor.chunk_scrubbing import Chunk, ChunkScrubber
from bend_server.executor.holdings import ENDED, Held
from bend_server.executor.lanes import Lane
from bend_server.executor.options import CHUNK_BYTES_MAX, CHUNKS_BATCH_MAX
from bend_server.executor.secrets import scrub
from bend_server.executor.sessions import Session
from bend_server.executor.warnings import Warnings
from bend_server.ports.queue import Queue

CHUNKS_WAITING_MAX = 16_384
CHUNKS_FRAME_BYTES = 512 * 1024


class Chunks:
    """Forwards what running tries send beside their results; the oldest is dropped first.

    Args:
        queue: has the CHUNKS stream.
        warnings: hears of malformed chunks.
    """

    def __init__(self, queue: Queue, warnings: Warnings) -> None:
        self._queue = queue
        self._warnings = warnings
        self._lanes: dict[int, Lane] = {}

    def take(self, session: Session, batch: pb.ChunkBatch) -> None:
        """Forward the chunks of running tries. Raises InvalidInput."""
        if len(batch.chunks) > CHUNKS_BATCH_MAX:
            raise InvalidInput(
                f"more than {CHUNKS_BATCH_MAX} chunks in one message",
                reason="PROTOCOL_VIOLATION",
                field="chunks",
            )
        for chunk in batch.chunks:
            held = session.running.get(chunk.run_id)
            if held is None or held.state == ENDED:
                continue
            data = chunk.data
            if len(data) > CHUNK_BYTES_MAX or not outcomes.is_json(data):
                self._warnings.warn("chunk_malformed", instance=session.instance_id)
                continue
            sent = Chunk(chunk.index, chunk.kind, data, chunk.time_us)
            if not held.secrets.json:
                self._forward(held, sent)
                continue
            if held.scrubber is None:
                held.scrubber = ChunkScrubber(held.secrets)
            for free in held.scrubber.feed(sent._replace(data=scrub(data, held.secrets))):
                self._forward(held, free)

    def end(self, held: Held) -> None:
        """A try is over: what was held of its chunks goes now."""
        scrubber, held.scrubber = held.scrubber, None
        if scrubber is not None:
            for chunk in scrubber.flush():
                self._forward(held, chunk)

    def stop(self) -> None:
        """Give up what is under way."""
        for lane in self._lanes.values():
            lane.stop()

    def _forward(self, held: Held, chunk: Chunk) -> None:
        execution, task, item, try_ = held.key
        stored = frames_pb2.StoredChunk(
            execution=execution,
            task=task,
            item=item,
            attempt=held.queued.attempt,
            run_id=held.run_id,
            index=chunk.number,
            kind=chunk.kind,
            data=chunk.data,
            time_us=chunk.time_us,
            **{"try": try_},
        )
        self._lane(ids.partition_of(execution)).add(stored, len(chunk.data) + 64)

    def _lane(self, partition: int) -> Lane:
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = Lane(
                self._queue,
                f"chunks.{partition}",
                _chunk_frame,
                _nothing,
                in_flight_max=1,
                items_max=CHUNKS_BATCH_MAX,
                bytes_max=CHUNKS_FRAME_BYTES,
                waiting_max=CHUNKS_WAITING_MAX,
            )
        return lane


def _chunk_frame(chunks: Sequence[frames_pb2.StoredChunk]) -> bytes:
    return frames_pb2.ChunkFrame(chunks=chunks).SerializeToString()


def _nothing(_chunks: Sequence[Any]) -> None:
    """Chunks need no bookkeeping once they are stored."""
