"""What a unit has: a unit is a task, or one item of a task with `for_each`.

Flat columns by index, no object per unit. What few units need (errors, backoffs, rounds) lives in
dicts that are made when first needed.
"""

from array import array

from bend_server.core.model import TaskStatus

_PENDING = int(TaskStatus.PENDING)
_COMPLETED = int(TaskStatus.COMPLETED)

# Repeated, they are columns: in half the time that making arrays from bytes takes.
_BLANK_STATUS = bytearray((_PENDING,))
_BLANK_TRY = array("I", (0,))
_BLANK_TIMES = array("q", (0, 0))


class BlobOutput:
    """An output in the blob store; `data` is there only while somebody evaluates with it."""

    __slots__ = ("data", "key")

    def __init__(self, key: str, data: bytes | None = None) -> None:
        self.key = key
        self.data = data


class Units:
    """The columns of many units.

    Attributes:
        statuses: a TaskStatus per unit.
        tries: the last try that was opened or written; 0 before the first.
        outputs: bytes, BlobOutput or None; the list is None before the first output.
        times: started and finished of the last try, Unix microseconds, at 2i and 2i + 1.
        errors: JSON of the last failure.
        due: per unit in backoff or between two rounds, when its next try opens.
        firsts: start of the first attempt, per unit that was retried.
        bases: the try after which attempts count from 1 again (a round, a run); 0 without.
        attempts: attempt of the last try where it is not the try minus the base.
        iterations: the round of `repeat` that the unit is in; 0 without.
        lasts: what the round before gave, per unit that has had one and has not completed.
        undecided: units whose loop waits for a blob to know whether another round follows.
    """

    __slots__ = (
        "attempts",
        "bases",
        "due",
        "errors",
        "firsts",
        "iterations",
        "lasts",
        "outputs",
        "statuses",
        "times",
        "tries",
        "undecided",
    )

    statuses: bytearray
    tries: "array[int]"
    outputs: list[bytes | BlobOutput | None] | None
    times: "array[int] | None"
    errors: dict[int, bytes] | None
    due: dict[int, int] | None
    firsts: dict[int, int] | None
    bases: dict[int, int] | None
    attempts: dict[int, int] | None
    iterations: dict[int, int] | None
    lasts: dict[int, bytes | BlobOutput] | None
    undecided: set[int] | None

    def blank(self, size: int) -> None:
        """Make the columns of `size` units that have not begun."""
        self.statuses = _BLANK_STATUS * size
        self.tries = _BLANK_TRY * size
        self.outputs = self.times = self.errors = self.due = self.firsts = self.bases = None
        self.attempts = self.iterations = self.lasts = self.undecided = None

    def make_times(self) -> "array[int]":
        """Make the column of times."""
        self.times = _BLANK_TIMES * len(self.statuses)
        return self.times

    def make_outputs(self) -> list[bytes | BlobOutput | None]:
        """Make the column of outputs."""
        self.outputs = [None] * len(self.statuses)
        return self.outputs

    def unit_attempt(self, index: int) -> int:
        """Return the attempt of a unit's last try, from 1; 0 when the round has had none."""
        if self.attempts is not None and index in self.attempts:
            return self.attempts[index]
        if self.bases is not None:
            return self.tries[index] - self.bases.get(index, 0)
        return self.tries[index]

    def unit_iteration(self, index: int) -> int:
        """Return the round of `repeat` that a unit is in, from 0."""
        return 0 if self.iterations is None else self.iterations.get(index, 0)

    def in_doubt(self, index: int) -> bool:
        """Return whether a unit's loop waits for a blob."""
        return self.undecided is not None and index in self.undecided

    def keep_output(self, index: int, output: bytes | BlobOutput | None) -> None:
        """Set a unit's output."""
        if output is not None or self.outputs is not None:
            (self.outputs or self.make_outputs())[index] = output

    def note_attempt(self, index: int, attempt: int, try_: int) -> None:
        """Keep the attempt of a try that was written, where it does not follow from the try."""
        base = 0 if self.bases is None else self.bases.get(index, 0)
        if attempt == try_ - base:
            if self.attempts is not None:
                self.attempts.pop(index, None)
            return
        if self.attempts is None:
            self.attempts = {}
        self.attempts[index] = attempt

    def count_from_here(self, index: int) -> None:
        """Let attempts count from 1 again after the last try."""
        if self.bases is None:
            self.bases = {}
        self.bases[index] = self.tries[index]
        for column in (self.attempts, self.firsts):
            if column is not None:
                column.pop(index, None)

    def next_round(self, index: int, due_us: int, output: bytes | BlobOutput | None) -> None:
        """Wait for the next round of `repeat`, which opens at `due_us` and sees this one's output.

        Blob data that was lent is not kept.
        """
        if self.undecided is not None:
            self.undecided.discard(index)
        if self.outputs is not None:
            self.outputs[index] = None
        if self.lasts is None:
            self.lasts = {}
        self.lasts.pop(index, None)
        if output is not None:
            self.lasts[index] = BlobOutput(output.key) if isinstance(output, BlobOutput) else output
        self.count_from_here(index)
        if self.iterations is None:
            self.iterations = {}
        self.iterations[index] = self.iterations.get(index, 0) + 1
        if self.due is None:
            self.due = {}
        self.due[index] = due_us

    def loop_ended(self, index: int) -> None:
        """Forget what the round before the last one gave: the unit has completed."""
        if self.lasts is not None:
            self.lasts.pop(index, None)

    def lend(self, index: int, data: bytes) -> None:
        """Lend a blob's data to what a unit gave, or to what its round before gave."""
        output = None if self.outputs is None else self.outputs[index]
        if output is None and self.lasts is not None:
            output = self.lasts.get(index)
        if isinstance(output, BlobOutput):
            output.data = data

    def again(self, index: int, *, fresh: bool) -> None:
        """Make a unit PENDING for a new run. Tries count on; `fresh`: rounds begin from 0."""
        self.statuses[index] = _PENDING
        if self.tries[index]:
            self.count_from_here(index)
        if self.attempts is not None:
            self.attempts.pop(index, None)
        if self.outputs is not None:
            self.outputs[index] = None
        if self.times is not None:
            self.times[2 * index] = self.times[2 * index + 1] = 0
        for column in (self.errors, self.due, self.firsts):
            if column is not None:
                column.pop(index, None)
        if self.undecided is not None:
            self.undecided.discard(index)
        if fresh:
            for rounds in (self.iterations, self.lasts):
                if rounds is not None:
                    rounds.pop(index, None)

    def drop_data(self) -> None:
        """Forget all blob data that was lent."""
        for outputs in (self.outputs or (), (self.lasts or {}).values()):
            for output in outputs:
                if isinstance(output, BlobOutput):
                    output.data = None


class Fan(Units):
    """The items of one task with `for_each`, or of a task that compensates such a task.

    Attributes:
        window: how many items run at once (max_parallel).
        count: how many items there are; -1 while that is not known (again).
        items: JSON of each; None when they are not in memory and have to be made again.
        next: the first item that had no turn yet; those before it are done or open.
        active: how many items are open (a backoff, a wait and a pause between rounds count).
        left: how many items are not terminal.
        failed: how many items failed or timed out.
        halted: whether an item's failure keeps further items from starting.
        listed: the assembled output, kept until the next change.
    """

    __slots__ = ("active", "count", "failed", "halted", "items", "left", "listed", "next", "window")

    def __init__(self, window: int) -> None:
        self.blank(0)
        self.window = window
        self.count = -1
        self.items: list[bytes] | None = None
        self.next = 0
        self.active = 0
        self.left = 0
        self.failed = 0
        self.halted = False
        self.listed: bytes | None = None

    def begin(self, count: int) -> None:
        """Take the number of items. Items that are known (a retry) keep what they have."""
        if self.count < 0:
            known = self.tries
            self.blank(max(count, len(known)))
            self.tries[: len(known)] = known
            for index, try_ in enumerate(known):
                if try_:
                    self.count_from_here(index)
            self.count = self.left = count
        self.next = self.active = self.failed = 0
        self.halted = False
        self.listed = None

    def refill(self) -> None:
        """Admit items in their order, until the window is full."""
        statuses = self.statuses
        while self.active < self.window and self.next < self.count and not self.halted:
            if statuses[self.next] < _COMPLETED:
                self.active += 1
            self.next += 1

    def ended(self, *, failed: bool, halts: bool) -> None:
        """Count an item that became terminal."""
        self.active -= 1
        self.left -= 1
        self.failed += failed
        self.halted = self.halted or halts

    def forget(self) -> None:
        """Begin anew for a new run: the items have to be counted again, their tries count on."""
        self.count = -1
        self.items = None
        self.listed = None
        self.next = self.active = self.left = self.failed = 0
        self.halted = False

    def do_again(self) -> None:
        """Make what did not complete PENDING for a new run; keep the rest."""
        self.next = self.active = self.failed = 0
        self.halted = False
        self.listed = None
        self.left = 0
        for index in range(self.count):
            if self.statuses[index] != _COMPLETED:
                self.again(index, fresh=False)
                self.left += 1

    @property
    def done(self) -> bool:
        """Whether nothing is open and nothing more will be opened by itself."""
        return not self.active and (self.halted or not self.left)
