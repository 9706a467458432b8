"""What the machine decided: rows to commit, and what follows once they are committed."""

from enum import IntEnum
from typing import NamedTuple

from bend_server.core.model import (
    ITEM_NONE,
    ApprovalEnd,
    ApprovalRow,
    CacheRow,
    EventRow,
    FinishRow,
    Reopen,
    ResultRow,
    StatusChange,
)
from bend_server.core.state import ExecutionState


class TimerKind(IntEnum):
    """What a timer stands for: which verb of the machine the engine calls when it is due."""

    RETRY = 1
    GRACE = 2
    EXECUTION = 3
    WAKE = 4


class Ready(NamedTuple):
    """A try that was opened; dispatched after the commit, unless it was stopped meanwhile.

    At dispatch the engine checks `state.open_try(task, item) == try_` and that
    `state.stopping(task)` is false; a try that is stopping gets a CANCELLED outcome from the
    engine itself.
    """

    state: ExecutionState
    task: int
    item: int
    try_: int
    attempt: int
    iteration: int


class Timer(NamedTuple):
    """Wake the machine at `due_us`. Late, early or repeated timers are harmless."""

    due_us: int
    execution: int
    kind: int
    task: int
    item: int
    try_: int


class Cancel(NamedTuple):
    """A try to stop: handed out to a worker, or still waiting for dispatch."""

    execution: int
    task: int
    item: int
    try_: int


class BlobWait(NamedTuple):
    """A decision that needs the data of a blob: load `key`, then call `machine.blob_loaded`.

    `task` is the task that cannot be judged (or whose loop cannot), with `asker` as its item, or
    FINISH for the execution's output; `source` and `item` are the unit whose output has the key.
    """

    state: ExecutionState
    task: int
    source: int
    key: str
    item: int = ITEM_NONE
    asker: int = ITEM_NONE


class ChildWish(NamedTuple):
    """Something the engine has to do to a child, once the parent's rows are durable.

    `verb`: "cancel" or "retry". `parent`'s (task, item, try_) is the one that the child serves.
    """

    verb: str
    child: int
    parent: int
    task: int
    item: int
    try_: int
    reason: str
    actor: str


FINISH = -1


class Effects:
    """The accumulator of one batch over many executions.

    Rows (`results`, `events`, `finishes`, `changes`, `reopens`, `approvals`, `approval_ends`,
    `caches`) are evolved into their states already and must be committed together; the rest may be
    acted on only after that commit.
    """

    __slots__ = (
        "approval_ends",
        "approvals",
        "blobs",
        "caches",
        "cancels",
        "changes",
        "children",
        "events",
        "finishes",
        "ready",
        "reopens",
        "results",
        "timers",
    )

    def __init__(self) -> None:
        self.results: list[ResultRow] = []
        self.events: list[EventRow] = []
        self.finishes: list[FinishRow] = []
        self.changes: list[StatusChange] = []
        self.reopens: list[Reopen] = []
        self.approvals: list[ApprovalRow] = []
        self.approval_ends: list[ApprovalEnd] = []
        self.caches: list[CacheRow] = []
        self.ready: list[Ready] = []
        self.timers: list[Timer] = []
        self.cancels: list[Cancel] = []
        self.blobs: list[BlobWait] = []
        self.children: list[ChildWish] = []

    def reopen(self, row: Reopen) -> None:
        """Add a Reopen; changes and reopens of the execution that came before it are void."""
        if self.changes:
            self.changes = [one for one in self.changes if one.execution != row.execution]
        if self.reopens:
            self.reopens = [one for one in self.reopens if one.execution != row.execution]
        self.reopens.append(row)

    def rows(self) -> int:
        """Return how many rows the batch has."""
        return (
            len(self.results)
            + len(self.events)
            + len(self.finishes)
            + len(self.changes)
            + len(self.reopens)
            + len(self.approvals)
            + len(self.approval_ends)
            + len(self.caches)
        )
