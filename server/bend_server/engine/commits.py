"""Group commit: one in flight, the next gathers. Nothing is visible before it is durable."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from bend_server.core import limits
from bend_server.core.errors import DependencyDown, DomainError, LeaseLost
from bend_server.core.state import ExecutionState
from bend_server.engine.gathering import Gathering, split
from bend_server.engine.live import Live
from bend_server.engine.options import Counters, EngineOptions
from bend_server.ports.blobs import Blobs
from bend_server.ports.engine import StartOutcome
from bend_server.ports.store import Batch, Committed, EngineStore

log = structlog.get_logger()

Settle = Callable[[Gathering, Committed], None]
Lost = Callable[[DomainError], None]
Quarantine = Callable[[int, Exception, int], Awaitable[None]]


class Commits:
    """Owns the only road into SQL for rows of executions.

    Intake appends to `gathering` (synchronously, together with what it evolved) and calls `wake`.
    `settle` is called after each successful commit and only then. A commit whose outcome is
    unknown, or which a newer owner refused, ends in `lost`: all memory must be dropped.

    Args:
        settle: acts on what is durable now; synchronous.
        before: adds to a gathering what follows from its rows; synchronous.
        lost: drops memory; synchronous.
        quarantine: takes one execution out of service, in a transaction of its own.
    """

    def __init__(
        self,
        store: EngineStore,
        blobs: Blobs,
        live: Live,
        options: EngineOptions,
        counters: Counters,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._live = live
        self._rows_max = options.commit_rows_max
        self._counters = counters
        self._wake = asyncio.Event()
        self._swapped = asyncio.Event()
        self._broken: dict[int, Exception] = {}
        self._flying: Gathering | None = None
        self.gathering = Gathering()
        self.settle: Settle
        self.before: Callable[[Gathering], None]
        self.lost: Lost
        self.quarantine: Quarantine

    @property
    def busy(self) -> bool:
        """Whether a commit is in flight or wanted."""
        return self._flying is not None or self.gathering.wanted()

    @property
    def in_flight(self) -> bool:
        """Whether a commit is under way whose outcome is not known yet."""
        return self._flying is not None

    def wake(self) -> None:
        """Commit soon: when the one in flight has ended."""
        self._wake.set()

    async def room(self) -> None:
        """Wait until the gathering is below its bound."""
        while self.gathering.rows() >= self._rows_max:
            self._swapped.clear()
            self.wake()
            await self._swapped.wait()

    def after(self) -> asyncio.Future[None]:
        """Return a future for the end of the next commit that begins after this call.

        It raises LeaseLost or DependencyDown when memory was dropped instead.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._live.lease is None:
            # Nothing commits before there is a new one, and who wants that may wait for us.
            future.set_exception(LeaseLost("the engine has no lease"))
            return future
        self.gathering.done.append(future)
        self.gathering.forced = True
        self.wake()
        return future

    def broken(self, state: ExecutionState, error: Exception) -> None:
        """Take an execution out whose state can no longer be trusted: a fault while evolving.

        Its rows that are not in flight yet are dropped; it is quarantined from what SQL has.
        """
        execution = state.start.id
        log.error("execution_broken", execution=execution, exc_info=error)
        self.gathering.strip(execution)
        self.gathering.acks.clear()
        self._live.states.pop(execution, None)
        self._live.held[execution] = None
        self._broken[execution] = error
        self.gathering.forced = True
        self.wake()

    def drop(self, error: DomainError) -> None:
        """Forget what has gathered, and tell everybody who waits for it."""
        gathering, self.gathering = self.gathering, Gathering()
        self._broken.clear()
        gathering.fail(error)
        self._swapped.set()

    async def run(self) -> None:
        """Commit for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.gathering.wanted() and self._live.lease is not None:
                await self._turn()

    async def _turn(self) -> None:
        generation = self._live.generation
        gathering = self._flying = self.gathering
        self.gathering = Gathering()
        self._swapped.set()
        try:
            await self._write(gathering)
            if generation == self._live.generation and self._broken:
                await self._retire()
        except (LeaseLost, DependencyDown) as error:
            self._counters.add("commits_lost")
            gathering.fail(error)
            if generation == self._live.generation:
                self.drop(error)
                self.lost(error)
        except Exception:  # a fault of ours or of the store: nothing in memory is trusted now
            self._counters.add("commits_lost")
            log.exception("commit_failed")
            down = DependencyDown("the commit failed in an unexpected way")
            gathering.fail(down)
            if generation == self._live.generation:
                self.drop(down)
                self.lost(down)
        except BaseException:
            gathering.fail(DependencyDown("the engine stopped while a commit was in flight"))
            raise
        finally:
            self._flying = None

    async def _write(self, gathering: Gathering) -> None:
        lease = self._live.lease
        if lease is None:
            raise LeaseLost("the engine has no lease")
        generation = self._live.generation
        await self._shrink(gathering)
        self.before(gathering)
        try:
            committed = await self._store.commit(lease, self._live.claimed, gathering.batch())
        except (LeaseLost, DependencyDown):
            raise
        except DomainError as error:
            self._check(generation)
            log.warning("commit_refused", reason=error.reason, rows=gathering.rows())
            committed = await self._one_by_one(gathering)
        self._check(generation)
        counters = self._counters
        counters.add("commits")
        counters.add("rows", gathering.rows())
        self.settle(gathering, committed)

    def _check(self, generation: int) -> None:
        if generation != self._live.generation:
            raise LeaseLost("memory was dropped while a commit was in flight")

    async def _shrink(self, gathering: Gathering) -> None:
        """Move large outputs of executions to the blob store."""
        finishes = gathering.effects.finishes
        for place, row in enumerate(finishes):
            if row.output is not None and len(row.output) > limits.INLINE_BYTES_MAX:
                state = self._live.states.get(row.execution)
                namespace = "" if state is None else state.start.namespace
                key = await self._blobs.put(f"{namespace}/{row.execution}", row.output)
                finishes[place] = row._replace(output=None, blob=key)

    async def _one_by_one(self, gathering: Gathering) -> Committed:
        """Write a refused batch execution by execution; those that are refused alone go out.

        What gathered meanwhile builds on the refused rows, so it is written here, too.
        """
        later, self.gathering = self.gathering, Gathering()
        gathering.absorb(later)
        self._swapped.set()
        await self._shrink(gathering)
        started: set[int] = set()
        for execution, batch in split(gathering).items():
            lease = self._live.lease
            if lease is None:
                raise LeaseLost("the engine has no lease")
            try:
                part = await self._store.commit(lease, self._live.claimed, batch)
                started.update(part.started)
            except (LeaseLost, DependencyDown):
                raise
            except DomainError as error:
                self._counters.add("executions_refused")
                self._refuse(gathering, execution, batch, error)
        return Committed(frozenset(started))

    def _refuse(
        self, gathering: Gathering, execution: int, batch: Batch, error: DomainError
    ) -> None:
        log.error("execution_refused", execution=execution, reason=error.reason)
        fresh = False
        for starting in gathering.starts:
            if starting.row.id == execution:
                fresh = True
                starting.call.put(starting.place, StartOutcome(0, "", False, 0, error))
        gathering.strip(execution)
        self.gathering.strip(execution)
        # Some of the deliveries carried what is not written now: all come again, and are judged
        # by what SQL has.
        gathering.acks.clear()
        self.gathering.acks.clear()
        self._live.states.pop(execution, None)
        if not fresh:
            self._live.held[execution] = None
            first_seq = min(
                *(row.seq for row in batch.results),
                *(row.seq for row in batch.events),
                *(row.seq for row in batch.finishes),
                1 << 62,
                1 << 62,
            )
            error.metadata["first_seq"] = str(first_seq)
            self._broken[execution] = error

    async def _retire(self) -> None:
        """Quarantine what broke, each in a transaction of its own."""
        while self._broken:
            execution, error = next(iter(self._broken.items()))
            del self._broken[execution]
            first_seq = error.metadata.get("first_seq") if isinstance(error, DomainError) else None
            try:
                await self.quarantine(execution, error, int(first_seq or 0))
            finally:
                self._live.held.pop(execution, None)
