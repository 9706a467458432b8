"""What one partition tells another: children that start, or run again, where this engine is not.

A letter is written in the commit of what it follows from, and deleted in the commit of what it
leads to, by the owner of its partition: it is neither lost nor read twice. Owners look at a
takeover, at a nudge of the sender's, and every 30 s.
"""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import structlog

from bend_server.core.errors import Conflict, DependencyDown, DomainError
from bend_server.core.ids import partition_of
from bend_server.core.model import EXECUTION_TERMINAL, ExecutionStatus, StartRow
from bend_server.engine.commits import Commits
from bend_server.engine.gathering import Starting
from bend_server.engine.jobs import Jobs
from bend_server.engine.live import Live
from bend_server.engine.queues import Queues, address
from bend_server.ports.control import Letter, StoredLetter
from bend_server.ports.engine import StartOutcome
from bend_server.ports.plans import PlanSource
from bend_server.ports.queue import Queue, QueueDown
from bend_server.ports.store import EngineStore

log = structlog.get_logger()

START, RETRY, REFUSED, NOT_AGAIN = 1, 2, 3, 4
LOOK_S = 30.0
PAGE = 100

_COMPLETED = int(ExecutionStatus.COMPLETED)
OwnerSlot = Callable[[int], Awaitable[int | None]]


def start_key(child: int) -> str:
    """Return the name of the letter that starts a child."""
    return f"start/{child}"


class _LetterCall:
    """Hears what came of a start by letter."""

    __slots__ = ("mailbox", "row")

    def __init__(self, mailbox: "Mailbox", row: StartRow) -> None:
        self.mailbox = mailbox
        self.row = row

    def put(self, place: int, outcome: StartOutcome) -> None:
        """Take the outcome; a refusal is told to the parent."""
        if outcome.error is not None:
            self.mailbox.refuse(self.row, outcome.error)

    def fail(self, error: Exception) -> None:
        """Nothing is written: the letter is still there."""
        self.mailbox.live.held.pop(self.row.id, None)


class Mailbox:
    """Sends letters, and reads those of the partitions that are owned here.

    Args:
        owner_slot: returns the slot of the engine that owns an execution's partition.
        retry: opens a new run of a child that belongs here.
        refused: tells a parent that belongs here that its child could not start.
        not_again: tells it that its child cannot run again.
    """

    def __init__(
        self,
        store: EngineStore,
        queue: Queue,
        plans: PlanSource,
        live: Live,
        commits: Commits,
        queues: Queues,
        jobs: Jobs,
    ) -> None:
        self.live = live
        self._store = store
        self._queue = queue
        self._plans = plans
        self._commits = commits
        self._queues = queues
        self._jobs = jobs
        self._look = asyncio.Event()
        self.owner_slot: OwnerSlot
        self.retry: Callable[[int, int, str, str, int], Awaitable[bool]]
        self.refused: Callable[[int, int, str, str], Awaitable[None]]
        self.not_again: Callable[[int, int], Awaitable[None]]

    def start(self, row: StartRow) -> None:
        """Have a child started by the owner of its partition, if the next commit succeeds."""
        body = row._asdict()
        for name in ("input", "labels", "request_hash"):
            body[name] = None if body[name] is None else body[name].decode()
        self._put(row.parent or 0, row.partition, start_key(row.id), START, body)

    def ask_retry(
        self, parent: int, child: int, run: int, reason: str, actor: str, timeout_us: int
    ) -> None:
        """Have a child retried by its owner."""
        body: dict[str, object] = {
            "child": child,
            "parent": parent,
            "run": run,
            "reason": reason,
            "actor": actor,
            "timeout_us": timeout_us,
        }
        self._put(parent, partition_of(child), f"retry/{child}/{run}", RETRY, body)

    def refuse(self, row: StartRow, error: DomainError) -> None:
        """Tell a parent elsewhere that its child wrote nothing."""
        body: dict[str, object] = {
            "child": row.id,
            "parent": row.parent or 0,
            "reason": error.reason,
            "message": error.message,
        }
        self._put(row.id, partition_of(row.parent or 0), f"refused/{row.id}", REFUSED, body)

    def _put(
        self, sender: int, partition: int, dedupe_key: str, kind: int, body: dict[str, object]
    ) -> None:
        letter = Letter(partition, dedupe_key, kind, orjson.dumps(body))
        self._commits.gathering.letters.append((sender, letter))
        self._commits.wake()

    def sent(self, letters: list[tuple[int, Letter]]) -> None:
        """Nudge the owners of letters that are durable now."""
        for partition in dict.fromkeys(letter.partition for _, letter in letters):
            if partition in self.live.owned:
                self._look.set()
            else:
                self._jobs.spawn(self._nudge(partition))

    async def _nudge(self, partition: int) -> None:
        try:
            slot = await self.owner_slot(address(partition))
            if slot is not None:
                await self._queue.broadcast(f"engine.mail.{slot}", b"")
        except (DomainError, QueueDown):
            return  # the owner looks by itself

    async def hear(self, data: bytes) -> None:
        """Look soon: another engine says that there is mail."""
        self._look.set()

    def look(self) -> None:
        """Look soon: partitions came here."""
        self._look.set()

    async def run(self) -> None:
        """Read letters for ever."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            try:
                while self.live.order and await self._read() == PAGE:
                    pass
            except DomainError as error:
                log.warning("mail_not_read", reason=error.reason)

    async def _read(self) -> int:
        """Read one page of letters; return how many they were."""
        letters = await self._store.letters(self.live.order, PAGE)
        for letter in letters:
            if letter.partition not in self.live.owned:
                continue
            try:
                await self._open(letter)
            except (Conflict, DependencyDown):
                raise
            except (DomainError, ValueError, KeyError, TypeError) as error:
                log.warning("letter_unusable", letter=letter.id, error=str(error))
                self._done(0, letter)
        if letters:
            await self._commits.after()
        return len(letters)

    async def _open(self, letter: StoredLetter) -> None:
        """Do what a letter says; it is deleted in the commit of what comes of that."""
        body = orjson.loads(letter.body)
        if letter.kind == START:
            await self._start(letter, body)
        elif letter.kind == RETRY:
            child, run = body["child"], body["run"]
            timeout_us = body.get("timeout_us", 0)  # letters of older engines have none
            if not await self.retry(child, run, body["reason"], body["actor"], timeout_us):
                parent = body["parent"]
                key, told = f"refused/{child}/{run}", {"child": child, "parent": parent}
                self._put(child, partition_of(parent), key, NOT_AGAIN, told)
            self._done(child, letter)
        elif letter.kind == NOT_AGAIN:
            await self.not_again(body["parent"], body["child"])
            self._done(body["parent"], letter)
        else:
            await self.refused(body["parent"], body["child"], body["reason"], body["message"])
            self._done(body["parent"], letter)

    async def _start(self, letter: StoredLetter, body: dict[str, object]) -> None:
        for name in ("input", "labels", "request_hash"):
            text = body[name]
            body[name] = text.encode() if isinstance(text, str) else None
        row = StartRow(**body)  # type: ignore[arg-type]
        generation = self.live.generation
        plan = await self._plans.plan(row.namespace, row.workflow, row.revision)
        parent = row.parent or 0
        known = await self._store.statuses([row.id, parent])
        await self._commits.room()
        if generation != self.live.generation or row.partition not in self.live.owned:
            raise Conflict("the letter belongs to another engine")
        wanted = known.get(parent, _COMPLETED) not in EXECUTION_TERMINAL
        if wanted and row.id not in known and row.id not in self.live.held:
            starting = Starting(row, plan, current=False, call=_LetterCall(self, row), place=0)
            self._queues.enter(starting)
            self.live.held[row.id] = None
            self._commits.gathering.starts.append(starting)
        self._done(row.id, letter)

    def _done(self, execution: int, letter: StoredLetter) -> None:
        self._commits.gathering.read.append((execution, letter.id))
        self._commits.wake()
