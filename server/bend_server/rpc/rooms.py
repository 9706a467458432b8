"""What the engine's servicer works with: ports only, given by the composition root."""

from dataclasses import dataclass, field

import structlog

from bend_server.core.errors import NotFound
from bend_server.ports.blobs import Blobs
from bend_server.ports.clock import Clock
from bend_server.ports.engine import EngineUseCases
from bend_server.ports.plans import PlanSource
from bend_server.ports.store import ExecutionSummary, ReadStore, RegistryStore, WorkflowStore
from bend_server.rpc.chunk_tails import ChunkTails
from bend_server.rpc.parameters import Schemas
from bend_server.rpc.task_listings import TaskListings

OUTPUT_BYTES_MAX = 48 * 1024 * 1024

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Rooms:
    """The servicer's dependencies."""

    engine: EngineUseCases
    reads: ReadStore
    workflows: WorkflowStore
    registry: RegistryStore
    blobs: Blobs
    plans: PlanSource
    chunks: ChunkTails
    clock: Clock
    schemas: Schemas
    listings: TaskListings = field(init=False)

    def __post_init__(self) -> None:
        """Begin with no listing."""
        self.listings = TaskListings(self.clock)

    async def execution(self, namespace: str, public_id: str) -> ExecutionSummary:
        """Return an execution's row with payloads, as far as they are inline.

        Raises:
            NotFound: EXECUTION_NOT_FOUND.
        """
        summary = await self.reads.execution(namespace, public_id)
        if summary is None:
            raise unknown_execution(public_id)
        return summary

    async def with_output(self, summary: ExecutionSummary) -> ExecutionSummary:
        """Return the row with its output read from the blob store when it lives there."""
        if summary.blob is None or summary.output is not None:
            return summary
        return summary._replace(output=await self.blob(summary.blob))

    async def blob(self, key: str) -> bytes | None:
        """Return a stored payload; None when the blob store has lost it.

        A lost payload is left out of an answer: the rest of the execution can still be read.
        """
        try:
            return await self.blobs.get(key)
        except NotFound:
            _log.error("blob_missing", key=key[:200])
            return None


def unknown_execution(public_id: str) -> NotFound:
    """Return the error for an id that the namespace does not have."""
    return NotFound(f"no execution {public_id!r}", execution=public_id[:200])
