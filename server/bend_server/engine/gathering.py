"""What one group commit carries: rows, and what happens once they are durable."""

import asyncio
from typing import Protocol

from bend_server.core.effects import Effects
from bend_server.core.errors import InvariantBroken
from bend_server.core.model import Reopen, StartRow, StatusChange
from bend_server.core.plan import Plan
from bend_server.ports.control import Letter, RequestRow
from bend_server.ports.engine import StartOutcome
from bend_server.ports.store import Batch, Park

# The rows of the machine, by their names in Effects and in Batch.
ROW_KINDS = (
    "results",
    "events",
    "finishes",
    "changes",
    "reopens",
    "approvals",
    "approval_ends",
    "caches",
)


class StartSink(Protocol):
    """Who hears what came of a start."""

    def put(self, place: int, outcome: StartOutcome) -> None:
        """Take the outcome of one start."""
        ...

    def fail(self, error: Exception) -> None:
        """Hear that the outcome is unknown."""
        ...


class StartCall:
    """One call of `start_executions`: collects the outcomes of its starts."""

    __slots__ = ("answer", "missing", "outcomes")

    def __init__(self, size: int, answer: asyncio.Future[None]) -> None:
        self.outcomes: list[StartOutcome | None] = [None] * size
        self.missing = size
        self.answer = answer

    def put(self, place: int, outcome: StartOutcome) -> None:
        """Give one start its outcome; the last one answers the call."""
        if self.outcomes[place] is None:
            self.missing -= 1
        self.outcomes[place] = outcome
        if not self.missing and not self.answer.done():
            self.answer.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the whole call with an error: the outcome of some start is unknown."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Starting:
    """One start on its way into SQL.

    `doomed`: it ends CANCELLED at once, for this reason. `whole`: the execution whose rows are
    nothing without it, and it without them: a child's parent, else itself.
    """

    __slots__ = ("call", "current", "doomed", "place", "plan", "row", "whole")

    def __init__(
        self, row: StartRow, plan: Plan, *, current: bool, call: StartSink, place: int
    ) -> None:
        self.row = row
        self.plan = plan
        self.current = current
        self.call = call
        self.place = place
        self.doomed = ""
        self.whole = row.id


class Gathering:
    """The next commit.

    Attributes:
        effects: rows of the machine, and what follows from them.
        starts: accepted starts.
        parks: executions to park, or to take back.
        requests: commands that must not be carried out twice.
        letters: what other partitions are told, each with the execution whose rows it follows from.
        read: letters that are answered, each with the execution that answers it.
        acks: tokens of deliveries whose content is in the rows, or needs none.
        done: futures to resolve after the commit.
        forced: commit even without rows, because somebody waits for a fenced statement.
    """

    __slots__ = (
        "acks",
        "done",
        "effects",
        "forced",
        "letters",
        "parks",
        "read",
        "requests",
        "starts",
    )

    def __init__(self) -> None:
        self.effects = Effects()
        self.starts: list[Starting] = []
        self.parks: list[Park] = []
        self.requests: list[RequestRow] = []
        self.letters: list[tuple[int, Letter]] = []
        self.read: list[tuple[int, int]] = []
        self.acks: list[str] = []
        self.done: list[asyncio.Future[None]] = []
        self.forced = False

    def rows(self) -> int:
        """Return how many rows the commit would have."""
        return (
            self.effects.rows()
            + len(self.starts)
            + len(self.parks)
            + len(self.requests)
            + len(self.letters)
            + len(self.read)
        )

    def wanted(self) -> bool:
        """Return whether there is anything to commit or to do after a commit."""
        effects = self.effects
        return bool(
            self.rows()
            or self.acks
            or self.done
            or self.forced
            or effects.ready
            or effects.timers
            or effects.cancels
            or effects.blobs
            or effects.children
        )

    def batch(self) -> Batch:
        """Return the rows as the store takes them."""
        effects = self.effects
        return Batch(
            starts=[starting.row for starting in self.starts],
            starts_current=[starting.current for starting in self.starts],
            results=effects.results,
            events=effects.events,
            finishes=effects.finishes,
            parks=self.parks,
            changes=effects.changes,
            reopens=effects.reopens,
            approvals=effects.approvals,
            approval_ends=effects.approval_ends,
            caches=effects.caches,
            requests=self.requests,
            letters=[letter for _, letter in self.letters],
            read=[number for _, number in self.read],
        )

    def fail(self, error: Exception) -> None:
        """Tell everybody who waits that the commit did not happen, or that nobody knows."""
        for starting in self.starts:
            starting.call.fail(error)
        for future in self.done:
            if not future.done():
                future.set_exception(error)

    def absorb(self, other: "Gathering") -> None:
        """Append a later gathering."""
        for reopen in other.effects.reopens:
            self.supersede(reopen.execution)
        for name in Effects.__slots__:
            getattr(self.effects, name).extend(getattr(other.effects, name))
        self.starts += other.starts
        self.parks += other.parks
        self.requests += other.requests
        self.letters += other.letters
        self.read += other.read
        self.acks += other.acks
        self.done += other.done

    def supersede(self, execution: int) -> tuple[list[Reopen], list[StatusChange]]:
        """Take out and return what a run that opens makes void.

        The store writes new runs before everything else.
        """
        effects = self.effects
        reopens = [row for row in effects.reopens if row.execution == execution]
        changes = [row for row in effects.changes if row.execution == execution]
        if reopens:
            effects.reopens = [row for row in effects.reopens if row.execution != execution]
        if changes:
            effects.changes = [row for row in effects.changes if row.execution != execution]
        return reopens, changes

    def strip(self, execution: int) -> None:
        """Take out all rows and effects of one execution: its start too, and its children's."""
        effects = self.effects
        for kind in ROW_KINDS:
            rows = getattr(effects, kind)
            if rows:
                setattr(effects, kind, [row for row in rows if row.execution != execution])
        effects.children = [wish for wish in effects.children if wish.parent != execution]
        self.requests = [row for row in self.requests if row.execution != execution]
        self.letters = [one for one in self.letters if one[0] != execution]
        self.read = [one for one in self.read if one[0] != execution]
        for starting in self.starts:
            if starting.whole == execution != starting.row.id:
                starting.call.fail(InvariantBroken("the parent is out of service"))
        self.starts = [one for one in self.starts if one.whole != execution]
        effects.ready = [ready for ready in effects.ready if ready.state.start.id != execution]
        effects.timers = [timer for timer in effects.timers if timer.execution != execution]
        effects.cancels = [cancel for cancel in effects.cancels if cancel.execution != execution]
        effects.blobs = [wait for wait in effects.blobs if wait.state.start.id != execution]
        self.starts = [starting for starting in self.starts if starting.row.id != execution]
        self.parks = [park for park in self.parks if park.execution != execution]


def split(gathering: Gathering) -> dict[int, Batch]:
    """Return one batch per execution, in the order in which executions first appear."""
    parts: dict[int, Batch] = {}

    def part(execution: int) -> Batch:
        batch = parts.get(execution)
        if batch is None:
            batch = parts[execution] = Batch()
        return batch

    for starting in gathering.starts:
        batch = part(starting.whole)
        batch.starts.append(starting.row)
        batch.starts_current.append(starting.current)
    for kind in ROW_KINDS:
        for row in getattr(gathering.effects, kind):
            getattr(part(row.execution), kind).append(row)
    for request in gathering.requests:
        part(request.execution).requests.append(request)
    for execution, letter in gathering.letters:
        part(execution).letters.append(letter)
    for execution, number in gathering.read:
        part(execution).read.append(number)
    for park in gathering.parks:
        part(park.execution).parks.append(park)
    return parts
