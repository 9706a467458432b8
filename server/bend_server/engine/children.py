"""Open children: their ends reach their parents, and the parents' wishes reach them.

The end of a child is told to the parent once it is durable; whatever is lost on the way is found by
looking children up in SQL: after a takeover, and from time to time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import orjson
import structlog

from bend_server.core.effects import ChildWish, Ready
from bend_server.core.errors import (
    DomainError,
    NotFound,
    WrongState,
)
from bend_server.core.ids import partition_of, started_ms
from bend_server.core.model import (
    EXECUTION_TERMINAL,
    ExecutionStatus,
    Failure,
    FinishRow,
    Outcome,
    StartRow,
    TaskStatus,
)
from bend_server.core.state import ExecutionState, Unit
from bend_server.engine.adoption import Adoption
from bend_server.engine.inputs import Verdict
from bend_server.engine.jobs import Jobs
from bend_server.engine.lanes import Work
from bend_server.engine.live import Live
from bend_server.engine.mailbox import start_key
from bend_server.engine.steps import Steps
from bend_server.ports.clock import Clock
from bend_server.ports.control import ChildRow
from bend_server.ports.store import EngineStore

log = structlog.get_logger()

LOOK_S = 30.0
PAGE = 1000
WISH_TRIES = 10
WISH_PAUSE_S = 1.0

_COMPLETED = int(ExecutionStatus.COMPLETED)
_REASONS = {
    int(ExecutionStatus.FAILED): "CHILD_FAILED",
    int(ExecutionStatus.CANCELLED): "CHILD_CANCELLED",
    int(ExecutionStatus.TIMED_OUT): "CHILD_TIMED_OUT",
}
Retry = Callable[[int, int, str, str, int], Awaitable[bool]]
Cancel = Callable[[int, str, str, str], Awaitable[ExecutionStatus]]


class Children:
    """Knows the open children of the executions in memory.

    Args:
        verdict: ends a try that the engine judges itself.
        cancel: cancels an execution, wherever its owner is.
        retry: opens a new run of a child that belongs here.
        ask_retry: has another engine do that.
        wait: waits for the end of an execution elsewhere; None when the time is over.
        durable: waits until what is gathered is committed.
        anew: starts another child for a try.
    """

    def __init__(
        self,
        store: EngineStore,
        clock: Clock,
        live: Live,
        steps: Steps,
        adoption: Adoption,
        jobs: Jobs,
    ) -> None:
        self._store = store
        self._clock = clock
        self._live = live
        self._steps = steps
        self._adoption = adoption
        self._jobs = jobs
        # Parent and unit of each child whose end is awaited.
        self._units: dict[int, tuple[int, Unit]] = {}
        self._followed: set[int] = set()
        self.verdict: Verdict
        self.cancel: Cancel
        self.retry: Retry
        self.ask_retry: Callable[[int, int, int, str, str, int], None]
        self.wait: Callable[[int, float], Awaitable[object]]
        self.durable: Callable[[], Awaitable[None]]
        self.anew: Callable[[Work], None]

    def clear(self) -> None:
        """Forget everything."""
        self._units.clear()

    def forget(self, partitions: frozenset[int]) -> None:
        """Forget the children of parents that go elsewhere."""
        for child in [
            child
            for child, (parent, _) in self._units.items()
            if partition_of(parent) in partitions
        ]:
            del self._units[child]

    def expect(self, child: int, parent: int, unit: Unit) -> None:
        """Await the end of a child whose start is gathered."""
        self._units[child] = (parent, unit)
        self._follow(child)

    def _follow(self, child: int) -> None:
        """Hear of the end of a child that another engine owns."""
        if not self._live.claims(child) and child not in self._followed:
            self._followed.add(child)
            self._jobs.spawn(self._await(child))

    async def _await(self, child: int) -> None:
        try:
            while child in self._units and not self._live.claims(child):
                if await self.wait(child, LOOK_S) is not None:
                    await self._look([child], {})
                    await asyncio.sleep(WISH_PAUSE_S)
        except DomainError as error:
            log.info("child_not_awaited", child=child, reason=error.reason)
        finally:
            self._followed.discard(child)

    def refused(self, work: Work, error: DomainError) -> None:
        """Fail a try whose child wrote nothing."""
        self.verdict(work, TaskStatus.FAILED, Failure(error.reason, error.message))

    def lost(self, child: int) -> None:
        """Forget a child whose start was not committed."""
        self._live.held.pop(child, None)
        self._units.pop(child, None)

    # Ends

    def ended(self, start: StartRow, finish: FinishRow) -> None:
        """Tell the parent that a child has ended; called once that is durable."""
        row = ChildRow(
            start.id,
            start.parent or 0,
            start.parent_task or 0,
            finish.status,
            finish.run,
            finish.output,
            finish.blob,
            finish.error,
            finish.finished_us,
        )
        parent = self._live.states.get(row.parent)
        if parent is not None:
            self._apply(parent, row)
        elif self._live.owns(row.parent):
            self._jobs.spawn(self._tell(row))

    async def _tell(self, row: ChildRow) -> None:
        """Bring a parent that is not in memory back, and tell it."""
        try:
            parent = await self._adoption.load(row.parent)
        except DomainError as error:
            log.warning("parent_not_told", child=row.execution, reason=error.reason)
            return
        if parent is not None:
            self._apply(parent, row)

    def _apply(self, parent: ExecutionState, row: ChildRow) -> None:
        entry = self._units.get(row.execution)
        unit = entry[1] if entry is not None else _unit_of(parent, row.execution)
        if unit is None:
            return
        child = parent.child(*unit)
        if child is None or child.id != row.execution:
            self._units.pop(row.execution, None)
            return
        if row.run < child.run:
            # The end of the run before: the wish to retry is on its way, or was lost.
            wish = ChildWish("retry", child.id, parent.start.id, *unit, child.try_, "", "")
            self._jobs.spawn(self._fulfil(wish))
            return
        self._units.pop(row.execution, None)
        now_us = self._clock.now_us()
        self._steps.apply(parent, _outcome(unit, child.try_, row, now_us), now_us)

    # What a recovery has to look after

    def adopted(self, states: Iterable[ExecutionState]) -> None:
        """Look after the children, and the parents, of executions that came from SQL."""
        asked: list[int] = []
        orphans: dict[int, int] = {}
        for state in states:
            control = state.control
            if control is not None:
                for unit, child in control.children.items():
                    if state.open_try(*unit) == child.try_:
                        self.expect(child.id, state.start.id, unit)
                        asked.append(child.id)
            if state.start.parent is not None:
                orphans[state.start.id] = state.start.parent
        if asked or orphans:
            self._jobs.spawn(self._look(asked, orphans))

    async def run(self) -> None:
        """Look awaited children up, once a period."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look(list(self._units), {})

    async def _look(self, asked: list[int], orphans: dict[int, int]) -> None:
        """Ask SQL for children that are not in memory, and for parents of those that are."""
        live = self._live
        try:
            wanted = [one for one in asked if one not in live.states and one not in live.held]
            for place in range(0, len(wanted), PAGE):
                page = wanted[place : place + PAGE]
                rows = {row.execution: row for row in await self._store.children(page)}
                for child in page:
                    await self._found(child, rows.get(child))
            lonely = {
                child: parent for child, parent in orphans.items() if parent not in live.states
            }
            parents = list(dict.fromkeys(lonely.values()))
            for place in range(0, len(parents), PAGE):
                statuses = await self._store.statuses(parents[place : place + PAGE])
                for child, parent in lonely.items():
                    if statuses.get(parent) in EXECUTION_TERMINAL and child in live.states:
                        await self.cancel(child, "the parent has ended", "", "")
        except DomainError as error:
            log.warning("children_not_looked_up", reason=error.reason)

    async def _found(self, child: int, row: ChildRow | None) -> None:
        entry = self._units.get(child)
        live = self._live
        if entry is None or child in live.states or child in live.held:
            return
        parent = live.states.get(entry[0])
        if parent is None:
            if not live.owns(entry[0]):
                del self._units[child]
                return
            parent = await self._adoption.load(entry[0])
            if parent is None:
                self._units.pop(child, None)
                return
        if row is None:
            await self.durable()  # its start, or the letter, may be on the way into SQL
            if await self._store.has_letter(start_key(child)):
                self._follow(child)
                return
            # A letter that was answered since has left a row.
            row = next(iter(await self._store.children([child])), None)
        if row is None and child not in live.states and child not in live.held:
            await self.not_started(entry[0], child, "CHILD_FAILED", "the child was never started")
        elif row is not None and row.status in EXECUTION_TERMINAL:
            self._apply(parent, row)

    async def not_started(self, parent: int, child: int, reason: str, message: str) -> None:
        """Fail the try of a child that wrote nothing. Raises what `Adoption.load` does."""
        state = await self._adoption.load(parent)
        entry = self._units.pop(child, None)
        unit = entry[1] if entry is not None else None
        if state is not None and unit is None:
            unit = _unit_of(state, child)
        known = None if state is None or unit is None else state.child(*unit)
        if state is not None and unit is not None and known is not None and known.id == child:
            now_us = self._clock.now_us()
            outcome = _failed(unit, known.try_, Failure(reason, message), now_us)
            self._steps.apply(state, outcome, now_us)

    # Wishes

    def wishes(self, wishes: list[ChildWish]) -> None:
        """Do to children what their parents decided."""
        for wish in wishes:
            if wish.verb == "retry":
                self._units[wish.child] = (wish.parent, (wish.task, wish.item))
            self._jobs.spawn(self._fulfil(wish))

    async def _fulfil(self, wish: ChildWish) -> None:
        """Carry a wish out; what is not possible now is tried again, then left to the look-up."""
        for turn in range(WISH_TRIES):
            try:
                if wish.verb == "cancel":
                    await self.cancel(wish.child, wish.reason or "the parent ends", wish.actor, "")
                else:
                    await self._retry(wish)
            except (WrongState, NotFound):
                return
            except DomainError as error:
                if turn + 1 == WISH_TRIES:
                    log.warning("child_not_reached", child=wish.child, reason=error.reason)
            else:
                return
            await asyncio.sleep(WISH_PAUSE_S)

    async def _retry(self, wish: ChildWish) -> None:
        parent = await self._adoption.load(wish.parent)
        known = None if parent is None else parent.child(wish.task, wish.item)
        if parent is not None and known is not None and known.id == wish.child:
            reason = wish.reason or "the parent retries"
            timeout_us = parent.plan.tasks[wish.task].timeout_us
            if self._live.claims(wish.child):
                if not await self.retry(wish.child, known.run, reason, wish.actor, timeout_us):
                    await self.not_again(wish.parent, wish.child)
            else:
                self.ask_retry(wish.parent, wish.child, known.run, reason, wish.actor, timeout_us)
                self._follow(wish.child)

    async def not_again(self, parent: int, child: int) -> None:
        """Let a child that cannot be retried be replaced, or serve its parent with its output.

        Raises what `Adoption.load` does.
        """
        rows = await self._store.children([child])
        state = await self._adoption.load(parent)
        unit = None if state is None else _unit_of(state, child)
        known = None if state is None or unit is None else state.child(*unit)
        if state is None or unit is None or known is None:
            return
        self._units.pop(child, None)
        now_us = self._clock.now_us()
        if rows and rows[0].status == _COMPLETED:
            self._steps.apply(state, _outcome(unit, known.try_, rows[0], now_us), now_us)
        elif state.open_try(*unit) == known.try_:
            attempt, iteration = state.attempt(*unit), state.iteration(*unit)
            self.anew((Ready(state, *unit, known.try_, attempt, iteration), now_us))


def _unit_of(parent: ExecutionState, child: int) -> Unit | None:
    if parent.control is None:
        return None
    return next(
        (unit for unit, known in parent.control.children.items() if known.id == child), None
    )


def _outcome(unit: Unit, try_: int, row: ChildRow, now_us: int) -> Outcome:
    """Return what a child's end means for the try that it serves."""
    if row.status != _COMPLETED:
        error = orjson.loads(row.error) if row.error else {}
        failure = Failure(
            _REASONS.get(row.status, "CHILD_FAILED"),
            error.get("message", "") or f"the child ended {ExecutionStatus(row.status).name}",
            details=orjson.dumps({"child": str(row.execution), "error": error}),
        )
        return _failed(unit, try_, failure, row.finished_us or now_us)._replace(
            started_us=started_ms(row.execution) * 1000
        )
    output = b"null" if row.output is None and row.blob is None else row.output
    return Outcome(
        *unit,
        try_,
        TaskStatus.COMPLETED,
        output,
        row.blob,
        None,
        "",
        0,
        0,
        started_ms(row.execution) * 1000,
        row.finished_us or now_us,
    )


def _failed(unit: Unit, try_: int, failure: Failure, now_us: int) -> Outcome:
    return Outcome(*unit, try_, TaskStatus.FAILED, None, None, failure, "", 0, 0, 0, now_us)
