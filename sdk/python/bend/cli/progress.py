"""Progress of one execution by task: a live table on a terminal, a line per change in a pipe."""

import sys
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import click

from bend.cli.console import COLOURS, compact, counted, took
from bend.cli.happenings import execution_words, is_debug, log_text, task_words

if TYPE_CHECKING:
    from rich.text import Text

    from bend.models import Execution, WatchEvent

MARKS = {
    "COMPLETED": "✓",
    "RUNNING": "●",
    "SCHEDULED": "○",
    "PENDING": "·",
    "WAITING": "…",
    "FAILED": "✗",
    "TIMED_OUT": "✗",
    "CANCELLED": "■",
    "SKIPPED": "-",
}
# Shown first when not all tasks fit on the screen.
URGENCY = ("FAILED", "TIMED_OUT", "RUNNING", "WAITING", "SCHEDULED", "CANCELLED", "COMPLETED")
ENDED = {"COMPLETED", "FAILED", "TIMED_OUT", "CANCELLED", "SKIPPED"}
REFRESH_PER_S = 8
NAME_CHARS_MAX = 40
PARTIAL_LINE_S = 1.0


class TaskLine:
    """What is known of one task while it is watched."""

    __slots__ = (
        "attempt",
        "began",
        "changed",
        "count",
        "ended",
        "items",
        "name",
        "partials",
        "status",
        "text",
    )

    def __init__(self, name: str, status: str) -> None:
        self.name = name
        self.status = status
        self.attempt = 0
        self.began: datetime | None = None
        self.ended: datetime | None = None
        self.changed = 0.0
        self.partials = 0
        # How many items there are, once they are counted, and the status of those that began.
        self.count = 0
        self.items: dict[int, str] = {}
        self.text = ""

    def apply(self, event: "WatchEvent", width: int) -> None:
        """Take an event in."""
        self.changed = time.monotonic()
        self.attempt = max(self.attempt, event.attempt)
        if event.type == "partial":
            self.partials += 1
            self.text = compact(event.data_json, width)
        elif event.type == "log" and not is_debug(event):
            self.text = log_text(event)
        elif event.type == "task":
            self._apply_status(event)

    def _apply_status(self, event: "WatchEvent") -> None:
        words, count = task_words(event)
        if event.item >= 0:
            self.items[event.item] = event.status
            if self.status in ("PENDING", "SCHEDULED"):
                self.status = "RUNNING"
            if event.status in ("FAILED", "TIMED_OUT") or (event.status == "WAITING" and words):
                self.text = f"[{event.item}] {words}"
            return
        self.status = event.status
        self.count = count or self.count
        if event.status in ENDED:
            self.ended = event.time
            self.text = words
            if event.status in ("COMPLETED", "SKIPPED"):
                self.text = counted(self.partials, "partial output") if self.partials else ""
        else:
            self.began = self.began or event.time
            self.ended = None
            self.text = words or self.text

    def settle(self, event: "WatchEvent") -> None:
        """Close the line at the execution's end: items that undo a task have no row of the task."""
        if self.items and self.status not in ENDED and ENDED.issuperset(self.items.values()):
            left = [one for one in URGENCY if one in self.items.values()]
            self.status, self.ended = left[0] if left else "SKIPPED", event.time

    def detail(self) -> str:
        """Return what is worth telling besides the status."""
        text = self.text
        if self.partials and self.status not in ENDED:
            text = f"#{self.partials}  {text}"
        if self.items or self.count:
            done = sum(1 for one in self.items.values() if one in ENDED)
            text = f"{done} of {max(self.count, len(self.items))} items  {text}"
        return text.rstrip()

    def span(self, now: datetime) -> str:
        """Return how long it runs or ran."""
        if self.began is None or (self.ended is None and self.status in ENDED):
            return ""
        return took(max(0.0, ((self.ended or now) - self.began).total_seconds() * 1000))


class Progress(Protocol):
    """A view of one execution while it runs."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...

    def begin(self, execution: "Execution") -> None:
        """Show where it stands before the first event."""
        ...

    def apply(self, event: "WatchEvent") -> None:
        """Show one event."""
        ...


class Board:
    """The tasks of one execution as events tell of them."""

    def __init__(self) -> None:
        self.execution = ""
        self.status = "PENDING"
        self.phase = ""
        self.lines: dict[str, TaskLine] = {}

    def begin(self, execution: "Execution") -> None:
        """Take the tasks in, in the document's order."""
        self.execution = execution.execution_id
        self.status = execution.status
        for task in execution.tasks:
            line = self.lines.setdefault(task.task, TaskLine(task.task, "PENDING"))
            line.count = max(line.count, task.item_count)

    def apply(self, event: "WatchEvent", width: int = 120) -> TaskLine | None:
        """Take an event in; return the task's line."""
        if event.type == "execution":
            self.status = event.status
            self.phase = execution_words(event)
            if event.terminal:
                for one in self.lines.values():
                    one.settle(event)
        if not event.task:
            return None
        line = self.lines.setdefault(event.task, TaskLine(event.task, "PENDING"))
        line.apply(event, width)
        return line

    def counts(self) -> dict[str, int]:
        """Count tasks by status."""
        counts: dict[str, int] = {}
        for line in self.lines.values():
            counts[line.status] = counts.get(line.status, 0) + 1
        return counts

    def summary(self) -> str:
        """Return the counts in words."""
        counts = self.counts()
        names = [*URGENCY, "SKIPPED", "PENDING"]
        return ", ".join(
            f"{counts[name]} {name.lower().replace('_', ' ')}" for name in names if name in counts
        )

    def shown(self, rows: int) -> list[TaskLine]:
        """Return the lines that fit: all in order, or the urgent and the newest ones."""
        if len(self.lines) <= rows:
            return list(self.lines.values())
        rank = {name: at for at, name in enumerate(URGENCY)}
        ranked = sorted(
            self.lines.values(), key=lambda line: (rank.get(line.status, 99), -line.changed)
        )[:rows]
        keep = {line.name for line in ranked}
        return [line for line in self.lines.values() if line.name in keep]


class LiveProgress:
    """A table that redraws itself in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self.board = Board()
        self._console = Console(highlight=False)
        self._live = Live(
            console=self._console,
            refresh_per_second=REFRESH_PER_S,
            get_renderable=self._render,
            transient=False,
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, at)

    def begin(self, execution: "Execution") -> None:
        """Show all tasks as pending."""
        self.board.begin(execution)

    def apply(self, event: "WatchEvent") -> None:
        """Take an event in; the next redraw shows it. Log lines scroll above the table."""
        self.board.apply(event, self._console.width)
        if event.type == "log" and not is_debug(event):
            self._console.print(f"{unit_name(event)}: {log_text(event)}", markup=False)

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        shown = self.board.shown(max(3, self._console.height - 4))
        head = Text(self.board.execution, style="bold")
        head.append(f"  {self.board.status.lower()}", style=COLOURS.get(self.board.status, ""))
        if self.board.phase:
            head.append(f"  {self.board.phase}", style="bright_black")
        hidden = len(self.board.lines) - len(shown)
        tail = self.board.summary() + (f"; {hidden} not shown" if hidden else "")
        rows = table_rows(shown, self._console.width, datetime.now(UTC))
        return Group(head, *rows, Text(tail, style="bright_black"))


def unit_name(event: "WatchEvent") -> str:
    """Return `task`, or `task[3]` for an item."""
    return event.task if event.item < 0 else f"{event.task}[{event.item}]"


def table_rows(shown: "list[TaskLine]", width: int, now: datetime) -> "list[Text]":
    """Return a line per task in aligned columns; only the last column is ever cut."""
    from rich.text import Text

    cells = []
    for line in shown:
        status = line.status.lower().replace("_", " ")
        if line.attempt > 1:
            status += f" (attempt {line.attempt})"
        cells.append((line, compact(line.name.encode(), NAME_CHARS_MAX), status, line.span(now)))
    name_width = max((len(name) for _, name, _, _ in cells), default=0)
    status_width = max((len(status) for _, _, status, _ in cells), default=0)
    span_width = max((len(span) for _, _, _, span in cells), default=0)
    left = width - name_width - status_width - span_width - 9
    rows = []
    for line, name, status, span in cells:
        style = COLOURS.get(line.status, "")
        row = Text(no_wrap=True, overflow="crop")
        row.append(f"{MARKS.get(line.status, '?')} ", style=style)
        row.append(f"{name:<{name_width}}  ")
        row.append(f"{status:<{status_width}}  ", style=style)
        row.append(f"{span:>{span_width}}  ", style="bright_black")
        row.append(compact(line.detail().encode(), max(0, left)), style="bright_black")
        rows.append(row)
    return rows


class PlainProgress:
    """A line per change, for pipes and logs; partial outputs are counted once a second."""

    def __init__(self) -> None:
        self.board = Board()
        self._told: dict[str, float] = {}
        # The last words about the execution (task ""), each task and each item.
        self._last: dict[tuple[str, int], tuple[str, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        pass

    def begin(self, execution: "Execution") -> None:
        """Name the execution."""
        self.board.begin(execution)
        self._say(None, execution.execution_id, counted(len(self.board.lines), "task"))

    def apply(self, event: "WatchEvent") -> None:
        """Print a line when something changed."""
        line = self.board.apply(event)
        if event.type == "execution":
            # An execution that begins to fail says RUNNING once more: nothing new to people.
            if self._news(event, self.board.phase):
                words = event.status.lower().replace("_", " ")
                if self.board.phase:
                    words = f"{words}: {self.board.phase}"
                self._say(event.time, self.board.execution, words)
        elif line is None:
            return
        elif event.type == "task":
            words = self._words(event, line)
            if self._news(event, words):
                self._say(event.time, unit_name(event), words)
        elif event.type == "log" and not is_debug(event):
            self._say(event.time, unit_name(event), f"log: {log_text(event)}")
        elif event.type == "partial" and self._due(event.task):
            self._say(event.time, unit_name(event), f"partial #{line.partials}: {line.text}")

    def _news(self, event: "WatchEvent", words: str) -> bool:
        """Whether the event says more than the last one about the same thing."""
        last = self._last.get((event.task, event.item), ("", ""))
        self._last[event.task, event.item] = (event.status, words)
        return last[0] != event.status or (bool(words) and words != last[1])

    @staticmethod
    def _words(event: "WatchEvent", line: TaskLine) -> str:
        words = [event.status.lower().replace("_", " ")]
        if event.attempt > 1:
            words.append(f"(attempt {event.attempt})")
        text, _ = task_words(event)
        if event.item < 0 and line.ended:
            if line.span(line.ended):
                words.append(f"in {line.span(line.ended)}")
            text = line.text
        if text:
            words.append(f"- {text}")
        return " ".join(words)

    def _due(self, task: str) -> bool:
        now = time.monotonic()
        if now - self._told.get(task, 0.0) < PARTIAL_LINE_S:
            return False
        self._told[task] = now
        return True

    @staticmethod
    def _say(when: datetime | None, name: str, text: str) -> None:
        stamp = (when or datetime.now(UTC)).astimezone().strftime("%H:%M:%S")
        click.echo(f"{stamp} {name} {text}")


def progress_view() -> Progress:
    """Return the view that fits where stdout goes."""
    if sys.stdout.isatty():
        return LiveProgress()
    return PlainProgress()
