"""What to do when a timer fires."""

from typing import cast

from bend_server.core.effects import BlobWait, Timer, TimerKind
from bend_server.engine.dispatch import Dispatch
from bend_server.engine.jobs import Jobs
from bend_server.engine.lanes import Lane
from bend_server.engine.live import Live
from bend_server.engine.recovery import Recovery
from bend_server.engine.settlement import Settlement
from bend_server.engine.steps import Steps
from bend_server.engine.timers import Entry
from bend_server.engine.windows import Handout
from bend_server.ports.clock import Clock


class Due:
    """Calls the verb that each timer stands for; whatever no longer matters is ignored."""

    def __init__(
        self,
        clock: Clock,
        live: Live,
        steps: Steps,
        dispatch: Dispatch,
        recovery: Recovery,
        settlement: Settlement,
        jobs: Jobs,
    ) -> None:
        self._clock = clock
        self._live = live
        self._steps = steps
        self._dispatch = dispatch
        self._recovery = recovery
        self._settlement = settlement
        self._jobs = jobs

    def fire(self, entries: list[Entry]) -> None:
        """Act on what is due."""
        now_us = self._clock.now_us()
        for entry in entries:
            if type(entry) is Timer:
                self._verb(entry, now_us)
            elif type(entry) is Handout:
                if entry.open and not entry.revoked:
                    self._jobs.spawn(self._recovery.backstop(entry))
            elif type(entry) is BlobWait:
                self._settlement.load_again(entry)
            else:
                self._dispatch.lane_due(cast("Lane", entry))

    def expire(self, executions: list[int]) -> None:
        """End executions whose deadline has come."""
        now_us = self._clock.now_us()
        for execution in executions:
            state = self._live.states.get(execution)
            if state is not None:
                self._steps.timed_out(state, now_us)

    def _verb(self, timer: Timer, now_us: int) -> None:
        state = self._live.states.get(timer.execution)
        if state is None:
            return
        if timer.kind == TimerKind.RETRY:
            self._steps.retry_due(state, timer.task, timer.item, now_us)
        elif timer.kind == TimerKind.GRACE:
            self._steps.grace_over(state, now_us)
        elif timer.kind == TimerKind.WAKE:
            self._steps.wait_due(state, timer.task, timer.item, timer.try_, now_us)
        else:
            self._steps.timed_out(state, now_us)
