"""Calls of the machine. A fault in one execution breaks that execution only."""

from collections.abc import Callable

from bend_server.core import machine
from bend_server.core.effects import BlobWait, Effects
from bend_server.core.model import Outcome
from bend_server.core.state import ExecutionState
from bend_server.engine.commits import Commits
from bend_server.ports.clock import Chance


class Steps:
    """Calls verbs into the next commit's effects, and wakes the commit."""

    def __init__(self, commits: Commits, chance: Chance) -> None:
        self._commits = commits
        self._chance = chance

    def apply(self, state: ExecutionState, outcome: Outcome, now_us: int) -> bool:
        """Take in what came of a try; False: stale."""
        return self.call(
            state,
            lambda effects: machine.apply(state, outcome, now_us, self._chance, effects),
        )

    def retry_due(self, state: ExecutionState, task: int, item: int, now_us: int) -> bool:
        """Open the next try of a task whose backoff is over."""
        return self.call(
            state,
            lambda effects: machine.retry_due(state, task, item, now_us, self._chance, effects),
        )

    def cancel(self, state: ExecutionState, reason: str, actor: str, now_us: int) -> bool:
        """Ask for the end of an execution."""
        return self.call(
            state,
            lambda effects: machine.request_cancel(
                state, reason, actor, now_us, self._chance, effects
            ),
        )

    def grace_over(self, state: ExecutionState, now_us: int) -> bool:
        """Give up tries that did not stop in time."""
        return self.call(
            state, lambda effects: machine.grace_over(state, now_us, self._chance, effects)
        )

    def timed_out(self, state: ExecutionState, now_us: int) -> bool:
        """End an execution whose deadline has come."""
        return self.call(
            state, lambda effects: machine.execution_timed_out(state, now_us, self._chance, effects)
        )

    def blob_loaded(
        self, state: ExecutionState, wait: BlobWait, data: bytes | None, now_us: int
    ) -> bool:
        """Decide what waited for a blob."""
        return self.call(
            state,
            lambda effects: machine.blob_loaded(state, wait, data, now_us, self._chance, effects),
        )

    def resume(self, state: ExecutionState, now_us: int, effects: Effects) -> None:
        """Bring a folded execution back to life, into effects of the caller's choice."""
        machine.resume(state, now_us, self._chance, effects)

    def start(self, state: ExecutionState, now_us: int, effects: Effects) -> None:
        """Set a new execution going, into effects of the caller's choice."""
        machine.start(state, now_us, self._chance, effects)

    def call(self, state: ExecutionState, verb: Callable[[Effects], bool]) -> bool:
        """Run one verb; a fault takes the execution out of service."""
        commits = self._commits
        try:
            changed = verb(commits.gathering.effects)
        except Exception as error:  # noqa: BLE001 (whatever it is, only this execution pays)
            commits.broken(state, error)
            return False
        commits.wake()
        return changed
