"""The way of a ready try to the lanes: own types, the cache, slots. Most plans need none of it."""

import structlog

from bend_server.core.effects import Ready
from bend_server.core.model import Failure, TaskStatus
from bend_server.engine.cache import Cache
from bend_server.engine.gathering import Gathering
from bend_server.engine.inputs import Inputs, Verdict
from bend_server.engine.lanes import Work
from bend_server.engine.own_types import OwnTypes
from bend_server.engine.slots import Slots

log = structlog.get_logger()


class Gate:
    """Sorts ready tries. What may not be handed out yet comes back by itself.

    Args:
        verdict: ends a try that the engine judges itself.
    """

    def __init__(self, own: OwnTypes, cache: Cache, slots: Slots, inputs: Inputs) -> None:
        self._own = own
        self._cache = cache
        self._slots = slots
        self._inputs = inputs
        self.verdict: Verdict

    def enter(self, works: list[Work]) -> list[Work]:
        """Return the tries that may go into the lanes now."""
        for work in works:
            if not work[0][0].plan.plain:
                break
        else:
            return works
        return [work for work in works if self._pass(work)]

    def _pass(self, work: Work) -> bool:
        """Return whether a try may go on; a fault of ours in its way ends this try only."""
        ready = work[0]
        task = ready.state.plan.tasks[ready.task]
        try:
            if task.kind:
                self._own.begin(work)
            elif task.cache is not None and not self._cache.asked(work):
                self._cache.ask(work)
            elif task.slots and not self._slots.holds(work):
                self._slots.ask(work)
            else:
                return True
        except Exception:
            log.exception("try_not_judged", execution=ready.state.start.id, task=ready.task)
            failure = Failure("INTERNAL", "the task could not be prepared")
            self.verdict(work, TaskStatus.FAILED, failure)
        return False

    def after_cache(self, work: Work) -> bool:
        """Return whether a try that the cache does not answer may go into the lanes now."""
        task = work[0].state.plan.tasks[work[0].task]
        if not task.slots or self._slots.holds(work):
            return True
        self._slots.ask(work)
        return False

    def found(self, ready: Ready) -> None:
        """Take note of a try that a takeover found in the queue: it holds its slots."""
        if not ready.state.plan.plain and ready.state.plan.tasks[ready.task].slots:
            self._slots.found(ready)

    def settled(self, gathering: Gathering) -> None:
        """Hear of tries that ended, durably."""
        self._cache.settled(gathering)
        self._slots.settled(gathering)
        self._inputs.closed(gathering.effects.results)

    def clear(self) -> None:
        """Forget everything that waits here."""
        self._own.clear()
        self._cache.clear()
        self._slots.clear()
