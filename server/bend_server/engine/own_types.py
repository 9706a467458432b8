"""Tasks that the engine does itself: waits, signals, approvals, and the start of children."""

from collections.abc import Callable

import structlog

from bend_server.core.effects import Ready
from bend_server.core.errors import DependencyDown, NotFound
from bend_server.core.model import Failure, TaskKind, TaskStatus
from bend_server.core.plan import ExpressionError, Rendered
from bend_server.engine.child_starts import ChildStarts
from bend_server.engine.inputs import Inputs, Verdict
from bend_server.engine.jobs import Jobs
from bend_server.engine.lanes import Work
from bend_server.engine.live import Live
from bend_server.engine.own_inputs import wait_of, whole
from bend_server.engine.steps import Steps
from bend_server.engine.windows import Key, key_of
from bend_server.language.payloads import load
from bend_server.ports.blobs import Blobs
from bend_server.ports.clock import Clock

log = structlog.get_logger()


class OwnTypes:
    """Begins what a ready try of an own type asks for.

    A try may be announced again at any time (after a pause, a recovery): one that waits already,
    or has its child, is left alone.
    """

    def __init__(
        self,
        blobs: Blobs,
        clock: Clock,
        live: Live,
        steps: Steps,
        inputs: Inputs,
        children: ChildStarts,
        jobs: Jobs,
    ) -> None:
        self._blobs = blobs
        self._clock = clock
        self._live = live
        self._steps = steps
        self._inputs = inputs
        self._children = children
        self._jobs = jobs
        self._busy: set[Key] = set()
        self.verdict: Verdict
        self.is_open: Callable[[Ready], bool]

    def begin(self, work: Work, *, anew: bool = False) -> None:
        """Let one try wait, or start its child; now, or once its blobs are loaded.

        Args:
            anew: start another child even though the try has one: that one cannot be retried.
        """
        ready = work[0]
        state, task, item, try_, _, _ = ready
        if not self.is_open(ready) or key_of(ready) in self._busy:
            return
        child = None if anew else state.child(task, item)
        if state.waiting(task, item) is not None or (child is not None and child.try_ == try_):
            return
        if state.stopping(task):
            failure = Failure("CANCELLED", "the task was cancelled before it began")
            self.verdict(work, TaskStatus.CANCELLED, failure)
            return
        rendered = self._inputs.render(work, whole=True)
        if rendered is None:
            return
        if rendered.holes or state.plan.tasks[task].kind == TaskKind.WORKFLOW:
            self._busy.add(key_of(ready))
            self._jobs.spawn(self._begin_later(work, rendered))
            return
        self._wait(work, rendered.data)

    def clear(self) -> None:
        """Forget what is under way."""
        self._busy.clear()

    def _wait(self, work: Work, data: bytes, body: object = None) -> None:
        ready = work[0]
        kind = ready.state.plan.tasks[ready.task].kind
        now_us = self._clock.now_us()
        try:
            wait = wait_of(kind, load(data) if body is None else body, now_us)
        except ExpressionError as error:
            self.verdict(work, TaskStatus.FAILED, Failure("EXPRESSION_ERROR", str(error)))
            return
        self._steps.begin_wait(ready, wait, now_us)

    async def _begin_later(self, work: Work, rendered: Rendered) -> None:
        """Fill the input's holes, then begin."""
        ready = work[0]
        generation = self._live.generation
        failure: Failure | None = None
        body: object = None
        try:
            body = await whole(rendered, self._blobs)
        except ExpressionError as error:
            failure = Failure("EXPRESSION_ERROR", str(error))
        except NotFound as error:
            failure = Failure("BLOB_MISSING", error.message)
        except DependencyDown as error:
            failure = Failure("BLOB_STORE_DOWN", error.message, retryable=True)
        try:
            if generation != self._live.generation or not self.is_open(ready):
                return
            if failure is not None:
                self.verdict(work, TaskStatus.FAILED, failure)
            elif ready.state.plan.tasks[ready.task].kind == TaskKind.WORKFLOW:
                await self._children.start(work, body)
            else:
                self._wait(work, b"", body)
        finally:
            self._busy.discard(key_of(ready))
