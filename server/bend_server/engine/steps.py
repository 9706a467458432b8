"""Calls of the machine. A fault in one execution breaks that execution only."""

from collections.abc import Callable

from bend_server.core import machine
from bend_server.core.effects import BlobWait, Effects, Ready
from bend_server.core.model import Outcome
from bend_server.core.state import ExecutionState
from bend_server.core.waits import SignalTaken, Wait
from bend_server.engine.commits import Commits
from bend_server.ports.clock import Chance
from bend_server.ports.engine import Decision


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

    def cancel(
        self,
        state: ExecutionState,
        reason: str,
        actor: str,
        now_us: int,
        code: str = "CANCELLED",
    ) -> bool:
        """Ask for the end of an execution; `code` is the reason of its error."""
        return self.call(
            state,
            lambda effects: machine.request_cancel(
                state, reason, actor, now_us, self._chance, effects, code=code
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

    def pause(self, state: ExecutionState, reason: str, actor: str, now_us: int) -> bool:
        """Stop opening tries."""
        return self.call(
            state,
            lambda effects: machine.pause(state, reason, actor, now_us, self._chance, effects),
        )

    def unpause(self, state: ExecutionState, actor: str, now_us: int) -> bool:
        """Go on after a pause."""
        return self._opening(
            state, lambda effects: machine.unpause(state, actor, now_us, self._chance, effects)
        )

    def retry(
        self,
        state: ExecutionState,
        reason: str,
        actor: str,
        now_us: int,
        timeout_us: int = 0,
        *,
        queued: bool = False,
    ) -> bool:
        """Open a new run with what did not complete."""
        return self._opening(
            state,
            lambda effects: machine.retry(
                state,
                reason,
                actor,
                now_us,
                self._chance,
                effects,
                timeout_us=timeout_us,
                queued=queued,
            ),
        )

    def reset(
        self,
        state: ExecutionState,
        task: int,
        reason: str,
        actor: str,
        now_us: int,
        *,
        queued: bool = False,
    ) -> bool:
        """Open a new run from a task on."""
        return self._opening(
            state,
            lambda effects: machine.reset(
                state, task, reason, actor, now_us, self._chance, effects, queued=queued
            ),
        )

    def signal(
        self, state: ExecutionState, name: str, payload: bytes, actor: str, now_us: int
    ) -> SignalTaken | None:
        """Give a signal; None: a fault of ours took the execution out of service."""
        taken: list[SignalTaken] = []

        def give(effects: Effects) -> bool:
            taken.append(machine.signal(state, name, payload, actor, now_us, self._chance, effects))
            return True

        self.call(state, give)
        return taken[0] if taken else None

    def decide(self, state: ExecutionState, decision: Decision, now_us: int) -> bool:
        """Decide an approval."""
        return self.call(
            state,
            lambda effects: machine.decide_approval(
                state,
                decision.task,
                decision.item,
                decision.try_,
                decision.approved,
                decision.comment,
                decision.data or b"null",
                decision.actor,
                now_us,
                self._chance,
                effects,
            ),
        )

    def begin_wait(self, ready: Ready, wait: Wait, now_us: int) -> bool:
        """Let a try of one of the engine's own types wait."""
        state, task, item, try_, _, _ = ready
        return self.call(
            state,
            lambda effects: machine.begin_wait(
                state, task, item, try_, wait, now_us, self._chance, effects
            ),
        )

    def wait_due(self, state: ExecutionState, task: int, item: int, try_: int, now_us: int) -> bool:
        """End a wait whose time has come."""
        return self.call(
            state,
            lambda effects: machine.wait_due(
                state, task, item, try_, now_us, self._chance, effects
            ),
        )

    def begin_child(self, ready: Ready, child: int, public_id: str, now_us: int) -> bool:
        """Note that a child serves a try."""
        state, task, item, try_, _, _ = ready
        return self.call(
            state,
            lambda effects: machine.begin_child(
                state, task, item, try_, child, public_id, now_us, self._chance, effects
            ),
        )

    def resume(self, state: ExecutionState, now_us: int, effects: Effects) -> None:
        """Bring a folded execution back to life, into effects of the caller's choice."""
        machine.resume(state, now_us, self._chance, effects)

    def start(self, state: ExecutionState, now_us: int, effects: Effects) -> None:
        """Set a new execution going, into effects of the caller's choice."""
        machine.start(state, now_us, self._chance, effects)

    def _opening(self, state: ExecutionState, verb: Callable[[Effects], bool]) -> bool:
        """Run a verb that may open a run: what is gathered of the status is void then."""
        gathering = self._commits.gathering
        reopens, changes = gathering.supersede(state.start.id)
        changed = self.call(state, verb)
        if not changed and gathering is self._commits.gathering:
            gathering.effects.reopens += reopens
            gathering.effects.changes += changes
        return changed

    def doom(self, state: ExecutionState, reason: str, now_us: int, effects: Effects) -> None:
        """End a new execution at once, into effects of the caller's choice."""
        text = "as many executions with this concurrency key run as may"
        machine.request_cancel(state, text, "", now_us, self._chance, effects, code=reason)

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
