"""Rendering of task inputs, with what must not block the loop: blobs in and out."""

from collections.abc import Callable

import structlog

from bend_server.core import limits
from bend_server.core.errors import DependencyDown, NotFound
from bend_server.core.ids import partition_of
from bend_server.core.model import Failure, ResultRow, TaskStatus
from bend_server.core.plan import ExpressionError, Hole, HolePart, NeedsBlob, Rendered
from bend_server.core.scope import ExecutionScope, unit_scope
from bend_server.engine.jobs import Jobs
from bend_server.engine.lanes import Work
from bend_server.engine.live import Live
from bend_server.engine.windows import Key, key_of
from bend_server.ports.blobs import Blobs

log = structlog.get_logger()

Verdict = Callable[[Work, int, Failure], None]
Again = Callable[[list[Work]], None]

FIELD_BLOB_BYTES_MAX = 4 * 1024 * 1024
"""A field is taken out of outputs up to this size; larger ones travel whole, as references."""


class Inputs:
    """Renders inputs.

    `render` answers at once when it can. What needs the blob store goes on as a job; the task
    then comes back through `again`, with its input prepared. What can never be rendered ends the
    try through `verdict`.
    """

    def __init__(self, blobs: Blobs, live: Live, jobs: Jobs) -> None:
        self._blobs = blobs
        self._live = live
        self._jobs = jobs
        self._prepared: dict[Key, Rendered] = {}
        self.verdict: Verdict
        self.again: Again

    def render(self, work: Work, *, whole: bool = False) -> Rendered | None:
        """Return a task's input, or None when it comes later or never.

        Args:
            whole: it is for the engine itself: a large one stays as it is.
        """
        if self._prepared:
            prepared = self._prepared.pop(key_of(work[0]), None)
            if prepared is not None:
                return prepared
        try:
            return self._evaluate(work) if whole else self._render(work)
        except NeedsBlob as need:
            self._jobs.spawn(self._load(work, need))
            return None

    def keep(self, work: Work, rendered: Rendered) -> None:
        """Keep the input of a try that waits, for its hand-out."""
        self._prepared[key_of(work[0])] = rendered

    def load(self, work: Work, need: NeedsBlob) -> None:
        """Load a blob that some expression of a try looks into; then the try comes again."""
        self._jobs.spawn(self._load(work, need))

    def forget(self, partitions: frozenset[int]) -> None:
        """Forget what is kept for tries of partitions that go elsewhere."""
        for key in [key for key in self._prepared if partition_of(key[0]) in partitions]:
            del self._prepared[key]

    def closed(self, rows: list[ResultRow]) -> None:
        """Forget what is kept for tries that ended."""
        if self._prepared:
            for row in rows:
                self._prepared.pop((row.execution, row.task, row.item, row.try_), None)

    def _render(self, work: Work) -> Rendered | None:
        """Return the input as it travels, or None when it comes later or never.

        Raises NeedsBlob.
        """
        rendered = self._evaluate(work)
        if rendered is not None and len(rendered.data) > limits.INLINE_BYTES_MAX:
            self._jobs.spawn(self._put(work, rendered))
            return None
        return rendered

    def _evaluate(self, work: Work) -> Rendered | None:
        """Return the input, or None when the try was judged. Raises NeedsBlob."""
        state, index, item, _, _, _ = work[0]
        plan = state.plan
        try:
            scope = ExecutionScope(state) if plan.plain else unit_scope(state, index, item)
            rendered = plan.tasks[index].render(scope)
        except ExpressionError as error:
            message = str(error)[: limits.MESSAGE_CHARS_MAX]
            self.verdict(work, TaskStatus.FAILED, Failure("EXPRESSION_ERROR", message))
            return None
        except NeedsBlob:
            raise
        except Exception:
            # A fault of ours in rendering: this task fails, the other executions do not notice.
            log.exception("rendering_failed", execution=state.start.id, task=index)
            failure = Failure("INTERNAL", "the input could not be rendered")
            self.verdict(work, TaskStatus.FAILED, failure)
            return None
        size = len(rendered.data)
        if rendered.holes:
            size += sum(part.blob_bytes for hole in rendered.holes for part in hole.parts)
        if size > limits.BLOB_BYTES_MAX:
            self._refuse(work, size)
            return None
        return rendered

    def discard(self, work: Work) -> None:
        """Forget the prepared input of a try that is handed out no more."""
        if self._prepared:
            self._prepared.pop(key_of(work[0]), None)

    def clear(self) -> None:
        """Forget prepared inputs."""
        self._prepared.clear()

    def _refuse(self, work: Work, size: int) -> None:
        """End a try whose input is over the limit, blobs that it refers to included."""
        state = work[0][0]
        message = (
            f"the input of task {state.plan.tasks[work[0][1]].id} has {size} bytes, "
            f"the limit is {limits.BLOB_BYTES_MAX}"
        )
        self.verdict(work, TaskStatus.FAILED, Failure("TOO_LARGE", message))

    async def _put(self, work: Work, rendered: Rendered) -> None:
        """Store a large input; the whole travels as a hole at the root, filled first."""
        generation = self._live.generation
        start = work[0][0].start
        try:
            key = await self._blobs.put(f"{start.namespace}/{start.id}", rendered.data)
        except DependencyDown as error:
            if generation == self._live.generation:
                self.verdict(work, TaskStatus.FAILED, _unreachable(error))
            return
        if generation != self._live.generation:
            return
        root = Hole("", (HolePart(blob=key, blob_bytes=len(rendered.data)),))
        self._prepared[key_of(work[0])] = Rendered(b"null", (root, *rendered.holes))
        self.again([work])

    async def _load(self, work: Work, need: NeedsBlob) -> None:
        """Fetch an output that an expression looks into, then render again."""
        generation = self._live.generation
        state = work[0][0]
        failure: Failure | None = None
        data = b""
        try:
            data = await self._blobs.get(need.key)
        except NotFound:
            failure = Failure("BLOB_MISSING", f"the blob store has lost {need.key}")
        except DependencyDown as error:
            failure = _unreachable(error)
        if generation != self._live.generation:
            return
        if failure is None and len(data) > FIELD_BLOB_BYTES_MAX:
            failure = Failure(
                "TOO_LARGE",
                f"an expression looks into an output of {len(data)} bytes, "
                f"the limit is {FIELD_BLOB_BYTES_MAX}; pass the whole output instead",
            )
        if failure is not None:
            self.verdict(work, TaskStatus.FAILED, failure)
            return
        state.hold_blob(need.task, data, need.item)
        own = state.plan.tasks[work[0][1]].kind
        try:
            rendered = self._evaluate(work) if own else self._render(work)
        except NeedsBlob as more:
            # What was lent stays until every blob that the input looks into is there.
            self._jobs.spawn(self._load(work, more))
            return
        state.drop_blobs()
        if rendered is not None:
            self._prepared[key_of(work[0])] = rendered
            self.again([work])


def _unreachable(error: DependencyDown) -> Failure:
    return Failure("BLOB_STORE_DOWN", error.message, retryable=True)
